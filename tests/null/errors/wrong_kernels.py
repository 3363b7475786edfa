# ruff: noqa: F841, RUF059, B007, SIM105 - the values of wrong kernels go nowhere
"""Wrong kernels, each with what the compiler says in `expected.txt`. Keep one mistake in each."""

import math
from dataclasses import dataclass

import numpy as np

import opdsl as od

CASES = []


def case(function):
    CASES.append(function)
    return function


def plain_scale(t):
    return t * 2


def fails(n):
    return 1 // (n - n)


@od.function
def scale(t, factor):
    return t * factor


@od.function
def endless(t):
    return endless(t)


@od.function
def inner_mistake(t):
    return od.dot(t, t)


@od.kernel
def copy(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 8):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i:i + BLOCK]), y[i:i + BLOCK])


array = np.ones(4, np.float32)


# --- slices and indices -----------------------------------------------------------------------------------------------


@case
def slice_of_unknown_length():
    @od.kernel
    def k(x: od.Tensor["T", "N"], n: od.i64):
        t = od.copy_in(x[0:n])

    k.lower(T=od.f32)


@case
def whole_dim_of_unknown_size():
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        for m in od.parallel(range(x.shape[0])):
            t = od.copy_in(x[m, :])

    k.lower(T=od.f32)


@case
def empty_slice():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        for i in od.parallel(range(x.shape[0])):
            t = od.copy_in(x[i + 8:i])

    k.lower(T=od.f32)


@case
def negative_index():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        last = od.copy_in(x[-1])

    k.lower(T=od.f32)


@case
def negative_slice():
    @od.kernel
    def k(x: od.Tensor["T", 16]):
        last = od.copy_in(x[-4:])

    k.lower(T=od.f32)


@case
def run_time_step():
    @od.kernel
    def k(x: od.Tensor["T", "N"], step: od.i64):
        t = od.copy_in(x[0:8:step])

    k.lower(T=od.f32)


@case
def negative_step():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[8:0:-1])

    k.lower(T=od.f32)


@case
def too_many_indices():
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        t = od.copy_in(x[0:4, 0:4, 0])

    k.lower(T=od.f32)


@case
def float_index():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[x.shape[0] / 2])

    k.lower(T=od.f32)


@case
def mask_index():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8])
        u = od.copy_in(x[t > 0])

    k.lower(T=od.f32)


@case
def index_tiles_apart():
    @od.kernel
    def k(x: od.Tensor["T", "A", "B", "C"]):
        i = od.arange(4)
        t = od.copy_in(x[i, 0:8, i])

    k.lower(T=od.f32)


@case
def tile_indexed_at_run_time():
    @od.kernel
    def k(x: od.Tensor["T", "N"], n: od.i64):
        t = od.copy_in(x[0:8])
        u = t[n]

    k.lower(T=od.f32)


@case
def tile_index_out_of_bounds():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8])
        u = t[8]

    k.lower(T=od.f32)


# --- tensors, tiles and places ----------------------------------------------------------------------------------------


@case
def tensor_in_arithmetic():
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"]):
        od.copy_out(x + 1, y[0:8])

    k.lower(T=od.f32)


@case
def place_without_copy_in():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.exp(x[0:8])

    k.lower(T=od.f32)


@case
def tensor_assignment():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        x[0:8] = od.zeros(8, od.f32)

    k.lower(T=od.f32)


@case
def tile_assignment():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.zeros((4, 4), od.f32)
        t[0, :] = 1.0

    k.lower(T=od.f32)


@case
def tensor_transposed():
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        t = x.T

    k.lower(T=od.f32)


@case
def copy_out_wrong_way_round():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.zeros(8, od.f32)
        od.copy_out(x[0:8], t)

    k.lower(T=od.f32)


@case
def copy_out_of_wrong_shape():
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        od.copy_out(od.zeros((4, 8), od.f32), x[0:8, 0:4])

    k.lower(T=od.f32)


@case
def copy_out_mode():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        od.copy_out(1.0, x[0:8], mode="plus")

    k.lower(T=od.f32)


@case
def pad_that_does_not_exist():
    @od.kernel
    def k(x: od.Tensor[od.i32, "N"]):
        t = od.copy_in(x[0:8], pad=-od.inf)

    k.lower()


@case
def captured_array():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:4]) * array

    k.lower(T=od.f32)


# --- shapes and dtypes ------------------------------------------------------------------------------------------------


@case
def shapes_that_do_not_broadcast():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8]) + od.copy_in(x[0:4])

    k.lower(T=od.f32)


@case
def run_time_tile_shape():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        N = x.shape[0]
        t = od.zeros((4, N), od.f32)

    k.lower(T=od.f32)


@case
def zeros_without_dtype():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.zeros(8)

    k.lower(T=od.f32)


@case
def python_type_as_dtype():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.zeros(8, float)

    k.lower(T=od.f32)


@case
def dot_inner_sizes():
    @od.kernel
    def k(a: od.Tensor["T", "M", "K"], b: od.Tensor["T", "N", "K"]):
        c = od.dot(od.copy_in(a[0:16, 0:32]), od.copy_in(b[0:16, 0:32]))

    k.lower(T=od.f32)


