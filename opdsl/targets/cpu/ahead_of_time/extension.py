"""The pybind11 extension of a library: NumPy arrays in, checked, and a Python exception for every status."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.targets.ahead_of_time.interface import NUMPY_TYPES, STAND_INS, Interface, Scalar, Tensor, shown_value
from opdsl.targets.cpu.ahead_of_time.glue import text


def documentation(interface: Interface) -> str:
    """The docstring of a function, for Python."""
    lines = [interface.summary or f"The kernel {interface.kernel}, from {interface.file}:{interface.line}.", ""]
    for parameter in interface.parameters:
        if isinstance(parameter, Tensor):
            kind = f"{NUMPY_TYPES[parameter.dtype.name]} array {parameter.shape_text}, {parameter.access}"
        else:
            kind = f"{parameter.dtype} scalar"
        lines.append(f"    {parameter.name}: {kind}")
    compiled = {**interface.dtypes, **{n: shown_value(v) for n, v in interface.constexprs.items()}}
    if compiled:
        lines += ["", "Compiled for " + ", ".join(f"{name} = {value}" for name, value in compiled.items()) + "."]
    return "\n".join(lines)


def _parameter(interface: Interface, tensor: Tensor) -> str:
    stand_in = STAND_INS.get(tensor.dtype)
    dims = ", ".join(map(str, interface.dims_of(tensor)))
    return (
        f"{{{text(tensor.name)}, {text(NUMPY_TYPES[tensor.dtype.name])}, {text(stand_in) if stand_in else 'nullptr'}, "
        f"{'true' if tensor.writes else 'false'}, {{{dims}}}}}"
    )


def _default(scalar: Scalar) -> str:
    value = scalar.default
    if scalar.dtype.is_bool:
        return "true" if value else "false"
    number = repr(float(value)) if scalar.dtype.is_float else f"{int(value)}"
    special = {"inf": "__builtin_inf()", "-inf": "-__builtin_inf()", "nan": '__builtin_nan("")'}
    return f"{scalar.c_type}({special.get(number, number)})"


def _function(library: str, interface: Interface) -> list[str]:
    arguments, names, passed = [], [], []
    lines: list[str] = []
    for parameter in interface.parameters:
        label = f"py::arg({text(parameter.name)})"
        if isinstance(parameter, Tensor):
            variable = f"a_{parameter.c_name}"
            arguments.append(f"const py::object& {variable}")
            pointer = "auto*"
            lines += [
                f"      std::vector<int64_t> {variable}_strides;",
                f"      static const opdsl_python::Parameter {variable}_parameter{_parameter(interface, parameter)};",
                f"      {pointer} {variable}_data = call.take({variable}, {variable}_parameter, {variable}_strides);",
            ]
            passed.append(f"static_cast<{_element(parameter)}*>({variable}_data), {variable}_strides.data()")
        else:
            variable = f"s_{parameter.c_name}"
            arguments.append(f"{parameter.c_type} {variable}")
            label += f" = {_default(parameter)}" if parameter.has_default else ""
            passed.append(variable)
        names.append(label)
    passed += [f"call.size({place})" for place in range(len(interface.sizes))]
    sizes = ", ".join(text(size) for size in interface.sizes)
    return [
        f"  module.def({text(interface.kernel)}, []({', '.join(arguments)}) {{",
        f"      opdsl_python::Call call({text(interface.kernel)}, {{{sizes}}});",
        *lines,
        "      int32_t status;",
        "      {",
        "        py::gil_scoped_release release;",
        f"        status = {interface.function}({', '.join(passed)});",
        "      }",
        f"      opdsl_python::finish(status, {library}_message(status));",
        f"    }}, {''.join(name + ', ' for name in names)}{text(documentation(interface))});",
    ]


def _element(tensor: Tensor) -> str:
    from opdsl.targets.ahead_of_time.interface import C_TYPES

    return C_TYPES[tensor.dtype.name]


def extension(library: str, interfaces: Sequence[Interface], version: str) -> str:
    """The extension's C++ file."""
    lines = [
        f"// The Python extension `{library}`, written by `opdsl build`.",
        f'#include "{library}.h"',
        '#include "runtime/library_python.h"',
        "",
        "namespace py = pybind11;",
        "",
        f"PYBIND11_MODULE({library}, module) {{",
        f"  module.doc() = {text(f'Kernels compiled ahead of time by OpDSL {version}.')};",
    ]
    for interface in interfaces:
        lines += _function(library, interface)
    lines += [
        f'  module.def("set_threads", [](int32_t count) {{ {library}_set_threads(count); }}, py::arg("count"),',
        '             "The threads that a call uses from now on, the calling one included.");',
        f'  module.def("threads", [] {{ return {library}_threads(); }}, "The threads that a call uses.");',
        f'  module.def("isa", [] {{ return std::string({library}_isa()); }}, "The instruction set in use.");',
        '  module.def("set_isa", [](const std::string& isa) {',
        f"      const int32_t status = {library}_set_isa(isa.empty() ? nullptr : isa.c_str());",
        f"      opdsl_python::finish(status, {library}_message(status));",
        '    }, py::arg("isa"), "Another instruction set, for tests; an empty text takes the best again.");',
        f'  module.def("trim", [] {{ {library}_trim(); }}, "Gives kept workspaces back to the system.");',
        "}",
        "",
    ]
    return "\n".join(lines)
