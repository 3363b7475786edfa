"""`opdsl profile --target npu`."""

import json

import pytest

from opdsl.cli.main import main

KERNEL = """
import opdsl as od


@od.kernel
def double(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, B: od.constexpr = 256):
    N = x.shape[0]
    for i in od.parallel(range(0, N, B)):
        od.copy_out(od.copy_in(x[i : i + B]) * 2, y[i : i + B])
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "double.py"
    path.write_text(KERNEL)
    return path


def test_profile_prints_a_page_and_writes_files(file, tmp_path, capsys):
    folder = tmp_path / "profile"
    options = [f"{file}:double", "--target", "npu:910b2", "--dtype", "T=f16", "--dim", "N=100000"]
    assert main(["profile", *options, "-o", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "double on 910b2" in text
    assert "hazards    none" in text
    assert (folder / "timeline.html").exists()
    assert "double.py:9" in (folder / "summary.txt").read_text()
    assert main(["profile", *options, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["us"] > 1
    assert record["hazards"] == []
