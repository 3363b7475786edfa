"""The fast way of a launch: which calls it takes, under which key, and which it leaves to the long way."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from opdsl._runtime import MISS, Launcher
from opdsl.ir.numpy_types import numpy_dtypes

numpy_dtypes()  # makes the narrow floats known

ADD = [("tensor", ("N",), False), ("tensor", ("N",), False), ("tensor", ("N",), True)]


def vector(size: int = 8, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(size, dtype)


class Calls:
    """An executable that keeps what it was called with."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def __call__(self, arguments: tuple[Any, ...]) -> None:
        self.seen.append(arguments)


def test_unknown_key_is_a_miss_and_a_known_one_calls() -> None:
    launcher, calls = Launcher(ADD), Calls()
    arguments = (vector(), vector(), vector())
    assert launcher(*arguments) is MISS
    key = launcher.key(*arguments)
    assert key is not None
    launcher.register(key, calls)
    assert launcher.size == 1
    assert launcher(*arguments) is None
    assert launcher(vector(9), vector(9), vector(9)) is None  # N is no constexpr
    assert calls.seen[0] == arguments
    launcher.register(key, lambda arguments: "replaced")
    assert launcher.size == 1
    assert launcher(*arguments) == "replaced"
    launcher.clear()
    assert launcher(*arguments) is MISS


def same_key(launcher: Launcher, first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    keys = launcher.key(*first), launcher.key(*second)
    assert None not in keys
    return keys[0] == keys[1]


def test_key_has_dtype_unit_axis_alias_and_bound_dims() -> None:
    launcher = Launcher([("tensor", ("M", "N"), False), ("tensor", ("M", "N"), True)], ("N",))
    a, b = np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)
    assert same_key(launcher, (a, b), (a.copy(), b.copy()))
    assert same_key(launcher, (a, b), (np.zeros((5, 6), "f4"), np.zeros((5, 6), "f4")))
    assert not same_key(launcher, (a, b), (a.astype("f2"), b))
    assert not same_key(launcher, (a, b), (np.zeros((4, 7), "f4"), np.zeros((4, 7), "f4")))
    assert not same_key(launcher, (a, b), (np.zeros((6, 4), "f4").T, b))
    assert not same_key(launcher, (a, b), (np.zeros((4, 12), "f4")[:, ::2], b))
    assert same_key(launcher, (a, b), (np.zeros((4, 12), "f4")[:, :6], b))
    assert not same_key(launcher, (a, b), (b, b))
    big = np.zeros((8, 6), "f4")
    assert not same_key(launcher, (a, b), (big[:4], big[2:6]))
    assert same_key(launcher, (a, b), (big[:4], big[4:]))


def sharing(launcher: Launcher, *arguments: Any) -> int:
    """The first word of the key."""
    key = launcher.key(*arguments)
    assert key is not None
    return int.from_bytes(key[:8], "little")


def test_sharing_of_memory_is_in_the_key() -> None:
    launcher = Launcher([("tensor", ("N",), False), ("tensor", ("N",), False), ("tensor", ("N",), True)])
    x, y = vector(16), vector(16)
    assert sharing(launcher, x, x, y) == 0
    assert sharing(launcher, x, y, x) == 1
    assert sharing(launcher, x, x, x[:]) == 1
    assert sharing(launcher, x[:8], y[:8], x[4:12]) == 2
    assert sharing(launcher, x[:8], y[:8], x[7::-1]) == 2
    assert sharing(launcher, x, y, y.view(np.int32)) == 2
    assert sharing(launcher, x[:0], y[:0], x[:0]) == 0
    both = Launcher([("tensor", ("N",), True), ("tensor", ("N",), True)])
    assert sharing(both, x, x) == 2
    assert sharing(both, x[:8], x[8:]) == 0


def test_strides_of_short_axes_do_not_matter() -> None:
    launcher = Launcher([("tensor", ("M", "N"), False)])
    whole = np.zeros((9, 9), np.float32)
    for view in (whole[:, :1], whole[::2, 3:4], whole[:1, :], np.zeros((0, 3), "f4"), np.zeros((1, 1), "f4")):
        assert same_key(launcher, (whole,), (view,))


def test_int_types_of_one_width_are_one_type() -> None:
    launcher = Launcher([("tensor", ("N",), False)])
    assert same_key(launcher, (vector(3, np.int64),), (vector(3, np.longlong),))
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.bool_, np.uint64):
        assert launcher.key(vector(3, dtype)) is not None
    keys = {launcher.key(vector(3, dtype)) for dtype in numpy_dtypes().values()}
    assert len(keys) == len(numpy_dtypes())


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


