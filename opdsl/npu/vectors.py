"""The builder's methods for the vector pipe.

One instruction does up to 255 repeats of 256 bytes (8 blocks of 32). `blocks` and `repeats` are the strides of (dst,
src0, src1), in 32-byte blocks, between the blocks of a repeat and between repeats. Which elements take part is said
by one of

- nothing: all of every repeat;
- `mask=n`: the first n of every repeat;
- `mask=(low, high)`: those of every repeat whose bit is set in two 64-bit words;
- `count=n`: the first n of all, over as many repeats as that takes (counter mode; `repeat` is not used).

Casts work on as many elements a repeat as 256 bytes of the wider type hold; unless given, the strides between their
repeats leave no gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opdsl.ir.types import DTYPES
from opdsl.npu.addresses import Local
from opdsl.npu.scalars import Scalar, ScalarLike

Mask = ScalarLike | tuple[ScalarLike, ScalarLike]
Strides = tuple[ScalarLike, ...]


class VectorInstructions:
    if TYPE_CHECKING:

        def issue(self, name: str, on_pipe: Any = None, **operands: Any) -> Scalar | None: ...
        def error(self, message: str, help: str = "") -> Exception: ...

    def vector(
        self,
        name: str,
        dst: Local,
        src0: Local | None = None,
        src1: Local | None = None,
        src2: Local | None = None,
        *,
        scalar: ScalarLike = 0,
        option: str | None = None,
        count: ScalarLike | None = None,
        mask: Mask | None = None,
        repeat: ScalarLike = 1,
        blocks: Strides = (1, 1, 1),
        repeats: Strides | None = None,
    ) -> Scalar | None:
        """Any vector instruction with repeats, by its name in the table."""
        operands: dict[str, Any] = {"dst": dst, "scalar": scalar, "repeat": repeat}
        for field, place in (("src0", src0), ("src1", src1), ("src2", src2)):
            if place is not None:
                operands[field] = place
        if option is not None:
            operands["option"] = option
        if count is not None:
            if mask is not None:
                raise self.error(f"{name} takes either count or mask")
            operands |= {"mask_mode": "counter", "mask0": count}
        elif isinstance(mask, tuple):
            operands |= {"mask_mode": "bits", "mask0": _signed(mask[0]), "mask1": _signed(mask[1])}
        elif mask is not None:
            operands["mask0"] = mask
        else:
            wide = max(DTYPES[p.dtype].bytes for p in (dst, src0) if p is not None) if name == "cast" else 0
            operands["mask0"] = 256 // (wide or DTYPES[(src0 or dst).dtype].bytes)
        if repeats is None:  # repeats that follow each other without gaps
            places = (dst, src0, src1)
            widest = max(DTYPES[p.dtype].bytes for p in (dst, src0) if p is not None)
            mixed = name in ("cast", "axpy")
            repeats = tuple(8 * DTYPES[p.dtype].bytes // widest if p and mixed else 8 for p in places)
        for index, field in enumerate(("dst", "src0", "src1")):
            if index < len(blocks):
                operands[f"{field}_blk_stride"] = blocks[index]
            if index < len(repeats):
                operands[f"{field}_rep_stride"] = repeats[index]
        return self.issue(name, **operands)

    # ---- one source

    def exp(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("exp", dst, src, **how)

    def ln(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("ln", dst, src, **how)

    def abs(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("abs", dst, src, **how)

    def reciprocal(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("reciprocal", dst, src, **how)

    def sqrt(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("sqrt", dst, src, **how)

    def rsqrt(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("rsqrt", dst, src, **how)

    def relu(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("relu", dst, src, **how)

    def not_(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("not_", dst, src, **how)

    def copy(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("copy", dst, src, **how)

    def cast(self, dst: Local, src: Local, round_mode: str = "none", **how: Any) -> None:
        """Cast. `none` rounds as `rint` where it has to. Beyond the range of an integer: its nearest."""
        self.vector("cast", dst, src, option=round_mode, **how)

    # ---- two sources

    def add(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("add", dst, src0, src1, **how)

    def sub(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("sub", dst, src0, src1, **how)

    def mul(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("mul", dst, src0, src1, **how)

    def div(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("div", dst, src0, src1, **how)

    def max(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("max", dst, src0, src1, **how)

    def min(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("min", dst, src0, src1, **how)

    def and_(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("and_", dst, src0, src1, **how)

    def or_(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("or_", dst, src0, src1, **how)

    def add_relu(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("add_relu", dst, src0, src1, **how)

    def sub_relu(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("sub_relu", dst, src0, src1, **how)

    def mul_add_dst(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        """dst += src0 * src1"""
        self.vector("mul_add_dst", dst, src0, src1, **how)

    def fused_mul_add(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        """dst = src0 * dst + src1"""
        self.vector("fused_mul_add", dst, src0, src1, **how)

    def fused_mul_add_relu(self, dst: Local, src0: Local, src1: Local, **how: Any) -> None:
        self.vector("fused_mul_add_relu", dst, src0, src1, **how)

    # ---- a source and a scalar

    def adds(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("adds", dst, src, scalar=scalar, **how)

    def muls(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("muls", dst, src, scalar=scalar, **how)

    def maxs(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("maxs", dst, src, scalar=scalar, **how)

    def mins(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("mins", dst, src, scalar=scalar, **how)

    def leaky_relu(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("leaky_relu", dst, src, scalar=scalar, **how)

    def shift_left(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("shift_left", dst, src, scalar=scalar, **how)

    def shift_right(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("shift_right", dst, src, scalar=scalar, **how)

    def axpy(self, dst: Local, src: Local, scalar: ScalarLike, **how: Any) -> None:
        """dst += src * scalar"""
        self.vector("axpy", dst, src, scalar=scalar, **how)

    def duplicate(self, dst: Local, scalar: ScalarLike, **how: Any) -> None:
        self.vector("duplicate", dst, scalar=scalar, **how)

    def create_vec_index(self, dst: Local, first: ScalarLike, **how: Any) -> None:
        """first, first + 1, ..."""
        self.vector("create_vec_index", dst, scalar=first, **how)

    # ---- comparisons

    def compare(self, dst: Local, src0: Local, src1: Local, mode: str, **how: Any) -> None:
        """A bit for each element, packed into dst (u8), repeat after repeat without gaps."""
        self.vector("compare", dst, src0, src1, option=mode, **how)

    def compare_scalar(self, dst: Local, src: Local, scalar: ScalarLike, mode: str, **how: Any) -> None:
        self.vector("compare_scalar", dst, src, scalar=scalar, option=mode, **how)

    def select(
        self,
        dst: Local,
        bits: Local,
        src0: Local,
        src1: Local | ScalarLike,
        mode: str = "mask_tensors_long",
        **how: Any,
    ) -> None:
        """src0 where the bit is set, else src1, a tensor or (mode `mask_scalar`) a number."""
        if isinstance(src1, Local):
            self.vector("select", dst, src0, src1, bits, option=mode, **how)
        else:
            self.vector("select", dst, src0, None, bits, scalar=src1, option="mask_scalar", **how)

    # ---- reductions

    def whole_reduce_sum(self, dst: Local, src: Local, **how: Any) -> None:
        """One element a repeat; `repeats[0]` is in elements of dst (1: one after the other)."""
        self.vector("whole_reduce_sum", dst, src, **{"repeats": (1, 8), **how})

    def whole_reduce_max(self, dst: Local, src: Local, order: str = "value_index", **how: Any) -> None:
        """The largest and the first index of it (an integer of the element's width), in this order; `repeats[0]` counts
        results."""
        self.vector("whole_reduce_max", dst, src, option=order, **{"repeats": (1, 8), **how})

    def whole_reduce_min(self, dst: Local, src: Local, order: str = "value_index", **how: Any) -> None:
        self.vector("whole_reduce_min", dst, src, option=order, **{"repeats": (1, 8), **how})

    def block_reduce_sum(self, dst: Local, src: Local, **how: Any) -> None:
        """Eight elements a repeat, one for each block; `repeats[0]` in units of eight elements."""
        self.vector("block_reduce_sum", dst, src, **{"repeats": (1, 8), **how})

    def block_reduce_max(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("block_reduce_max", dst, src, **{"repeats": (1, 8), **how})

    def block_reduce_min(self, dst: Local, src: Local, **how: Any) -> None:
        self.vector("block_reduce_min", dst, src, **{"repeats": (1, 8), **how})

    def pair_reduce_sum(self, dst: Local, src: Local, **how: Any) -> None:
        """Half a repeat of elements a repeat; `repeats[0]` in units of 128 bytes."""
        self.vector("pair_reduce_sum", dst, src, **{"repeats": (1, 8), **how})

    # ---- layout, gather, sort

    def brcb(
        self, dst: Local, src: Local, *, repeat: ScalarLike = 1, dst_blk: ScalarLike = 1, dst_rep: ScalarLike = 8
    ) -> None:
        """Each repeat spreads the next 8 elements of src over a block of dst each."""
        self.vector("brcb", dst, src, repeat=repeat, blocks=(dst_blk,), repeats=(dst_rep,))

    def gather(self, dst: Local, src: Local, offsets: Local, base: ScalarLike = 0, **how: Any) -> None:
        """dst[i] = the element at byte base + offsets[i] (u32) of src."""
        self.vector("gather", dst, src, offsets, scalar=base, **how)

    def gatherb(
        self,
        dst: Local,
        src: Local,
        offsets: Local,
        *,
        repeat: ScalarLike = 1,
        dst_blk: ScalarLike = 1,
        dst_rep: ScalarLike = 8,
    ) -> None:
        """Each repeat takes 8 offsets (u32, multiples of 32) and copies a block for each."""
        self.vector("gatherb", dst, src, offsets, repeat=repeat, blocks=(dst_blk,), repeats=(dst_rep,))

    def scatter(self, dst: Local, src: Local, offsets: Local, base: ScalarLike = 0, **how: Any) -> None:
        """The element at byte base + offsets[i] (u32) of dst = src[i]."""
        self.vector("scatter", dst, src, offsets, scalar=base, **how)

    def gather_mask(self, dst: Local, src: Local, pattern: Local | str, **how: Any) -> Scalar:
        """The elements of src whose bit is set, one after the other; their number is the result (the scalar unit
        waits for it). `pattern`: bits, or odd, even, first4, second4, third4, fourth4, all."""
        tensor = isinstance(pattern, Local)
        result = self.vector(
            "gather_mask",
            dst,
            src,
            pattern if isinstance(pattern, Local) else None,
            option="tensor" if tensor else str(pattern),
            **how,
        )
        assert result is not None
        return result

    def sort32(self, dst: Local, src: Local, indices: Local, *, repeat: ScalarLike) -> None:
        """Every 32 elements of src with their u32 of indices, largest first, as pairs of 8 bytes (f16: two bytes
        unused)."""
        self.vector("sort32", dst, src, indices, repeat=repeat)

    def mrg_sort(self, dst: Local, *lists: tuple[Local, ScalarLike], repeat: ScalarLike = 1) -> None:
        """Merges two to four lists of pairs, each sorted with the largest first; of equals the earlier list's comes
        first."""
        operands: dict[str, Any] = {}
        for index, (place, length) in enumerate(lists):
            operands |= {f"src{index}": place, f"length{index}": length}
        self.issue("mrg_sort", dst=dst, repeat=repeat, **operands)

    def transpose(self, dst: Local, src: Local) -> None:
        """A 16 x 16 matrix of 16-bit elements."""
        self.issue("transpose", dst=dst, src=src)

    def trans_data_to_5hd(
        self,
        dst: Local,
        src: Local,
        *,
        dst_step: ScalarLike,
        src_step: ScalarLike,
        repeat: ScalarLike = 1,
        dst_rep_stride: ScalarLike = 0,
        src_rep_stride: ScalarLike = 0,
    ) -> None:
        """TransDataTo5HD: 16 blocks of src, `src_step` bytes apart, as rows; their columns become blocks of dst,
        `dst_step` bytes apart. 16-bit: 16 x 16; 32-bit: 16 rows of 8, where column j fills blocks 2j and 2j + 1. The
        hardware takes 16 free addresses; this emulator takes evenly spaced ones."""
        self.issue(
            "trans_data_to_5hd",
            dst=dst,
            src=src,
            dst_step=dst_step,
            src_step=src_step,
            repeat=repeat,
            dst_rep_stride=dst_rep_stride,
            src_rep_stride=src_rep_stride,
        )


def _signed(word: ScalarLike) -> ScalarLike:
    """A 64-bit word as the i64 with the same bits."""
    return word - (1 << 64) if isinstance(word, int) and word >= 1 << 63 else word
