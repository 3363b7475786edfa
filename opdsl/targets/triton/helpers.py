"""Helper functions that generated files may contain: real Triton code, copied there as text where it is used.

Importing this module needs Triton; `helpers_text.py` reads it as text.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _multiply(a, b):
    return a * b


@triton.jit
def _maximum(a, b):
    """The greater of two floats; NaN if one is NaN."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _minimum(a, b):
    """The lesser of two floats; NaN if one is NaN."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _integer_maximum(a, b):
    return tl.maximum(a, b)


@triton.jit
def _integer_minimum(a, b):
    return tl.minimum(a, b)


@triton.jit
def _argmax(value, place, other, other_place):
    """The greater of two floats and its place: NaN before all, the first of equals."""
    equal = (value == other) | ((value != value) & (other != other))
    take = (value > other) | ((value != value) & (other == other)) | (equal & (place < other_place))
    return tl.where(take, value, other), tl.where(take, place, other_place)


@triton.jit
def _argmin(value, place, other, other_place):
    """The lesser of two floats and its place: NaN before all, the first of equals."""
    equal = (value == other) | ((value != value) & (other != other))
    take = (value < other) | ((value != value) & (other == other)) | (equal & (place < other_place))
    return tl.where(take, value, other), tl.where(take, place, other_place)


@triton.jit
def _integer_argmax(value, place, other, other_place):
    take = (value > other) | ((value == other) & (place < other_place))
    return tl.where(take, value, other), tl.where(take, place, other_place)


@triton.jit
def _integer_argmin(value, place, other, other_place):
    take = (value < other) | ((value == other) & (place < other_place))
    return tl.where(take, value, other), tl.where(take, place, other_place)


@triton.jit
def _floor_div(a, b):
    """a // b rounded down, and 0 where b is 0."""
    divisor = tl.where(b == 0, 1, b)
    quotient = a // divisor
    rest = a - quotient * divisor
    quotient = tl.where((rest != 0) & ((rest < 0) != (divisor < 0)), quotient - 1, quotient)
    return tl.where(b == 0, 0, quotient)


