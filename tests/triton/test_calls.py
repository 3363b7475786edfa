"""Calls with tensors on a GPU, as far as that goes without one: the driver is replaced by one that notes launches."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too
pytest.importorskip("torch")

import torch
from support.acceptance import load

import opdsl as od
from opdsl.runtime import device_calls as calls
from opdsl.targets.triton.arch import ARCHES


class OnDevice(torch.Tensor):  # type: ignore[misc]
    """A tensor that says that it is on a GPU."""

    is_cuda = True
    device = torch.device("cuda:0")


def on_device(tensor: Any) -> Any:
    return tensor.as_subclass(OnDevice)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SimpleNamespace]]:
    """What was launched: names, programs, values by the arguments' names."""
    found: list[SimpleNamespace] = []

    class Loaded:
        def __init__(self, compiled: Any, name: str, device: int) -> None:
            self.name = name
            self.generated = compiled.generated
            self.launches = [Step(module) for module in compiled.modules]

    class Step:
        def __init__(self, module: Any) -> None:
            from opdsl.targets.triton.arguments import tiles_function

            self.launch, self.function, self.metadata = module.launch, "function", "metadata"
            self.tiles = tiles_function(module.launch)

        def programs(self, tiles: int, name: str) -> int:
            return min(tiles, 132) if self.launch.persistent else tiles

        def run(self, x: int, y: int, z: int, stream: int, function: Any, metadata: Any, *rest: Any) -> None:
            assert (y, z, stream, function, metadata) == (1, 1, 7, "function", "metadata")
            assert rest[:3] == (None, None, None)
            values = dict(zip([a.name for a in self.launch.arguments], rest[3:], strict=True))
            found.append(SimpleNamespace(function=self.launch.function, programs=x, values=values, launch=self.launch))

    driver = SimpleNamespace(active=SimpleNamespace(get_current_stream=lambda device: 7))
    monkeypatch.setattr("triton.runtime.driver", driver)
    monkeypatch.setattr(calls, "LoadedKernel", Loaded)
    monkeypatch.setattr(calls, "device_arch", lambda index=None: ARCHES["sm_90"])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for kernel in (load("add").add, load("matmul").matmul, scaled):
        kernel.forget_launches()
    yield found


def test_a_call_without_a_target(launches: list[SimpleNamespace]) -> None:
    add = load("add").add
    x, y, z = (on_device(torch.ones(10000)) for _ in range(3))
    for _ in range(2):
        add(x, y, z)
    assert [(n.function, n.programs) for n in launches] == [("add", 3), ("add", 3)]
    assert launches[0].values["x"] is x and launches[0].values["N"] == 10000
    add(x[:0], y[:0], z[:0])
    assert len(launches) == 2


def test_strides_alignment_and_grids(launches: list[SimpleNamespace]) -> None:
    matmul = load("matmul").matmul
    a = on_device(torch.ones(300, 64, dtype=torch.float16))
    b = on_device(torch.ones(200, 65, dtype=torch.float16)[:, :64].T)
    bias, c = on_device(torch.ones(200, dtype=torch.float16)), on_device(torch.ones(300, 200, dtype=torch.float16))
    matmul(a, b, bias, c, target="triton")
    (call,) = launches
    assert call.programs == 6 and call.launch.persistent
    assert {n: v for n, v in call.values.items() if isinstance(v, int)} == {
        "M": 300, "K": 64, "N": 200, "a_stride0": 64, "b_stride1": 65, "c_stride0": 200,
    }  # fmt: skip
    aligned = {argument.name for argument in call.launch.arguments if argument.aligned}
    assert {"K", "a_stride0"} <= aligned and not aligned & {"M", "N", "b_stride1", "c_stride0"}


@od.kernel
def scaled(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], factor: "T", count: od.i64, *, BLOCK: od.constexpr = 16):
    for i in od.parallel(range(0, count, BLOCK)):
        od.copy_out(od.copy_in(x[i : i + BLOCK]) * factor, y[i : i + BLOCK])


def test_scalars(launches: list[SimpleNamespace]) -> None:
    x, y = on_device(torch.ones(100, dtype=torch.bfloat16)), on_device(torch.ones(100, dtype=torch.bfloat16))
    scaled(x, y, 2, 100)
    scaled(x, y, 3.5, count=17)
    scaled(x, y, 3.5, count=-5)
    assert [(n.programs, n.values["factor"]) for n in launches] == [(7, 2.0), (2, 3.5)]
    with pytest.raises(od.ArgumentError, match="whole number"):
        scaled(x, y, 1, 2.5)


def test_in_place_and_overlapping(launches: list[SimpleNamespace]) -> None:
    add = load("add").add
    x = on_device(torch.ones(256))
    add(x, x, x)
    with pytest.raises(od.ArgumentError, match="overlaps 'x' in part"):
        add(x[:128], x[:128], x[64:192])
    add(x[:128], x[:128], x[128:])
    assert len(launches) == 2


def test_arguments_that_do_not_fit(launches: list[SimpleNamespace]) -> None:
    add = load("add").add
    x = on_device(torch.ones(8))
    with pytest.raises(od.ArgumentError, match="'y' is in the CPU's memory"):
        add(x, torch.ones(8), x)
    with pytest.raises(od.ShapeError):
        add(x, x[:4], x)
    with pytest.raises(od.DTypeError):
        add(x, x.double(), x)
    with pytest.raises(od.ArgumentError, match="requires a gradient"):
        add(x, on_device(torch.ones(8)).requires_grad_(), x)
    assert not launches


def test_descriptors_are_chosen_by_what_a_call_brings(launches: list[SimpleNamespace]) -> None:
    from opdsl.runtime.launch import KernelLaunch

    variant = KernelLaunch(load("matmul").matmul).variant("triton", {}, {"descriptors": 1})
    bias, c = on_device(torch.ones(48, dtype=torch.float16)), on_device(torch.ones(64, 48, dtype=torch.float16))
    for columns in (48, 49):
        a = on_device(torch.ones(64, 64, dtype=torch.float16))
        b = on_device(torch.ones(64, columns, dtype=torch.float16)[:, :48])
        variant.run_on_device([a, b, bias, c])
    first, second = (sorted(set(call.values)) for call in launches)
    assert first == second
    texts = [plan.kernel.generated.text for plan in variant._device_calls.plans.values()]
    assert ["b_blocks.load(" in text for text in texts] == [True, False]
    assert all("a_blocks.load(" in text for text in texts)


def test_memory_for_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton asks for it while a kernel is launched; an allocator that the program has set stays."""
    import triton
    from triton.runtime import _allocation  # type: ignore[import-untyped]

    from opdsl.targets.triton.device import _run_with_memory

    asked = []
    monkeypatch.setattr(torch, "empty", lambda size, **given: asked.append((size, given["device"])))

    def run(*arguments: Any) -> None:
        assert arguments == (1, 2)
        _allocation._allocator.get()(256, 128, None)

    def own(size: int, alignment: int, stream: int | None) -> Any:
        raise AssertionError("not for this launch")

    before = _allocation._allocator.get()
    triton.set_allocator(own)
    try:
        _run_with_memory(run, 1, 2)
        assert asked == [(256, "cuda")] and _allocation._allocator.get() is own
    finally:
        triton.set_allocator(before)
