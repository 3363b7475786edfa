"""A vector core that loads arrays into UB, runs what a test wants, and stores UB again."""

from collections.abc import Callable
from typing import Any

import numpy as np

from opdsl import npu
from opdsl.ir.numpy_types import dtype_name


def name_of(array: np.ndarray) -> str:
    name = dtype_name(array.dtype)
    assert name is not None
    return name


def on_vector_core(
    inputs: list[np.ndarray],
    output: np.ndarray,
    body: Callable[[Any, list[npu.Local], npu.Local], None],
    chip: str = "910b2",
    **settings: Any,
) -> npu.Result:
    """Runs `body(builder, places of the inputs, place of the output)` on one vector core. All arrays are flat, of whole
    32-byte blocks; the output's place holds `output` before, and `output` is what it holds afterwards."""
    k = npu.Builder("test", chip)
    arguments = [k.argument(f"x{i}", name_of(x)) for i, x in enumerate(inputs)]
    result = k.argument("out", name_of(output))
    with k.code("aiv" if k.chip.split else "core"), k.if_((k.block_idx + k.sub_block_idx) == 0):
        places = [k.allocate("UB", x.nbytes, name_of(x), f"x{i}") for i, x in enumerate(inputs)]
        out = k.allocate("UB", output.nbytes, name_of(output), "out")
        for place, argument, array in zip([*places, out], [*arguments, result], [*inputs, output], strict=True):
            k.data_copy(place, argument, block_len=array.nbytes // 32)
        k.set_flag("MTE2_V", 0)
        k.wait_flag("MTE2_V", 0)
        body(k, places, out)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        k.data_copy(result, out, block_len=output.nbytes // 32)
    return npu.run(k.finish(block_num=1), [*inputs, output], **settings)
