"""The tile IR: typed SSA with regions. `docs/ir.md` is the one-page description."""
