"""A differential fuzzer: generated kernels on the CPU target against the interpreter. `python -m tests.fuzz --help`."""
