"""The one table of instructions: fields, the pipe, and which dtypes each family of chips takes.

The builder checks against it, the printer prints by it, and the encoder writes operands in the order of `fields`;
csrc/npu/instructions.h lists the same names in the same order of fields (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from opdsl.ir.types import DTYPES
from opdsl.npu.statements import Pipe

FieldKind = Literal["memory", "integer", "float", "choice", "text"]


@dataclass(frozen=True)
class Field:
    """`memory` takes three slots (space, dtype, offset), all others one. A `choice` is the index of a word."""

    name: str
    kind: FieldKind
    default: int | float | str | None = None
    choices: tuple[str, ...] = ()


def memory(name: str, optional: bool = False) -> Field:
    return Field(name, "memory", 0 if optional else None)


def integer(name: str, default: int | None = None) -> Field:
    return Field(name, "integer", default)


def choice(name: str, *choices: str) -> Field:
    return Field(name, "choice", choices[0], choices)


@dataclass(frozen=True)
class Instruction:
    name: str
    pipe: Pipe | Literal["path"]
    """`path`: what moves between which memories decides (opdsl/npu/paths.py)."""
    fields: tuple[Field, ...]
    dtypes: frozenset[str] = frozenset()
    """Of the source, on split chips; empty: any."""
    coupled_dtypes: frozenset[str] = frozenset()
    summary: str = ""


ROUND_MODES = ("none", "rint", "floor", "ceil", "round", "trunc", "odd")
COMPARE_MODES = ("lt", "gt", "eq", "le", "ge", "ne")
MASK_MODES = ("norm", "bits", "counter")
QUANT_MODES = ("none", "f32_to_f16", "f32_to_bf16", "dequant_f16", "requant_s8", "requant_u8", "quant_s8", "quant_u8")
ATOMIC_MODES = ("none", "add", "max", "min")
REDUCE_ORDERS = ("value_index", "index_value", "only_value", "only_index")
SELECT_MODES = ("mask_tensors", "mask_scalar", "mask_tensors_long")
PIPE_CHOICES = ("S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX", "ALL")

EVENTS = (
    "MTE2_MTE1",
    "MTE1_MTE2",
    "MTE1_M",
    "M_MTE1",
    "MTE2_V",
    "V_MTE2",
    "MTE3_V",
    "V_MTE3",
    "M_V",
    "V_M",
    "MTE3_MTE1",
    "MTE1_MTE3",
    "MTE1_V",
    "MTE2_M",
    "M_MTE2",
    "V_MTE1",
    "M_FIX",
    "FIX_M",
    "MTE3_MTE2",
    "MTE2_MTE3",
    "S_V",
    "V_S",
    "S_MTE2",
    "MTE2_S",
    "S_MTE3",
    "MTE3_S",
    "MTE2_FIX",
    "FIX_MTE2",
    "FIX_S",
    "M_S",
    "FIX_MTE3",
    "MTE1_FIX",
    "FIX_MTE1",
    "S_FIX",
    "MTE1_S",
    "S_MTE1",
    "S_M",
)
"""The pairs of pipes that have flags: source_destination. The last three are this emulator's; kernel_event.h of
hicann/asc-tools lists the others. V_V and FIX_FIX are `pipe_barrier`."""

_ANY_FLOAT = "f16 f32"
_NUMBERS = "f16 f32 i16 i32"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _vector(
    name: str, dtypes: str, summary: str, *, option: tuple[str, ...] = ("none",), coupled: str = ""
) -> Instruction:
    """Every vector instruction with repeats has the same fields; those that it does not use are absent or 0."""
    fields = (
        memory("dst"),
        memory("src0", optional=True),
        memory("src1", optional=True),
        memory("src2", optional=True),
        Field("scalar", "float", 0.0),
        choice("option", *option),
        choice("mask_mode", *MASK_MODES),
        integer("mask0", 0),
        integer("mask1", 0),
        integer("repeat", 1),
        integer("dst_blk_stride", 1),
        integer("src0_blk_stride", 1),
        integer("src1_blk_stride", 1),
        integer("dst_rep_stride", 8),
        integer("src0_rep_stride", 8),
        integer("src1_rep_stride", 8),
    )
    on_coupled = _set(coupled) if coupled else _set(dtypes) - {"bf16", "i64"}
    return Instruction(name, "V", fields, _set(dtypes), on_coupled, summary)


_TABLE = (
    # ---- data movement
    Instruction(
        "data_copy",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("block_count", 1),
            integer("block_len"),
            integer("src_stride", 0),
            integer("dst_stride", 0),
        ),
        summary="block_count bursts of block_len 32-byte blocks; the strides are the gaps between them, in blocks",
    ),
    Instruction(
        "data_copy_pad",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("block_count", 1),
            integer("block_len"),
            integer("src_stride", 0),
            integer("dst_stride", 0),
            integer("left_padding", 0),
            integer("right_padding", 0),
            Field("padding_value", "float", 0.0),
        ),
        summary="bursts of block_len bytes; gaps in bytes in GM, in blocks in UB; paddings in elements",
    ),
    Instruction(
        "data_copy_nd2nz",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("nd_num", 1),
            integer("n_value"),
            integer("d_value"),
            integer("src_nd_matrix_stride", 0),
            integer("src_d_value"),
            integer("dst_nz_c0_stride"),
            integer("dst_nz_n_stride", 1),
            integer("dst_nz_matrix_stride", 0),
        ),
        summary="n_value rows of d_value elements (src_d_value apart) into NZ fractals; columns are filled up with zeros",
    ),
    Instruction(
        "load_data",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("start_index", 0),
            integer("repeat_times", 1),
            integer("src_stride", 1),
            integer("dst_gap", 0),
            integer("transpose", 0),
        ),
        _set("f16 bf16 f32 i8 u8 i32"),
        _set("f16 f32 i8 u8"),
        summary="repeat_times fractals of 512 bytes, src_stride fractals apart, dst_gap left out; transpose: b16",
    ),
    Instruction(
        "load_data_transpose",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("start_index", 0),
            integer("repeat_times", 1),
            integer("src_stride", 1),
            integer("dst_gap", 0),
            integer("dst_frac_gap", 0),
        ),
        _set("f16 bf16 f32 i8 u8"),
        frozenset(),
        summary="square blocks (16 x 16 of b16, 16 x 16 of b32, 32 x 32 of b8), each transposed; strides in squares",
    ),
    Instruction(
        "load_data_3d",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("l1_h"),
            integer("l1_w"),
            integer("channel_size"),
            integer("k_extension"),
            integer("m_extension"),
            integer("k_start_pt", 0),
            integer("m_start_pt", 0),
            integer("stride_w", 1),
            integer("stride_h", 1),
            integer("filter_w", 1),
            integer("filter_h", 1),
            integer("dilation_filter_w", 1),
            integer("dilation_filter_h", 1),
            integer("pad_left", 0),
            integer("pad_right", 0),
            integer("pad_top", 0),
            integer("pad_bottom", 0),
            Field("pad_value", "float", 0.0),
            integer("en_transpose", 0),
        ),
        _set("f16 bf16 f32 i8 u8"),
        _set("f16 i8 u8"),
        summary="img2col of an NC1HWC0 image: rows m_start.. of (ho wo), columns k_start.. of (c1 kh kw c0)",
    ),
    Instruction(
        "init_const_value",
        "path",
        (
            memory("dst"),
            integer("repeat_times", 1),
            integer("block_num"),
            integer("dst_gap", 0),
            Field("value", "float", 0.0),
        ),
        summary="repeat_times runs of block_num blocks (32 bytes in L1, 512 in L0A and L0B) filled, dst_gap between them",
    ),
    # ---- the cube
    Instruction(
        "mmad",
        "M",
        (
            memory("dst"),
            memory("a"),
            memory("b"),
            memory("bias", optional=True),
            integer("m"),
            integer("n"),
            integer("k"),
            integer("init", 0),
            integer("unit_flag", 0),
            integer("hf32", 0),
        ),
        _set("f16 bf16 f32 i8 u8"),
        _set("f16 i8 u8"),
        summary="dst (NZ) = or += a (ZZ, m x k) times b (ZN, k x n); init 1: starts from 0, or from bias of n in BT",
    ),
    Instruction(
        "fixpipe",
        "path",
        (
            memory("dst"),
            memory("src"),
            integer("n_size"),
            integer("m_size"),
            integer("src_stride"),
            integer("dst_stride"),
            choice("quant_mode", *QUANT_MODES),
            Field("quant_scale", "float", 1.0),
            integer("relu", 0),
            integer("nz2nd", 1),
            integer("nd_num", 1),
            integer("src_nd_stride", 0),
            integer("dst_nd_stride", 0),
            integer("unit_flag", 0),
        ),
        _set("f32 i32"),
        frozenset(),
        summary="L0C out, cast and relu on the way. src_stride: rows of the NZ block in L0C; dst_stride: elements of a row",
    ),
    Instruction(
        "data_copy_l0c",
        "V",
        (
            memory("dst"),
            memory("src"),
            integer("block_count", 1),
            integer("block_len"),
            integer("src_stride", 0),
            integer("dst_stride", 0),
            integer("relu", 0),
        ),
        frozenset(),
        _set("f32 i32 f16"),
        summary="coupled chips: L0C to UB, bursts of block_len 16x16 fractals, cast to dst's dtype",
    ),
    # ---- vector arithmetic
    *(
        _vector(name, dtypes, summary)
        for name, dtypes, summary in (
            ("exp", _ANY_FLOAT, "e to the power of src0"),
            ("ln", _ANY_FLOAT, "natural logarithm"),
            ("abs", _ANY_FLOAT, "absolute value"),
            ("reciprocal", _ANY_FLOAT, "1 / src0"),
            ("sqrt", _ANY_FLOAT, "square root"),
            ("rsqrt", _ANY_FLOAT, "1 / square root"),
            ("relu", "f16 f32 i32", "max(src0, 0)"),
            ("not_", "i16 u16", "bitwise not"),
            ("copy", "f16 bf16 f32 i16 u16 i32 u32", "src0"),
            ("add", _NUMBERS, "src0 + src1"),
            ("sub", _NUMBERS, "src0 - src1"),
            ("mul", _NUMBERS, "src0 * src1"),
            ("div", _ANY_FLOAT, "src0 / src1"),
            ("max", _NUMBERS, "the larger; NaN if one is"),
            ("min", _NUMBERS, "the smaller; NaN if one is"),
            ("and_", "i16 u16", "bitwise and"),
            ("or_", "i16 u16", "bitwise or"),
            ("add_relu", "f16 f32 i16", "max(src0 + src1, 0)"),
            ("sub_relu", "f16 f32 i16", "max(src0 - src1, 0)"),
            ("mul_add_dst", _ANY_FLOAT, "dst += src0 * src1, rounded once"),
            ("fused_mul_add", _ANY_FLOAT, "dst = src0 * dst + src1, rounded once"),
            ("fused_mul_add_relu", _ANY_FLOAT, "dst = max(src0 * dst + src1, 0)"),
            ("adds", _NUMBERS, "src0 + scalar"),
            ("muls", _NUMBERS, "src0 * scalar"),
            ("maxs", _NUMBERS, "max(src0, scalar)"),
            ("mins", _NUMBERS, "min(src0, scalar)"),
            ("leaky_relu", _ANY_FLOAT, "src0 if it is positive, else src0 * scalar"),
            ("shift_left", "i16 u16 i32 u32", "src0 << scalar"),
            ("shift_right", "i16 u16 i32 u32", "src0 >> scalar, arithmetic for signed"),
            ("axpy", _ANY_FLOAT, "dst += src0 * scalar; dst may be f32 with f16 src0"),
            ("duplicate", "f16 bf16 f32 i16 u16 i32 u32", "scalar, everywhere (dst's dtype)"),
            ("create_vec_index", "f16 f32 i16 i32", "scalar, scalar + 1, ... over the whole of dst"),
        )
    ),
    _vector("compare", "f16 f32 i32", "bits of src0 <option> src1, packed; i32: eq only", option=COMPARE_MODES),
    _vector("compare_scalar", "f16 f32 i32", "bits of src0 <option> scalar; i32: eq only", option=COMPARE_MODES),
    _vector(
        "select",
        "f16 f32",
        "src0 where the bit of src2 is set, else src1 (mask_tensors: the same bits for every repeat; "
        "mask_tensors_long: bits go on) or the scalar (mask_scalar: bits go on)",
        option=SELECT_MODES,
    ),
    _vector(
        "cast", "f16 bf16 f32 i8 u8 i16 i32 i64", "src0 in dst's dtype, rounded as option says", option=ROUND_MODES
    ),
    _vector("brcb", "f16 bf16 f32 i16 u16 i32 u32", "8 elements of src0 a repeat, each spread over a block of dst"),
    _vector("whole_reduce_sum", _ANY_FLOAT, "the sum of each repeat; dst_rep_stride in elements"),
    _vector("whole_reduce_max", _ANY_FLOAT, "the largest of each repeat, with its index", option=REDUCE_ORDERS),
    _vector("whole_reduce_min", _ANY_FLOAT, "the smallest of each repeat, with its index", option=REDUCE_ORDERS),
    _vector("block_reduce_sum", _ANY_FLOAT, "the sum of each block: 8 elements a repeat; dst_rep_stride in 8 elements"),
    _vector("block_reduce_max", _ANY_FLOAT, "the largest of each block"),
    _vector("block_reduce_min", _ANY_FLOAT, "the smallest of each block"),
    _vector("pair_reduce_sum", _ANY_FLOAT, "sums of neighbours: half a repeat of elements a repeat"),
    _vector("gather", "f16 bf16 f32 i16 u16 i32 u32", "elements at byte scalar + offset (src1: u32) of src0"),
    _vector("gatherb", "f16 bf16 f32 i16 u16 i32 u32", "blocks at byte offset (src1: u32) of src0"),
    _vector("scatter", "f16 f32 i16 u16 i32 u32", "elements of src0 to byte scalar + offset (src1: u32) of dst"),
    _vector(
        "gather_mask",
        "f16 bf16 f32 i16 u16 i32 u32",
        "elements whose bit is set, one after the other; the pattern is src1 or option; the result is their number",
        option=("tensor", "odd", "even", "first4", "second4", "third4", "fourth4", "all"),
    ),
    _vector(
        "sort32", _ANY_FLOAT, "32 elements a repeat with their u32 in src1, largest first, as 8-byte pairs", coupled="-"
    ),
    Instruction(
        "mrg_sort",
        "V",
        (
            memory("dst"),
            memory("src0"),
            memory("src1", optional=True),
            memory("src2", optional=True),
            memory("src3", optional=True),
            integer("length0"),
            integer("length1", 0),
            integer("length2", 0),
            integer("length3", 0),
            integer("repeat", 1),
        ),
        _set(_ANY_FLOAT),
        frozenset(),
        "merges up to four sorted lists of 8-byte pairs, largest first, equals from the lower list first",
    ),
    Instruction(
        "transpose",
        "V",
        (memory("dst"), memory("src")),
        _set("f16 i16 u16"),
        _set("f16 i16 u16"),
        "a 16 x 16 matrix of 16-bit elements",
    ),
    Instruction(
        "trans_data_to_5hd",
        "V",
        (
            memory("dst"),
            memory("src"),
            integer("dst_step"),
            integer("src_step"),
            integer("repeat", 1),
            integer("dst_rep_stride", 0),
            integer("src_rep_stride", 0),
        ),
        _set("f16 i16 u16 f32 i32 u32 bf16"),
        _set("f16 i16 u16"),
        "16 blocks src_step bytes apart, transposed into 16 blocks dst_step bytes apart; repeats in blocks",
    ),
    # ---- synchronisation
    Instruction(
        "set_flag", "path", (choice("event", *EVENTS), integer("event_id")), summary="by the first pipe of the event"
    ),
    Instruction(
        "wait_flag", "path", (choice("event", *EVENTS), integer("event_id")), summary="by the second pipe of the event"
    ),
    Instruction(
        "pipe_barrier", "path", (choice("pipe", *PIPE_CHOICES),), summary="what follows waits for what came before"
    ),
    Instruction(
        "cross_core_set_flag",
        "path",
        (choice("pipe", *PIPE_CHOICES), integer("mode"), integer("flag_id")),
        summary="after what came before. mode 0: all of this kind, 1: the vector cores of a block, 2: cube and vector",
    ),
    Instruction("cross_core_wait_flag", "S", (integer("flag_id"),), summary="holds up the scalar unit"),
    Instruction(
        "sync_all", "S", (integer("all_kinds", 0),), summary="all pipes of all cores of this kind (or of both)"
    ),
    # ---- the scalar unit and memory
    Instruction(
        "load_scalar", "S", (memory("src"),), summary="an element of GM (through the data cache) or UB into a register"
    ),
    Instruction(
        "store_scalar", "S", (memory("dst"), Field("value", "float")), summary="a register into an element of GM or UB"
    ),
    Instruction(
        "data_cache_clean_and_invalid", "S", (memory("dst"), integer("bytes", 0)), summary="0 bytes: all of the cache"
    ),
    Instruction(
        "set_atomic", "S", (choice("mode", *ATOMIC_MODES),), summary="how MTE3 and FIX write to GM from now on"
    ),
    # ---- debugging
    Instruction(
        "print_", "S", (Field("text", "text"), Field("value", "float", 0), integer("has_value", 0), integer("ends", 1))
    ),
    Instruction("assert_", "S", (integer("condition"), Field("text", "text"))),
    Instruction("trap", "S", (Field("text", "text"),)),
)

INSTRUCTIONS: dict[str, Instruction] = {instruction.name: instruction for instruction in _TABLE}

CASTS: frozenset[tuple[str, str]] = frozenset(
    (source, destination)
    for source, destinations in {
        "f16": "f32 i32 i16 i8 u8 f16",
        "f32": "f32 f16 bf16 i64 i32 i16",
        "bf16": "f32 i32",
        "u8": "f16",
        "i8": "f16",
        "i16": "f16 f32",
        "i32": "f32 i64 i16 f16",
        "i64": "i32 f32",
    }.items()
    for destination in destinations.split()
)
"""The casts of the vector unit of split chips (source, destination); coupled chips have those without bf16 and i64."""

RESULTS = {"load_scalar", "gather_mask"}
"""Instructions that write a register."""


def works_in_floats(name: str, operands: dict[str, Any]) -> bool:
    """Whether an instruction's `float` field is a float, or an integer as the elements that it works with."""
    if name == "print_":
        return bool(operands["has_value"] == 2)
    if name in ("gather", "scatter", "shift_left", "shift_right"):
        return False
    if name == "fixpipe":
        return True
    for field in ("src0", "dst"):
        address = operands.get(field)
        if address is not None:
            return DTYPES[address.dtype].is_float
    return True
