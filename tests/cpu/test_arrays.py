"""Arguments on the long way: what becomes of arrays, DLPack objects and everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from opdsl import _runtime
from opdsl.ir.numpy_types import dtype_name, numpy_dtypes
from opdsl.runtime import arrays


def test_numpy_array_is_passed_through() -> None:
    x = np.zeros((2, 3), np.float32)
    assert arrays.as_array(x, "x") is x


def test_memmap_and_subclass_become_plain_views() -> None:
    class Mine(np.ndarray):
        pass

    x = np.zeros(4).view(Mine)
    y = arrays.as_array(x, "x")
    assert type(y) is np.ndarray
    assert np.shares_memory(x, y)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "not list"),
        (1.0, "not float"),
        (np.float32(1), "NumPy scalar"),
        (np.ma.masked_array([1.0]), "masks"),
        (None, "not NoneType"),
    ],
)
def test_other_things_are_refused(value: object, message: str) -> None:
    with pytest.raises(arrays.ArgumentError, match=f"^x .*{message}"):
        arrays.as_array(value, "x")


def test_every_dtype_has_a_name() -> None:
    for name, dtype in numpy_dtypes().items():
        assert dtype_name(dtype) == name
        assert arrays.describe(np.zeros(2, dtype), "x", written=True).dtype == name
    assert dtype_name(np.dtype(np.longlong)) == "i64"
    assert dtype_name(np.dtype("c8")) is None


def test_strides_are_in_elements() -> None:
    x = np.zeros((6, 8), np.float64)
    info = arrays.describe(x[::2, ::-1].T, "x", written=False)
    assert info.shape == (8, 3)
    assert info.strides == (-1, 16)
    assert info.unit_axis is None
    assert arrays.describe(x.T, "x", written=False).unit_axis == 0
    assert arrays.describe(x, "x", written=False).is_contiguous


def test_strides_of_short_axes_are_those_of_a_contiguous_array() -> None:
    x = np.zeros((5, 1), np.float32)
    assert arrays.describe(x[::2], "x", written=False).strides == (2, 1)
    assert arrays.describe(np.zeros((1, 7), np.float32)[:, ::3], "x", written=False).strides == (9, 3)
    assert arrays.describe(np.zeros((0, 3), np.float32), "x", written=True).unit_axis == 1


@pytest.mark.parametrize(
    ("array", "written", "message"),
    [
        (np.zeros(2, "c8"), False, "complex64"),
        (np.zeros(2, ">f4"), False, "byte order"),
        (np.frombuffer(bytearray(9), np.uint8)[1:].view("f4"), False, "address"),
        (np.lib.stride_tricks.as_strided(np.zeros(4, "f4"), (3,), (6,)), False, "address|stride of 6 bytes"),
        (np.broadcast_to(np.float32(1), (3,)), True, "read-only"),
        (np.lib.stride_tricks.as_strided(np.zeros(4, "f4"), (3, 2), (4, 4)), True, "same memory"),
        (np.lib.stride_tricks.as_strided(np.zeros(4, "f4"), (3,), (0,)), True, "same memory"),
    ],
)
def test_arrays_that_kernels_cannot_take(array: np.ndarray, written: bool, message: str) -> None:
    with pytest.raises(arrays.ArgumentError, match=message) as raised:
        arrays.describe(array, "weights", written=written)
    assert str(raised.value).startswith("weights ")


def test_memory_sharing_is_exact_where_cheap() -> None:
    x = np.zeros(100)
    assert not arrays.may_share_memory(x[::2], x[1::2])
    assert arrays.may_share_memory(x[:51], x[50:])
    assert not arrays.may_share_memory(x[:50], x[50:])


class Exporter:
    """Hands over a NumPy array by DLPack as if it were of another library."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array = array
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **options: Any) -> object:
        return self.array.__dlpack__(**options)


class OldExporter(Exporter):
    def __dlpack__(self) -> object:  # type: ignore[override]
        return self.array.__dlpack__()


@pytest.mark.parametrize("kind", [Exporter, OldExporter])
def test_dlpack_shares_memory_and_strides(kind: type[Exporter]) -> None:
    x = np.arange(24.0).reshape(4, 6)[::2, 1::2]
    y = arrays.as_array(kind(x), "x")
    assert y.dtype == x.dtype
    assert y.strides == x.strides
    assert np.array_equal(x, y)
    y[0, 0] = -1
    assert x[0, 0] == -1


def test_dlpack_read_only_is_kept() -> None:
    x = np.zeros(3)
    x.flags.writeable = False
    assert not arrays.as_array(Exporter(x), "x").flags.writeable


