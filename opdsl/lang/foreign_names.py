"""What people who come from Triton, NumPy or PyTorch write, and what OpDSL has for it: for the help line of an error."""

from __future__ import annotations

from collections.abc import Iterable

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


_OPERATOR = "that is an operator on arrays, opdsl.ops.{0}; in a kernel, "
EQUIVALENTS |= {
    "relu": _OPERATOR.format("relu") + "write od.maximum(x, 0)",
    "softmax": _OPERATOR.format("softmax") + "write it with od.max, od.exp and od.sum along the row",
    "gelu": _OPERATOR.format("gelu") + "write 0.5 * x * (1 + od.erf(x / od.sqrt(2)))",
    "silu": _OPERATOR.format("silu") + "write x * od.sigmoid(x)",
    "layer_norm": _OPERATOR.format("layer_norm") + "write it with od.sum and od.rsqrt along the row",
    "reversed": "count down: range(n - 1, -1, -1)",
    "ones_like": "od.ones(tile.shape, tile.dtype)",
    "amax": "od.max(tile, axis)",
    "amin": "od.min(tile, axis)",
    "absolute": "od.abs(tile)",
    "power": "od.pow(a, b), or a ** b",
}

# What tiles are asked for as tensors of PyTorch or arrays of NumPy are.
ATTRIBUTES = {
    "to": "cast it: t.astype(od.f16), or od.f16(t)",
    "type": "cast it: t.astype(od.f16), or od.f16(t)",
    "float": "cast it: od.f32(t)",
    "half": "cast it: od.f16(t)",
    "int": "cast it: od.i32(t)",
    "item": "a kernel's scalars are read with od.copy_in(x[i]); a tile of one element is od.reshape(t, ())",
    "numpy": "results leave a kernel by od.copy_out only",
    "copy": "tiles are values: there is nothing to copy",
    "clone": "tiles are values: there is nothing to copy",
    "contiguous": "tiles have no strides: leave it out",
    "fill": "od.full(t.shape, value, t.dtype)",
    "masked_fill": "od.where(mask, value, t)",
    "view": "t.reshape(shape)",
    "permute": "od.transpose(t, axes)",
    "t": "t.T",
    "numel": "t.size",
    "dim": "t.ndim",
}

# Keywords of other languages, with the built-in's own; "" stands for every built-in.
KEYWORDS = {
    ("copy_in", "other"): "say pad=0; what lies outside of the tensor reads it",
    ("copy_in", "mask"): "no mask is needed: what lies outside reads `pad`; od.where chooses between tiles afterwards",
    ("copy_out", "mask"): "no mask is needed: what lies outside is not written; od.where chooses what is",
    ("", "dim"): "it is called axis",
    ("", "keepdim"): "it is called keepdims",
}


def keyword_help(builtin: str, keywords: Iterable[str]) -> str:
    """The help line for a call of a built-in with keywords of another language, or nothing."""
    found = (KEYWORDS.get((builtin, word)) or KEYWORDS.get(("", word)) for word in keywords)
    return next((help for help in found if help), "")


def equivalent(name: str) -> str:
    """The help line for a name that OpDSL does not have, or nothing."""
    return EQUIVALENTS.get(name, "")
