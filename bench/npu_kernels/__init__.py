"""Kernels written by hand in `opdsl.npu`, as well tuned as those whose measured times are published."""
