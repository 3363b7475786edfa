"""`opdsl build --target triton`: sources, GPU code, a manifest, and a launcher in C for programs without Python."""