def test_dlpack_keeps_its_owner_alive_and_lets_go() -> None:
    import gc
    import weakref

    class Owner(np.ndarray):
        pass

    x = np.zeros(1000).view(Owner)
    gone = weakref.ref(x)
    y = arrays.as_array(Exporter(x), "x")
    del x
    gc.collect()
    assert gone() is not None
    del y
    gc.collect()
    assert gone() is None


def test_dlpack_device_memory_is_refused() -> None:
    with pytest.raises(arrays.ArgumentError, match="on a CUDA device"):
        arrays.as_array(Exporter(np.zeros(2), (2, 0)), "x")


def test_dlpack_complex_is_refused() -> None:
    with pytest.raises(arrays.ArgumentError, match="element type"):
        arrays.as_array(Exporter(np.zeros(2, "c8")), "x")


@pytest.mark.torch
def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    for dtype, name in [
        (torch.float32, "f32"),
        (torch.bfloat16, "bf16"),
        (torch.float8_e4m3fn, "f8e4m3"),
        (torch.float8_e5m2, "f8e5m2"),
        (torch.bool, "bool"),
        (torch.int64, "i64"),
        (torch.uint8, "u8"),
    ]:
        tensor = torch.ones(4, 6).to(dtype)
        array = arrays.as_array(tensor.T, "x")
        assert arrays.describe(array, "x", written=True).dtype == name
        assert array.shape == (6, 4)
        assert array.ctypes.data == tensor.data_ptr()
        assert float(array[0, 0]) == 1.0
    with pytest.raises(arrays.ArgumentError, match=r"requires a gradient.*x\.detach"):
        arrays.as_array(torch.ones(2, requires_grad=True), "x")
    with pytest.raises(arrays.ArgumentError, match="x, a torch.Tensor, cannot be handed over"):
        arrays.as_array(torch.ones(2, 2).to_sparse(), "x")
    with pytest.raises(arrays.ArgumentError):
        arrays.as_array(torch.ones(2, device="meta"), "x")
    assert np.array_equal(arrays.as_array(torch.empty(0, 3), "x"), np.empty((0, 3)))


@pytest.mark.torch
def test_torch_tensors_take_the_fast_way() -> None:
    """Where torch hands over its exchange functions; elsewhere they go the long way."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip("this torch has no exchange functions")
    launcher = _runtime.Launcher([("tensor", ("M", "N"), False), ("tensor", ("M", "N"), True)], ("N",))
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e5m2, torch.int64, torch.bool):
        for make in (lambda t: t, lambda t: t.T, lambda t: t[:, ::2], lambda t: t[:1], lambda t: t[:0]):
            x, y = make(torch.zeros(4, 6).to(dtype)), make(torch.zeros(4, 6).to(dtype))
            arguments = [arrays.as_array(t, "t") for t in (x, y)]
            assert launcher.key(x, y) == launcher.key(*arguments) != None  # noqa: E711
    x = torch.zeros(4, 6)
    assert launcher.key(x, arrays.as_array(x, "x")) == launcher.key(x, x)  # the same memory
    assert launcher.key(torch.zeros(4, 6, requires_grad=True), x) is None
    assert launcher.key(torch.nn.Parameter(x.clone()), x) is None
    assert launcher.key(x.to_sparse(), x) is None
    assert launcher.key(torch.zeros(4, 6, device="meta"), x) is None
    assert launcher.key(x, torch.zeros(1, 1).expand(4, 6)) is None
    negated = torch.view_as_complex(torch.rand(4, 6, 2)).conj().imag
    assert launcher.key(negated, x) is None
    with pytest.raises(arrays.ArgumentError, match="resolve_neg"):
        arrays.as_array(negated, "x")
    key = launcher.key(x, x.clone())
    assert key is not None
    launcher.register(key, lambda arguments: None)
    assert launcher(x.numpy(), x.clone().numpy()) is None
    assert launcher(x, x.clone()) is _runtime.MISS  # an executable in Python gets arrays only


def test_pooled_array() -> None:
    x = _runtime.empty((3, 5), np.float32)
    assert x.shape == (3, 5)
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert x.ctypes.data % 64 == 0
    assert _runtime.empty(7, "i4").shape == (7,)
    assert _runtime.empty((), "f8").shape == ()
    assert _runtime.empty((0, 3), "f8").size == 0
    cases: list[tuple[tuple[int, ...], Any, type[Exception]]] = [
        ((-1,), "f4", ValueError),
        ((2,), object, TypeError),
        ((1 << 60, 1 << 60), "f8", MemoryError),
    ]
    for shape, dtype, error in cases:
        with pytest.raises(error):
            _runtime.empty(shape, dtype)
