"""Arguments, launch, compile cache, toolchain, knobs."""
