"""The arguments of a kernel as the program sees them: tensors, and registers that have their values from the start."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.ir.core import Kernel
from opdsl.ir.types import TensorType
from opdsl.npu.statements import Operand, Parameter, Register, Tensor


class TensorParameter:
    """A tensor argument: sizes and strides are numbers where they are known."""

    def __init__(self, owner: Parameters, tensor: Tensor, type: TensorType, unit_axis: int | None) -> None:
        self._owner = owner
        self.tensor = tensor
        self.type = type
        self.unit_axis = unit_axis
        self.name = tensor.name

    def dim(self, axis: int) -> Operand:
        size = self.type.dims[axis]
        return size if isinstance(size, int) else self._owner.size(size)

    def stride(self, axis: int) -> Operand:
        """In elements."""
        return 1 if axis == self.unit_axis else self._owner.register("stride", self.tensor, axis)


class Parameters:
    def __init__(self, kernel: Kernel, unit_axes: Sequence[int | None]) -> None:
        self.list: list[Parameter] = []
        self.tensors: list[Tensor] = []
        self._registers: dict[tuple[str, int, int], Register] = {}
        self._dims: dict[str, tuple[Tensor, int]] = {}
        self.by_place: list[TensorParameter | Register] = []
        for name, value, unit in zip(kernel.parameter_names, kernel.parameters, unit_axes, strict=True):
            if isinstance(value.type, TensorType):
                tensor = Tensor(len(self.tensors), name, value.type.dtype.name, "argument", len(value.type.dims))
                self.tensors.append(tensor)
                for axis, dim in enumerate(value.type.dims):
                    if isinstance(dim, str):
                        self._dims.setdefault(dim, (tensor, axis))
                self.by_place.append(TensorParameter(self, tensor, value.type, unit))
            else:
                register = Register("f64" if value.type.dtype.is_float else "i64", name)
                self.list.append(Parameter(register, "scalar", name=name))
                self.by_place.append(register)

    def size(self, symbol: str) -> Register:
        tensor, axis = self._dims[symbol]
        return self.register("dim", tensor, axis, symbol)

    def register(self, kind: str, tensor: Tensor | None = None, axis: int = 0, hint: str = "") -> Register:
        key = (kind, tensor.index if tensor else -1, axis)
        if key not in self._registers:
            label = hint or (f"{tensor.name}.{kind}{axis}" if tensor else kind)
            self._registers[key] = Register("i64", label)
            self.list.append(Parameter(self._registers[key], kind, tensor, axis))  # type: ignore[arg-type]
        return self._registers[key]
