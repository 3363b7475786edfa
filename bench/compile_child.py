"""A process that compiles or loads one kernel and says how long each step took, as a line of JSON.

Run as a file, with the kernel's file, its name, and "first" or nothing: it must import nothing of the suite, whose own
imports would be measured.
"""

import json
import sys
import time

start = time.perf_counter()
import numpy as np  # noqa: E402 - what comes with the package is measured apart

numpy_done = time.perf_counter()
import opdsl as od  # noqa: E402

imported = time.perf_counter()


def arguments(name: str) -> tuple[list[object], dict[str, object]]:
    """Arguments of an acceptance kernel, of its own tiles' sizes or near them."""
    rows, n = np.ones((64, 1024), np.float32), np.ones(4096, np.float32)
    square = np.ones((256, 256), np.float32)
    if name == "add":
        return [n, n, np.empty_like(n)], {}
    if name == "softmax":
        return [rows, np.empty_like(rows)], {}
    if name == "layer_norm":
        return [rows, rows[0].copy(), rows[0].copy(), np.empty_like(rows), 1e-5], {}
    if name == "matmul":
        return [square, square, square[0].copy(), np.empty_like(square)], {}
    if name == "flash_attention":
        q = np.ones((1, 2, 128, 64), np.float32)
        return [q, q, q, np.empty_like(q), np.empty(q.shape[:3], np.float32), 0.125], {"causal": True}
    if name == "conv2d":
        x, w = np.ones((1, 14, 14, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)
        return [x, w, np.empty_like(x)], {"KH": 3, "KW": 3, "padding": 1}
    raise ValueError(f"no arguments are known for the kernel {name}")


def main() -> None:
    import importlib.util

    result = {"import": imported - start, "import_numpy": numpy_done - start}
    if len(sys.argv) > 2:
        positional, named = arguments(sys.argv[2])
        od.get_num_threads()
        begin = time.perf_counter()
        spec = importlib.util.spec_from_file_location("kernel_file", sys.argv[1])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        kernel = getattr(module, sys.argv[2])
        declared = time.perf_counter()
        kernel(*positional, **named)
        called = time.perf_counter()
        kernel(*positional, **named)
        again = time.perf_counter()
        result |= {"declare": declared - begin, "first": called - declared, "second": again - called}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
