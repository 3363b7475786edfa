"""The kernel language: what a kernel author imports, and the front end that turns Python into the tile IR."""
