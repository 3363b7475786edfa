"""What people who come from Triton, NumPy or PyTorch write, and what OpDSL has for it: for the help line of an error."""

from __future__ import annotations

EQUIVALENTS = {
    "load": "od.copy_in(x[start : start + BLOCK]) reads a part of a tensor",
    "store": "od.copy_out(tile, x[start : start + BLOCK]) writes a part of a tensor",
    "program_id": "write the grid as a loop: for n in od.parallel(range(0, N, BLOCK))",
    "num_programs": "write the grid as a loop: for n in od.parallel(range(0, N, BLOCK))",
    "static_range": "od.unrolled(range(...)) is repeated while compiling",
    "range": "Python's range is enough: for k in range(0, K, BLOCK), or od.pipelined(range(...))",
    "atomic_add": 'od.copy_out(tile, x[ids], mode="add") adds to what is there',
    "atomic_max": 'od.copy_out(tile, x[ids], mode="max") keeps the larger one',
    "atomic_min": 'od.copy_out(tile, x[ids], mode="min") keeps the smaller one',
    "matmul": "od.dot(a, b) multiplies two tiles",
    "cat": "od.concat([a, b], axis) joins tiles",
    "concatenate": "od.concat([a, b], axis) joins tiles",
    "permute": "od.transpose(tile, axes) reorders dims",
    "trans": "od.transpose(tile) or tile.T",
    "view": "od.reshape(tile, shape)",
    "clip": "od.clamp(tile, low, high)",
    "select": "od.where(condition, a, b)",
    "empty": "od.zeros(shape, dtype) or od.full(shape, value, dtype); a tile has values from the start",
    "zeros_like": "od.zeros(tile.shape, tile.dtype)",
    "full_like": "od.full(tile.shape, value, tile.dtype)",
    "jit": "@od.kernel makes a kernel, @od.function a function that kernels call",
    "float16": "od.f16",
    "bfloat16": "od.bf16",
    "float32": "od.f32",
    "float64": "od.f64",
    "int8": "od.i8",
    "int16": "od.i16",
    "int32": "od.i32",
    "int64": "od.i64",
    "uint8": "od.u8",
    "debug_barrier": "none is needed: what a kernel writes and reads again is put in order by the compiler",
    "device_print": "od.print(...)",
    "device_assert": "od.assert_(condition, message)",
}


def equivalent(name: str) -> str:
    """The help line for a name that OpDSL does not have, or nothing."""
    return EQUIVALENTS.get(name, "")
