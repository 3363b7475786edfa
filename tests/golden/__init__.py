"""Golden texts: what kernels become on every target, compared with what stands in the repository or at a revision."""
