"""The names of `import opdsl as od`. Made by `pytest tests/null/test_public_interface.py --update-golden`."""

from typing import Any

from opdsl.lang.values import Operand
from opdsl.ir.types import bf16 as bf16
from opdsl.ir.types import bool_ as bool
from opdsl.ir.types import f16 as f16
from opdsl.ir.types import f32 as f32
from opdsl.ir.types import f64 as f64
from opdsl.ir.types import f8e4m3 as f8e4m3
from opdsl.ir.types import f8e5m2 as f8e5m2
from opdsl.ir.types import i16 as i16
from opdsl.ir.types import i32 as i32
from opdsl.ir.types import i64 as i64
from opdsl.ir.types import i8 as i8
from opdsl.ir.types import u16 as u16
from opdsl.ir.types import u32 as u32
from opdsl.ir.types import u64 as u64
from opdsl.ir.types import u8 as u8
from opdsl.lang.annotations import Tensor as Tensor
from opdsl.lang.annotations import constexpr as constexpr
from opdsl.lang.builtins_control import assert_ as assert_
from opdsl.lang.builtins_control import parallel as parallel
from opdsl.lang.builtins_control import pipelined as pipelined
from opdsl.lang.builtins_control import print_ as print
from opdsl.lang.builtins_control import static_assert as static_assert
from opdsl.lang.builtins_control import static_print as static_print
from opdsl.lang.builtins_control import unrolled as unrolled
from opdsl.lang.builtins_math import abs_ as abs
from opdsl.lang.builtins_math import atan2 as atan2
from opdsl.lang.builtins_math import cast as cast
from opdsl.lang.builtins_math import cdiv as cdiv
from opdsl.lang.builtins_math import clamp as clamp
from opdsl.lang.builtins_math import fma as fma
from opdsl.lang.builtins_math import inf as inf
from opdsl.lang.builtins_math import isfinite as isfinite
from opdsl.lang.builtins_math import isinf as isinf
from opdsl.lang.builtins_math import isnan as isnan
from opdsl.lang.builtins_math import logical_not as logical_not
from opdsl.lang.builtins_math import maximum as maximum
from opdsl.lang.builtins_math import minimum as minimum
from opdsl.lang.builtins_math import nan as nan
from opdsl.lang.builtins_math import pi as pi
from opdsl.lang.builtins_math import pow_ as pow
from opdsl.lang.builtins_math import where as where
from opdsl.lang.builtins_memory import copy_in as copy_in
from opdsl.lang.builtins_memory import copy_out as copy_out
from opdsl.lang.builtins_memory import rand as rand
from opdsl.lang.builtins_memory import rand_bits as rand_bits
from opdsl.lang.builtins_memory import randint as randint
from opdsl.lang.builtins_memory import randn as randn
from opdsl.lang.builtins_reduce import all_ as all
from opdsl.lang.builtins_reduce import any_ as any
from opdsl.lang.builtins_reduce import argmax as argmax
from opdsl.lang.builtins_reduce import argmin as argmin
from opdsl.lang.builtins_reduce import argsort as argsort
from opdsl.lang.builtins_reduce import cummax as cummax
from opdsl.lang.builtins_reduce import cummin as cummin
from opdsl.lang.builtins_reduce import cumprod as cumprod
from opdsl.lang.builtins_reduce import cumsum as cumsum
from opdsl.lang.builtins_reduce import dot as dot
from opdsl.lang.builtins_reduce import max_ as max
from opdsl.lang.builtins_reduce import mean as mean
from opdsl.lang.builtins_reduce import min_ as min
from opdsl.lang.builtins_reduce import prod as prod
from opdsl.lang.builtins_reduce import reduce_ as reduce
from opdsl.lang.builtins_reduce import scan as scan
from opdsl.lang.builtins_reduce import sort as sort
from opdsl.lang.builtins_reduce import sum_ as sum
from opdsl.lang.builtins_reduce import topk as topk
from opdsl.lang.builtins_shape import arange as arange
from opdsl.lang.builtins_shape import broadcast_to as broadcast_to
from opdsl.lang.builtins_shape import concat as concat
from opdsl.lang.builtins_shape import expand_dims as expand_dims
from opdsl.lang.builtins_shape import flip as flip
from opdsl.lang.builtins_shape import full as full
from opdsl.lang.builtins_shape import ones as ones
from opdsl.lang.builtins_shape import reshape as reshape
from opdsl.lang.builtins_shape import split as split
from opdsl.lang.builtins_shape import squeeze as squeeze
from opdsl.lang.builtins_shape import stack as stack
from opdsl.lang.builtins_shape import transpose as transpose
from opdsl.lang.builtins_shape import zeros as zeros
from opdsl.lang.config import Config as Config
from opdsl.lang.function import function as function
from opdsl.lang.kernel import kernel as kernel
from opdsl.runtime.memory import empty as empty
from opdsl.runtime.threads import get_num_threads as get_num_threads
from opdsl.runtime.threads import set_num_threads as set_num_threads
from opdsl.support.errors import ArgumentError as ArgumentError
from opdsl.support.errors import CompileError as CompileError
from opdsl.support.errors import DTypeError as DTypeError
from opdsl.support.errors import LaunchError as LaunchError
from opdsl.support.errors import OpdslError as OpdslError
from opdsl.support.errors import ShapeError as ShapeError
from opdsl.support.errors import UsageError as UsageError
from opdsl.support.knobs import knobs as knobs