@triton.jit
def _floor_mod(a, b):
    """a - floor(a / b) * b, and 0 where b is 0."""
    divisor = tl.where(b == 0, 1, b)
    rest = a - (a // divisor) * divisor
    rest = tl.where((rest != 0) & ((rest < 0) != (divisor < 0)), rest + divisor, rest)
    return tl.where(b == 0, 0, rest)


@triton.jit
def _unsigned_div(a, b):
    """a // b, and 0 where b is 0."""
    return tl.where(b == 0, 0, a // tl.where(b == 0, 1, b))


@triton.jit
def _unsigned_mod(a, b):
    """a % b, and 0 where b is 0."""
    return tl.where(b == 0, 0, a % tl.where(b == 0, 1, b))


@triton.jit
def _float_floordiv(a, b):
    """floor(a / b) by way of the exact remainder, as NumPy does."""
    rest = libdevice.fmod(a, b)
    quotient = (a - rest) / b
    quotient = tl.where((rest != 0) & ((b < 0) != (rest < 0)), quotient - 1, quotient)
    whole = tl.floor(quotient)
    whole = tl.where(quotient - whole > 0.5, whole + 1, whole)
    return tl.where(b == 0, a / b, tl.where(quotient == 0, 0 * (a / b), whole))


@triton.jit
def _float_mod(a, b):
    """a - floor(a / b) * b, exactly; it has the sign of b."""
    rest = libdevice.fmod(a, b)
    signed = tl.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)
    return tl.where((rest == 0) & (b == b) & (b != 0), tl.where(b < 0, -tl.abs(rest), tl.abs(rest)), signed)


@triton.jit
def _iterations(start, stop, step):
    """How often range(start, stop, step) iterates."""
    up = (stop - start + step - 1) // tl.where(step > 0, step, 1)
    down = (start - stop - step - 1) // tl.where(step < 0, -step, 1)
    return tl.where(step > 0, tl.where(start < stop, up, 0), tl.where((step < 0) & (start > stop), down, 0))


@triton.jit
def _float_keys(x, BITS: tl.constexpr):
    """Integers that order as the floats do: both zeros are equal, every NaN is the greatest."""
    bits = tl.where(x == 0, 0.0, x).to(x.dtype).to(BITS, bitcast=True)
    lowest = (bits * 0 + 1) << (BITS.primitive_bitwidth - 1)
    largest = ~lowest
    keys = tl.where(bits < 0, bits ^ largest, bits)
    return tl.where(x != x, largest, keys)


@triton.jit
def _shift_left(a, count, BITS: tl.constexpr):
    """a << count, and 0 where the count is not below the width."""
    valid = (count >= 0) & (count < BITS)
    return tl.where(valid, a << tl.where(valid, count, 0), 0)


@triton.jit
def _shift_right(a, count, BITS: tl.constexpr):
    """a >> count; 0 (of a negative number -1) where the count is not below the width."""
    valid = (count >= 0) & (count < BITS)
    return tl.where(valid, a >> tl.where(valid, count, 0), tl.where(a < 0, -1, 0).to(a.dtype))


@triton.jit
def _integer_power(base, exponent):
    """base to the exponent by squaring, wrapping; 0 where the exponent is negative."""
    zero = base * 0 + exponent * 0
    result = zero + 1
    square = zero + base
    rest = zero + tl.where(exponent < 0, 0, exponent)
    for _ in range(base.dtype.primitive_bitwidth):
        result = tl.where((rest & 1) != 0, result * square, result)
        square = square * square
        rest = rest >> 1
    return tl.where(exponent < 0, 0, result)


@triton.jit
def _philox_32(seed, counters, WORD: tl.constexpr):
    """One word of Philox 4x32-10; counters that are below 2 to the 31."""
    zero = counters.to(tl.uint32) * 0
    return tl.philox(seed, counters.to(tl.uint32), zero, zero, zero)[WORD]


@triton.jit
def _philox_64(seed, counters, WORD: tl.constexpr):
    """One word of Philox 4x32-10."""
    low = (counters & 0xFFFFFFFF).to(tl.uint32)
    high = ((counters >> 32) & 0xFFFFFFFF).to(tl.uint32)
    return tl.philox(seed, low, high, low * 0, low * 0)[WORD]


@triton.jit
def _from_f8e5m2(byte):
    """The upper half of an f16."""
    return (byte.to(tl.uint16) << 8).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _from_f8e4m3(byte):
    """Exponent and fraction go to their places in an f16, whose exponents are 8 greater."""
    wide = byte.to(tl.uint16)
    bits = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    value = bits.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return tl.where((wide & 0x7F) == 0x7F, float("nan"), value)


@triton.jit
def _to_f8e5m2(x):
    """An f32 rounded to nearest even; what is too large becomes infinity."""
    bits = x.to(tl.uint32, bitcast=True)
    size = bits & 0x7FFFFFFF
    normal = (size + 0xFFFFF + ((size >> 21) & 1) - (112 << 23)) >> 21
    subnormal = (tl.abs(x) + 128.0).to(tl.uint32, bitcast=True) - 0x43000000
    result = tl.minimum(tl.where(size < (113 << 23), subnormal, normal), 0x7C)
    result = tl.where(size > 0x7F800000, 0x7F, result)
    return (result | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def _to_f8e4m3(x):
    """An f32 rounded to nearest even; what is too large becomes NaN."""
    bits = x.to(tl.uint32, bitcast=True)
    size = bits & 0x7FFFFFFF
    normal = (size + 0x7FFFF + ((size >> 20) & 1) - (120 << 23)) >> 20
    subnormal = (tl.abs(x) + 16384.0).to(tl.uint32, bitcast=True) - 0x46800000
    result = tl.minimum(tl.where(size < (121 << 23), subnormal, normal), 0x7F)
    return (result | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def _same(x):
    return x.to(tl.int32)


@triton.jit
def _as_signed_byte(byte):
    return byte.to(tl.int8, bitcast=True).to(tl.int32)


@triton.jit
def _as_byte(x):
    return x.to(tl.uint8)


@triton.jit
def _as_int(byte):
    return byte.to(tl.int32)


@triton.jit
def _as_truth(x):
    return (x != 0).to(tl.uint8)


@triton.jit
def _last_of_equals(targets, COUNT: tl.constexpr):
    """Which elements have no equal behind them."""
    lane = tl.arange(0, COUNT)
    last = lane >= 0
    for place in range(1, COUNT):
        later = tl.sum(tl.where(lane == place, targets, 0))
        last = last & ((targets != later) | (lane >= place))
    return last


@triton.jit
def _atomic_update(pointers, values, mask, combine: tl.constexpr, BITS: tl.constexpr, COMPUTE: tl.constexpr):
    """Combines values into memory by compare and swap; several lanes may have one address."""
    dtype: tl.constexpr = values.dtype
    old = tl.load(pointers, mask=mask, other=0)
    waiting = mask
    while tl.sum(waiting.to(tl.int32)) > 0:
        new = combine(old.to(COMPUTE), values.to(COMPUTE)).to(dtype)
        # A lane without work must not write: it compares with what cannot be there.
        expected = old.to(BITS, bitcast=True)
        words = pointers.to(tl.pointer_type(BITS), bitcast=True)
        found = _compare_and_swap(words, expected, new.to(BITS, bitcast=True), waiting)
        waiting = waiting & (found != expected)
        old = tl.where(waiting, found.to(dtype, bitcast=True), old)


@triton.jit
def _compare_and_swap(words, expected, new, mask):
    """tl.atomic_cas has no mask: lanes without work swap a word of the first lane with work for itself."""
    lanes = mask.to(tl.int32)
    addresses = words.to(tl.uint64, bitcast=True)
    spare = tl.max(tl.where(mask, addresses, 0).to(tl.int64, bitcast=True))
    address = tl.where(mask, addresses.to(tl.int64, bitcast=True), spare)
    nothing = expected * 0
    return tl.atomic_cas(
        address.to(words.dtype, bitcast=True), tl.where(lanes > 0, expected, nothing), tl.where(lanes > 0, new, nothing)
    )


@triton.jit
def _atomic_update_byte(pointers, values, mask, combine: tl.constexpr, decode: tl.constexpr, encode: tl.constexpr):
    """Combines bytes into memory by compare and swap of the 32-bit words that hold them."""
    addresses = pointers.to(tl.int64, bitcast=True)
    words = (addresses & -4).to(tl.pointer_type(tl.int32), bitcast=True)
    shift = ((addresses & 3) * 8).to(tl.int32)
    value = decode(values.to(tl.uint8))
    old = tl.load(words, mask=mask, other=0)
    waiting = mask
    while tl.sum(waiting.to(tl.int32)) > 0:
        byte = ((old >> shift) & 0xFF).to(tl.uint8)
        new_byte = encode(combine(decode(byte), value)).to(tl.int32) & 0xFF
        new = (old & ~(0xFF << shift)) | (new_byte << shift)
        found = _compare_and_swap(words, old, new, waiting)
        waiting = waiting & (found != old)
        old = tl.where(waiting, found, old)
