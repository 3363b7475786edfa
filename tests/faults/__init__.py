"""Fault injection into compiled kernels: what is left out of the order of their pipes must be found out."""
