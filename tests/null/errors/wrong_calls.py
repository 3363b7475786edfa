"""Wrong calls of right kernels, each with the message in `expected.txt`. Keep one mistake in each."""

import numpy as np

import opdsl as od

CASES = []


def case(function):
    CASES.append(function)
    return function


@od.function
def silu(t):
    return t / (1.0 + od.exp(-t))


@od.kernel
def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 8):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i:i + BLOCK]) + od.copy_in(y[i:i + BLOCK]), z[i:i + BLOCK])


@od.kernel
def scale(x: od.Tensor[od.f32, "M", "N"], y: od.Tensor[od.f32, "M", "N"], factor: od.f32, shift: od.i32, *,
          N: od.constexpr, f: od.constexpr = None):
    for m in od.parallel(range(x.shape[0])):
        od.copy_out(od.copy_in(x[m, :]) * factor + shift, y[m, :])


@od.kernel
def triple(x: od.Tensor["T", 3], y: od.Tensor["T", 3]):
    od.copy_out(od.copy_in(x), y)


@od.kernel
def tiled(x: od.Tensor["T", "N"], *, BLOCK: od.constexpr):
    od.copy_out(0, x[0:BLOCK])


def vector(n=16, dtype=np.float32):
    return np.ones(n, dtype)


def matrix(m=4, n=6):
    return np.ones((m, n), np.float32)


@case
def sizes_disagree():
    add(vector(16), vector(17), vector(16), target="interp")


@case
def too_many_dims():
    add(matrix(), vector(), vector(), target="interp")


@case
def fixed_size():
    triple(vector(4), vector(4), target="interp")


@case
def dtypes_disagree():
    add(vector(), vector(dtype=np.float64), vector(), target="interp")


@case
def fixed_dtype():
    scale(np.ones((4, 6)), matrix(), 2.0, 1, target="interp")


@case
def dtype_that_kernels_do_not_know():
    add(vector(dtype=np.complex64), vector(dtype=np.complex64), vector(dtype=np.complex64), target="interp")


@case
def missing_argument():
    add(vector(), vector(), target="interp")


@case
def too_many_arguments():
    add(vector(), vector(), vector(), 8, target="interp")


@case
def argument_given_twice():
    add(vector(), vector(), vector(), x=vector(), target="interp")


@case
def unknown_constexpr():
    add(vector(), vector(), vector(), BLOK=8, target="interp")


@case
def missing_constexpr():
    tiled(vector(), target="interp")


@case
def constexpr_against_the_shape():
    scale(matrix(), matrix(), 2.0, 1, N=8, target="interp")


@case
def constexpr_that_is_not_hashable():
    scale(matrix(), matrix(), 2.0, 1, f=[1, 2], target="interp")


@case
def list_for_an_array():
    add([1.0, 2.0], vector(2), vector(2), target="interp")


@case
def array_for_a_scalar():
    scale(matrix(), matrix(), vector(1), 1, target="interp")


@case
def float_for_an_integer():
    scale(matrix(), matrix(), 2.0, 1.5, target="interp")


@case
def integer_too_great():
    scale(matrix(), matrix(), 2.0, 2**31, target="interp")


@case
def read_only_output():
    z = vector()
    z.flags.writeable = False
    add(vector(), vector(), z, target="interp")


@case
def output_that_overlaps_itself():
    add(vector(), vector(), np.broadcast_to(vector(1), 16).view(), target="interp")


@case
def output_with_stride_zero():
    z = np.lib.stride_tricks.as_strided(vector(1), (16,), (0,))
    add(vector(), vector(), z, target="interp")


@case
def output_that_overlaps_an_input():
    whole = vector(17)
    add(whole[:16], vector(), whole[1:], target="interp")


@case
def unknown_target():
    add(vector(), vector(), vector(), target="gpu")


@case
def builtin_outside_of_a_kernel():
    od.exp(vector())


@case
def function_outside_of_a_kernel():
    silu(vector())


@case
def dtype_variable_not_given():
    add.lower()


@case
def dtype_that_is_none():
    add.lower(T="float32")


@case
def source_that_cannot_be_read():
    namespace = {"od": od}
    exec(  # noqa: S102 - what the test is of
        "@od.kernel\ndef k(x: od.Tensor['T', 'N']):\n    pass\n",
        namespace,
    )


@od.kernel
def dims_only(x: od.Tensor["N"]):
    pass


@case
def no_dtype_in_an_annotation():
    dims_only(vector(4), target="interp")
