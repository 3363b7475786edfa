"""Times the composed dot kernels of gemm.cpp against torch and NumPy on one thread, interleaved in one process.

    taskset -c 1 python bench/sketches/gemm.py [repetitions]

Each line: the minimum over the repetitions, its share of the multiply-add probe of the same run, its speed relative to
torch. The box is often shared: repeat, and believe ratios only.
"""

import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
FLAGS = ["-O3", "-std=c++17", "-march=native", "-shared", "-fPIC", "-fwrapv", "-fno-math-errno",
         "-fno-trapping-math", "-ffp-contract=off", "-Wno-psabi"]
CUBES = [(n, n, n) for n in (256, 512, 1000, 1024, 2048)]


def load():
    target = Path(tempfile.mkdtemp()) / "gemm.so"
    simd = HERE.parents[1] / "csrc" / "simd"
    subprocess.run(["g++", *FLAGS, f"-I{simd}", str(HERE / "gemm.cpp"), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    library.probe_f32.restype = ctypes.c_int64
    return library


LIBRARY = load()
SPACE = np.zeros(1 << 27, np.uint8)  # large enough to get huge pages


def call(name, *arguments):
    """A function that calls the library. The arguments are converted here: it costs more than a small product."""
    function = getattr(LIBRARY, name)
    converted = [ctypes.c_void_p(x.data_ptr()) if isinstance(x, torch.Tensor) else ctypes.c_int64(x) for x in arguments]
    return lambda: function(*converted)


def compare(title, candidates, flops, repetitions):
    calls = max(1, int(1e8 / flops))
    best = dict.fromkeys([*candidates, "probe"], float("inf"))
    for _ in range(repetitions):
        start = time.perf_counter()
        done = LIBRARY.probe_f32(ctypes.c_int64(int(max(flops, 1e8) / 4 / 768)))
        best["probe"] = min(best["probe"], (time.perf_counter() - start) * flops / done)
        for name, candidate in candidates.items():
            start = time.perf_counter()
            for _ in range(calls):
                candidate()
            best[name] = min(best[name], (time.perf_counter() - start) / calls)
    print(f"{title}: probe {flops / best['probe'] / 1e9:.0f} GFLOP/s")
    for name in candidates:
        print(f"    {name:24} {best[name] * 1e3:9.3f} ms  {best['probe'] / best[name]:6.1%} of probe"
              f"  {best['torch'] / best[name]:5.2f} x torch", flush=True)


def float_product(m, n, k, b_transposed, repetitions):
    a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    if b_transposed:
        b = b.T.contiguous().T
    c, space = torch.empty(m, n), torch.from_numpy(SPACE)
    candidates = {"torch": lambda: torch.matmul(a, b, out=out),
                  "numpy": lambda: np.matmul(a.numpy(), b.numpy(), out=out.numpy())}
    if m <= 16 and b_transposed:
        candidates["dot_inner"] = call("inner_f32", a, k, b, b.stride(1), c, n, m, n, k)
    elif m <= 16:
        candidates["dot_rows"] = call("rows_f32", a, k, 1, b, n, c, n, m, n, k)
    else:
        for tile_n in (128, 256):
            candidates[f"tiles 128x{tile_n}, k 512"] = call(
                "matmul_f32", a, k, 1, b, *b.stride(), c, n, m, n, k, 128, tile_n, 512, 0, space)
    expected = a @ b
    for name in [name for name in candidates if name not in ("torch", "numpy")]:
        c.fill_(float("nan"))
        candidates[name]()
        assert torch.allclose(c, expected, atol=1e-2), name
    compare(f"f32 {m}x{n}x{k}{' B transposed' if b_transposed else ''}", candidates, 2.0 * m * n * k, repetitions)


def narrow_product(dtype, size, repetitions):
    integer = dtype == "i8"
    types = {"f16": torch.float16, "bf16": torch.bfloat16}
    if integer:
        a, b = (torch.randint(-128, 128, (size, size), dtype=torch.int8) for _ in "ab")
        candidates = {"torch": lambda: torch._int_mm(a, b)}
    else:
        a, b, out = torch.randn(size, size).to(types[dtype]), torch.randn(size, size).to(types[dtype]), None
        out = torch.empty(size, size, dtype=types[dtype])
        candidates = {"torch": lambda: torch.matmul(a, b, out=out)}
    c, space = torch.empty(size, size, dtype=torch.int32 if integer else torch.float32), torch.from_numpy(SPACE)
    shape = (a, size, 1, b, size, 1, c, size, size, size, size, 256, 256, 512)
    if hasattr(LIBRARY, "tiles_permitted") and LIBRARY.tiles_permitted():
        candidates["tiles (AMX)"] = call(f"tiles_{dtype}", *shape, space)
    if integer:
        candidates["quads (VNNI) or pairs"] = call("matmul_i8", *shape, space)
    else:
        candidates["widened to f32"] = call(f"matmul_{dtype}", *shape, 1, space)
    if dtype == "f16" and hasattr(LIBRARY, "half_f16"):
        candidates["f16 arithmetic"] = call("half_f16", *shape, space)
    compare(f"{dtype} {size} cube", candidates, 2.0 * size**3, repetitions)


def main():
    torch.set_num_threads(1)
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for shape in [*CUBES, (37, 53, 71), (4096, 4096, 64), (4096, 64, 4096), (512, 512, 64)]:
        float_product(*shape, False, repetitions * (10 if shape[0] <= 512 else 1))
    for shape in [(128, 4096, 4096), (8, 11008, 4096), (1, 4096, 4096)]:
        for b_transposed in (False, True):
            float_product(*shape, b_transposed, repetitions)
    for dtype in ("bf16", "f16", "i8"):
        for size in (1024, 2048):
            narrow_product(dtype, size, repetitions)


if __name__ == "__main__":
    main()
