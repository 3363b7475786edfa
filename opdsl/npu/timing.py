"""A chip's file as the numbers that the emulator computes with: bandwidths in bytes a cycle, all in one flat dict."""

from __future__ import annotations

from typing import Any

from opdsl.npu.chip import Chip

SCALAR_COSTS = (
    "issue",
    "alu",
    "multiply",
    "divide",
    "f32",
    "f64",
    "function",
    "ub",
    "gm_hit",
    "gm_l2",
    "gm_hbm",
    "branch",
)


def emulator_numbers(chip: Chip) -> dict[str, Any]:
    data = chip.data
    memory, scalar, sync, launch = data["memory"], data["scalar"], data["sync"], data["launch"]

    def bytes_a_cycle(gigabytes: float) -> float:
        return gigabytes * 1e3 / chip.clock_mhz

    return {
        "split": chip.split,
        "clock_mhz": chip.clock_mhz,
        "vector_cores": chip.vector_cores_per_block,
        "sizes": dict(chip.buffers),
        "paths": data["paths"],
        "vector": data["vector"],
        "vector_mask_penalty": data["vector_unit"]["mask_penalty"],
        "bank_groups": data["vector_unit"]["bank_groups"],
        "burst_bytes": memory["burst_bytes"],
        "granule_bytes": memory["granule_bytes"],
        "l2_bytes": int(memory["l2_mib"] * 2**20),
        "l2_line": memory["l2_line"],
        "l2_read": bytes_a_cycle(memory["l2_read_gbs"]),
        "l2_write": bytes_a_cycle(memory["l2_write_gbs"]),
        "hbm": bytes_a_cycle(memory["hbm_gbs"]),
        "l2_miss": memory["l2_miss"],
        "miss_rate": memory["miss_rate"],
        "unaligned_rate": memory["unaligned_rate"],
        "cube_issue": data["cube"]["issue"],
        "cube_latency": data["cube"]["latency"],
        "cube_f32_factor": data["cube"]["f32_factor"],
        **{f"scalar_{name}": scalar[name] for name in SCALAR_COSTS},
        "data_cache_bytes": scalar["data_cache_kib"] * 1024,
        "data_cache_line": scalar["data_cache_line"],
        **sync,
        "launch": launch["start"],
        "launch_each": launch["each"],
        "finish": launch["finish"],
        "mixed": launch["mixed"],
    }