LONG_WAY: dict[str, Callable[[], tuple[Any, ...]]] = {
    "too few arguments": lambda: (vector(), vector()),
    "too many arguments": lambda: (vector(), vector(), vector(), 1),
    "not an array": lambda: (vector(), [1.0] * 8, vector()),
    "subclass": lambda: (vector().view(Subclass), vector(), vector()),
    "rank": lambda: (vector(), np.ones((8, 1), "f4"), vector()),
    "dims disagree": lambda: (vector(8), vector(9), vector(8)),
    "dtype kernels do not know": lambda: (vector(8, "c8"), vector(), vector()),
    "objects": lambda: (vector(8, object), vector(), vector()),
    "byte order": lambda: (vector(8, ">f4"), vector(), vector()),
    "misaligned": lambda: (np.frombuffer(bytearray(33), np.uint8)[1:].view("f4"), vector(), vector()),
    "written but read-only": lambda: (vector(), vector(), read_only(vector())),
    "written elements coincide": lambda: (vector(), vector(), as_strided(vector(), (8,), (0,))),
    "stride not a multiple": lambda: (as_strided(vector(80, np.int8).view("f4"), (8,), (6,)), vector(), vector()),
}


@pytest.mark.parametrize("case", LONG_WAY)
def test_left_to_the_long_way(case: str) -> None:
    launcher = Launcher(ADD)
    arguments = LONG_WAY[case]()
    assert launcher.key(*arguments) is None
    assert launcher(*arguments) is MISS


def test_keywords_are_left_to_the_long_way() -> None:
    launcher = Launcher(ADD)
    assert launcher(vector(), vector(), z=vector()) is MISS  # type: ignore[call-arg]


def test_literal_and_any_dims() -> None:
    launcher = Launcher([("tensor", (3, None), False)])
    assert launcher.key(np.zeros((3, 5))) is not None
    assert launcher.key(np.zeros((4, 5))) is None


def test_transposed_written_tensor_is_taken() -> None:
    launcher = Launcher([("tensor", ("M", "N"), True)])
    assert launcher.key(np.zeros((4, 6)).T) is not None
    assert launcher.key(np.zeros((4, 12))[:, ::-2]) is not None
    assert launcher.key(as_strided(np.zeros(10), (3, 3), (16, 8))) is None


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (
            "i32",
            [0, -5, 2**31 - 1, np.int64(7), np.uint8(3), True],
            [2**31, -(2**31) - 1, 1.0, np.float32(1), "1", None],
        ),
        ("u8", [0, 255], [-1, 256]),
        ("i64", [2**63 - 1, -(2**63)], [2**63, 2**70]),
        ("u64", [2**64 - 1, 0], [-1, 2**64]),
        (
            "f32",
            [1.5, 2, True, np.float64(3), np.float16(1), np.int8(2), float("inf")],
            ["1", None, 1j, np.complex64(1)],
        ),
        ("bool", [True, False, np.True_], [1, 0.0, "True"]),
        ("bf16", [1.0], [np.zeros(1)]),
    ],
)
def test_scalars(dtype: str, good: list[Any], bad: list[Any]) -> None:
    launcher = Launcher([("scalar", dtype)])
    for value in good:
        assert launcher.key(value) is not None, value
    for value in bad:
        assert launcher.key(value) is None, value


def test_wrong_declarations() -> None:
    for parameters in ([("scalar", "f31")], [("tensor", ["N"], False)], ["tensor"], [("tensor", (1.5,), False)]):
        with pytest.raises((TypeError, ValueError)):
            Launcher(parameters)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no tensor has a dim named K"):
        Launcher(ADD, ("K",))
    with pytest.raises(ValueError, match="at most"):
        Launcher([("scalar", "i32")] * 65)
    with pytest.raises(TypeError):
        Launcher(ADD).register(b"123", print)
    with pytest.raises(TypeError):
        Launcher(ADD).register(b"12345678", 3)  # type: ignore[arg-type]


def test_many_keys() -> None:
    launcher = Launcher([("tensor", ("N",), False)], ("N",))
    for size in range(300):
        key = launcher.key(vector(size))
        assert key is not None
        launcher.register(key, lambda arguments, size=size: size)
    assert launcher.size == 300
    assert all(launcher(vector(size)) == size for size in range(300))
    assert launcher(vector(300)) is MISS


def test_errors_of_an_executable_come_through() -> None:
    launcher = Launcher([("scalar", "i32")])
    key = launcher.key(1)
    assert key is not None

    def fails(arguments: tuple[Any, ...]) -> None:
        raise ZeroDivisionError

    launcher.register(key, fails)
    with pytest.raises(ZeroDivisionError):
        launcher(1)


def test_cycles_are_collected() -> None:
    class Owner:
        launcher: Launcher

        def __call__(self, arguments: tuple[Any, ...]) -> None: ...

    owner = Owner()
    owner.launcher = Launcher([("scalar", "i32")])
    key = owner.launcher.key(1)
    assert key is not None
    owner.launcher.register(key, owner)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
