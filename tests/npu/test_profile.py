"""The files of a profile: what stands in them, and that they agree with the run."""

import csv
import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from programs import gemm, vector_add

from opdsl import npu
from opdsl.npu.profile import write_profile
from opdsl.npu.summary import bound_by, summary
from opdsl.support.errors import OpdslError


def product(**how):
    arrays: list[Any] = [
        np.ones((256, 512), np.float16),
        np.ones((512, 512), np.float16),
        np.zeros((256, 512), np.float32),
    ]
    return npu.run(gemm(), arrays, **how)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    result = product(trace=True)
    return result, folder, write_profile(result, folder)


def test_all_files_are_there(written):
    _, _, files = written
    assert {file.name for file in files} == {
        "summary.txt",
        "trace.json",
        "timeline.html",
        "OpBasicInfo.csv",
        "PipeUtilization.csv",
        "ArithmeticUtilization.csv",
        "Memory.csv",
        "MemoryL0.csv",
        "MemoryUB.csv",
        "L2Cache.csv",
        "ResourceConflictRatio.csv",
    }


def test_the_trace_has_every_instruction(written):
    result, folder, _ = written
    trace = json.loads((folder / "trace.json").read_text())
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    mmads = [event for event in spans if event["name"] == "mmad"]
    assert len(mmads) == 2 * 2 * 512 // 64
    assert all("programs.py" in event["args"]["line"] for event in spans)
    assert max(event["ts"] + event["dur"] for event in spans) <= result.microseconds
    # No pipe but those that overlap their start-ups does two things at once.
    cube = sorted((event["ts"], event["dur"]) for event in mmads if event["pid"] == 0)
    assert all(a + d <= b + 0.01 for (a, d), (b, _) in pairwise(cube))


def test_the_tables_agree_with_the_run(written):
    result, folder, _ = written
    rows = list(csv.DictReader((folder / "PipeUtilization.csv").open()))
    assert len(rows) == len(result.cores)
    assert float(rows[0]["cube_time(us)"]) == pytest.approx(result.cores[0].pipes["M"].busy / 1800, abs=1e-3)
    memory = list(csv.DictReader((folder / "Memory.csv").open()))
    assert sum(float(row["read_main_memory_datas(KB)"]) for row in memory) * 1024 == result.read_bytes
    (basic,) = csv.DictReader((folder / "OpBasicInfo.csv").open())
    assert float(basic["Task Duration(us)"]) == pytest.approx(result.microseconds, abs=1e-3)


def test_the_page_needs_nothing_else(written):
    _, folder, _ = written
    page = (folder / "timeline.html").read_text()
    assert "/*DATA*/null" not in page
    assert not re.search(r'(src|href)\s*=\s*"', page)
    data = json.loads(re.search(r"const DATA = (.*);\n", page).group(1).replace("<\\/", "</"))
    assert data["kernel"] == "gemm"
    assert {row["pipe"] for row in data["rows"]} >= {"M", "MTE1", "MTE2", "FIX"}


def test_the_summary_says_what_bounds():
    large = [npu.ShapeOnly((4096, 4096), dtype) for dtype in ("f16", "f16", "f32")]
    assert bound_by(npu.run(gemm(), large, values=False)).startswith("memory")
    small = [npu.ShapeOnly((1000,), "f32")] * 3
    assert bound_by(npu.run(vector_add(), small, values=False)).startswith("the launch")
    text = summary(product())
    assert "hazards    none" in text
    assert "k.mmad(" in text


def test_a_profile_needs_a_trace(tmp_path):
    with pytest.raises(OpdslError, match="trace=True"):
        write_profile(product(), tmp_path)
