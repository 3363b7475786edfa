"""A kernel language and operator library: one source for CPUs, GPUs and an emulated NPU."""