@case
def dot_of_two_dtypes():
    @od.kernel
    def k(a: od.Tensor[od.f16, "M", "K"], b: od.Tensor[od.f32, "K", "N"]):
        c = od.dot(od.copy_in(a[0:16, 0:32]), od.copy_in(b[0:32, 0:16]))

    k.lower()


@case
def dot_of_vectors():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8])
        c = od.dot(t, t)

    k.lower(T=od.f32)


@case
def literal_too_great():
    @od.kernel
    def k(x: od.Tensor[od.u8, "N"]):
        t = od.copy_in(x[0:8]) + 300

    k.lower()


@case
def signed_and_unsigned():
    @od.kernel
    def k(x: od.Tensor[od.u64, "N"], y: od.Tensor[od.i64, "N"]):
        t = od.copy_in(x[0:8]) + od.copy_in(y[0:8])

    k.lower()


@case
def bits_of_floats():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8]) & 1

    k.lower(T=od.f32)


@case
def condition_of_numbers():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8])
        u = od.where(t, 1.0, 0.0)

    k.lower(T=od.f32)


@case
def bad_axis():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.sum(od.copy_in(x[0:8]), axis=1)

    k.lower(T=od.f32)


@case
def reshape_of_other_size():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.reshape(od.copy_in(x[0:8]), (3, -1))

    k.lower(T=od.f32)


@case
def topk_too_many():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        values, indices = od.topk(od.copy_in(x[0:8]), 9)

    k.lower(T=od.f32)


@case
def combine_of_other_dtype():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.reduce(od.copy_in(x[0:8]), 0, lambda a, b: od.cast(a, od.f32) + od.cast(b, od.f32))

    k.lower(T=od.f16)


# --- control flow -----------------------------------------------------------------------------------------------------


@case
def tile_as_condition():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8])
        if t > 0:
            t = -t

    k.lower(T=od.f32)


@case
def and_of_tiles():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copy_in(x[0:8])
        m = t > 0 and t < 1

    k.lower(T=od.f32)


@case
def chained_comparison_of_tensors():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        m = 0 < x < 1

    k.lower(T=od.f32)


@case
def loop_changes_dtype():
    @od.kernel
    def k(x: od.Tensor[od.f16, "M", "N"]):
        acc = od.zeros((8, 8), od.f16)
        for i in range(0, x.shape[0], 8):
            t = od.copy_in(x[i:i + 8, 0:8])
            acc += od.dot(t, t)

    k.lower()


@case
def loop_changes_shape():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        acc = od.zeros(8, od.f32)
        n = 0
        while n < 4:
            acc = od.concat((acc, acc))
            n += 1

    k.lower(T=od.f32)


@case
def number_becomes_float():
    @od.kernel
    def k(x: od.Tensor["T", "N"], n: od.i64):
        count = n
        for i in range(n):
            count = count * 0.5

    k.lower(T=od.f32)


@case
def value_of_a_loop_after_it():
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"]):
        for i in range(0, x.shape[0], 8):
            t = od.copy_in(x[i:i + 8])
        od.copy_out(t, y[0:8])

    k.lower(T=od.f32)


@case
def loop_variable_after_the_loop():
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"]):
        for i in range(0, x.shape[0], 8):
            pass
        od.copy_out(1.0, y[i:i + 8])

    k.lower(T=od.f32)


@case
def value_of_one_branch():
    @od.kernel
    def k(x: od.Tensor["T", "N"], n: od.i64):
        if n > 0:
            t = od.copy_in(x[0:8])
        od.copy_out(t, x[0:8])

    k.lower(T=od.f32)


@case
def branches_of_two_dtypes():
    @od.kernel
    def k(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.i32, "N"], n: od.i64):
        if n > 0:
            t = od.copy_in(x[0:8])
        else:
            t = od.copy_in(y[0:8])
        od.copy_out(t, x[0:8])

    k.lower()


@case
def python_objects_by_run_time_condition():
    @od.kernel
    def k(x: od.Tensor["T", "N"], n: od.i64):
        f = od.exp if n > 0 else od.log

    k.lower(T=od.f32)


@case
def parallel_accumulation():
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", 1]):
        total = 0.0
        for i in od.parallel(range(0, x.shape[0], 8)):
            total += od.sum(od.copy_in(x[i:i + 8]))
        od.copy_out(total, y[0])

    k.lower(T=od.f32)


@case
def break_of_a_run_time_loop():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        for i in range(x.shape[0]):
            if i > 3:
                break

    k.lower(T=od.f32)


@case
def continue_of_a_run_time_loop():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        for i in range(x.shape[0]):
            continue

    k.lower(T=od.f32)


@case
def return_in_a_branch():
    @od.kernel
    def k(x: od.Tensor["T", "N"], n: od.i64):
        if n == 0:
            return
        od.copy_out(1.0, x[0:8])

    k.lower(T=od.f32)


@case
def kernel_returns_a_value():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        return od.copy_in(x[0:8])

    k.lower(T=od.f32)


