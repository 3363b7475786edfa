"""`opdsl bench --target triton`: kernels in the language beside PyTorch and hand-written Triton, on a GPU."""
