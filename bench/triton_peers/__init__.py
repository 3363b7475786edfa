"""Triton kernels written by hand, from the algorithms, as a good Triton author would: what ours are measured beside.

`all.PEERS` has them by the names of the operators. They work on torch tensors; Triton is imported with them.
"""