@case
def endless_while():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        n = 0
        while True:
            n += 1

    k.lower(T=od.f32)


@case
def parallel_of_a_number():
    @od.kernel
    def k(x: od.Tensor["T", 8]):
        for i in od.parallel(8):
            pass

    k.lower(T=od.f32)


@case
def loop_variables_and_ranges():
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        M, N = x.shape
        for m, n in od.parallel(range(M)):
            pass

    k.lower(T=od.f32)


@case
def unrolled_at_run_time():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        for i in od.unrolled(range(x.shape[0])):
            pass

    k.lower(T=od.f32)


@case
def list_changed_in_a_run_time_loop():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        parts = []
        for i in range(0, x.shape[0], 8):
            parts.append(od.copy_in(x[i:i + 8]))

    k.lower(T=od.f32)


@case
def float_range():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        for i in range(x.shape[0] / 8):
            pass

    k.lower(T=od.f32)


# --- Python in kernels ------------------------------------------------------------------------------------------------


@case
def python_assert():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        assert x.shape[0] > 0

    k.lower(T=od.f32)


@case
def python_print():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        print(x.shape[0])

    k.lower(T=od.f32)


@case
def try_statement():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        try:
            t = od.copy_in(x[0:8])
        except ValueError:
            pass

    k.lower(T=od.f32)


@case
def undefined_name():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 8):
        t = od.copy_in(x[0:BLOK])

    k.lower(T=od.f32)


@case
def misspelt_builtin():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.copyin(x[0:8])

    k.lower(T=od.f32)


@case
def misspelt_attribute():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        n = x.shap[0]

    k.lower(T=od.f32)


@case
def plain_function_on_a_tile():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = plain_scale(od.copy_in(x[0:8]))

    k.lower(T=od.f32)


@case
def lambda_as_constexpr_on_a_tile():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, f: od.constexpr):
        t = f(od.copy_in(x[0:8]))

    k.lower(T=od.f32, f=lambda t: t + 1)


@case
def math_on_a_tile():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = math.exp(od.copy_in(x[0:8]))

    k.lower(T=od.f32)


@case
def numpy_on_a_tile():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = np.exp(od.copy_in(x[0:8]))

    k.lower(T=od.f32)


@case
def kernel_in_a_kernel():
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"]):
        copy(x, y)

    k.lower(T=od.f32)


@case
def missing_argument_of_a_function():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = scale(od.copy_in(x[0:8]))

    k.lower(T=od.f32)


@case
def unknown_keyword_of_a_builtin():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = od.sum(od.copy_in(x[0:8]), dim=0)

    k.lower(T=od.f32)


@case
def mistake_inside_a_function():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = inner_mistake(od.copy_in(x[0:8]))

    k.lower(T=od.f32)


@case
def endless_recursion():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        t = endless(1)

    k.lower(T=od.f32)


@case
def constexpr_code_raises():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 8):
        t = od.copy_in(x[0:fails(BLOCK)])

    k.lower(T=od.f32)


@case
def raise_by_constexpr():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 7):
        if BLOCK % 8:
            raise ValueError(f"BLOCK is {BLOCK}, but must be a multiple of 8")

    k.lower(T=od.f32)


@case
def static_assertion():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 7):
        od.static_assert(BLOCK % 8 == 0, f"BLOCK is {BLOCK}, but must be a multiple of 8")

    k.lower(T=od.f32)


@case
def too_few_names():
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        M, = x.shape

    k.lower(T=od.f32)


@case
def attribute_assignment():
    @dataclass
    class Settings:
        block: int = 8

    settings = Settings()

    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        settings.block = 4

    k.lower(T=od.f32)


@case
def formatted_run_time_value():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        od.print(f"{x.shape[0]:5d}")

    k.lower(T=od.f32)


# --- declarations -----------------------------------------------------------------------------------------------------


@case
def parameter_without_annotation():
    @od.kernel
    def k(x, y: od.Tensor["T", "N"]):
        pass


@case
def positional_constexpr():
    @od.kernel
    def k(x: od.Tensor["T", "N"], BLOCK: od.constexpr = 8):
        pass


@case
def bare_tensor_annotation():
    @od.kernel
    def k(x: od.Tensor):
        pass


@case
def annotation_that_is_no_expression():
    @od.kernel
    def k(x: "od.Tensor['T', 'N'"):
        pass


@case
def kernel_of_a_class():
    @od.kernel
    class K:
        pass


@case
def attribute_that_is_nowhere():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        od.copy_in(x[0:4]).explode()

    k.lower(T="f32")


@case
def keyword_only_scalar():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, p: od.f32):
        pass


@case
def star_arguments():
    @od.kernel
    def k(*tensors: od.Tensor["T", "N"]):
        pass


@case
def names_of_others():
    @od.kernel
    def k(x: od.Tensor["T", "N"], *, COUNT: od.constexpr):
        for i in od.static_range(COUNT):
            od.copy_in(x[i : i + 4])

    k.lower(T="f32", COUNT=2)


@case
def load_of_others():
    @od.kernel
    def k(x: od.Tensor["T", "N"]):
        od.load(x[0:4])

    k.lower(T="f32")
