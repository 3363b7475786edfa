"""Ahead of time: kernels compiled into a library that needs neither Python nor OpDSL. docs/build.md is its page."""
