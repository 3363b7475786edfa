"""The target `triton`: tile IR -> readable Triton source -> GPU code. See docs/triton-target.md."""