__all__ = [
    "ArgumentError",
    "CompileError",
    "Config",
    "DTypeError",
    "LaunchError",
    "OpdslError",
    "ShapeError",
    "Tensor",
    "UsageError",
    "abs",
    "acos",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asin",
    "assert_",
    "atan",
    "atan2",
    "bf16",
    "bool",
    "broadcast_to",
    "cast",
    "cdiv",
    "ceil",
    "clamp",
    "concat",
    "constexpr",
    "copy_in",
    "copy_out",
    "cos",
    "cosh",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "dot",
    "empty",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "f16",
    "f32",
    "f64",
    "f8e4m3",
    "f8e5m2",
    "flip",
    "floor",
    "fma",
    "full",
    "function",
    "get_num_threads",
    "i16",
    "i32",
    "i64",
    "i8",
    "inf",
    "isfinite",
    "isinf",
    "isnan",
    "kernel",
    "knobs",
    "lerp",
    "log",
    "log10",
    "log1p",
    "log2",
    "logaddexp",
    "logical_not",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "nan",
    "ones",
    "parallel",
    "pi",
    "pipelined",
    "pow",
    "print",
    "prod",
    "rand",
    "rand_bits",
    "randint",
    "randn",
    "reduce",
    "reshape",
    "round",
    "rsqrt",
    "scan",
    "set_num_threads",
    "sigmoid",
    "sin",
    "sinc",
    "sinh",
    "sort",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "static_assert",
    "static_print",
    "sum",
    "tan",
    "tanh",
    "topk",
    "transpose",
    "trunc",
    "u16",
    "u32",
    "u64",
    "u8",
    "unrolled",
    "where",
    "zeros",
]

def acos(x: Operand) -> Any: ...
def asin(x: Operand) -> Any: ...
def atan(x: Operand) -> Any: ...
def ceil(x: Operand) -> Any: ...
def cos(x: Operand) -> Any: ...
def cosh(x: Operand) -> Any: ...
def erf(x: Operand) -> Any: ...
def erfc(x: Operand) -> Any: ...
def exp(x: Operand) -> Any: ...
def exp2(x: Operand) -> Any: ...
def expm1(x: Operand) -> Any: ...
def floor(x: Operand) -> Any: ...
def lerp(a: Operand, b: Operand, weight: Operand) -> Any: ...
def log(x: Operand) -> Any: ...
def log10(x: Operand) -> Any: ...
def log1p(x: Operand) -> Any: ...
def log2(x: Operand) -> Any: ...
def logaddexp(x: Operand, y: Operand) -> Any: ...
def round(x: Operand) -> Any: ...
def rsqrt(x: Operand) -> Any: ...
def sigmoid(x: Operand) -> Any: ...
def sin(x: Operand) -> Any: ...
def sinc(x: Operand) -> Any: ...
def sinh(x: Operand) -> Any: ...
def sqrt(x: Operand) -> Any: ...
def tan(x: Operand) -> Any: ...
def tanh(x: Operand) -> Any: ...
def trunc(x: Operand) -> Any: ...
