"""What every layer uses and what depends on none: errors, knobs, the cache, the toolchain, digests of OpDSL's files."""
