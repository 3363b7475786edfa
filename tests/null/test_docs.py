"""README.md and docs/: links lead somewhere, files that are named exist, the README's examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import opdsl as od

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Names of files in backticks or plain text: with a folder that the repository has, or one that a page says it is about.
FOLDERS = ("opdsl", "csrc", "ops", "bench", "tests", "docs", "examples", ".ci")
NAMED = re.compile(rf"(?<![\w/.-])((?:{'|'.join(re.escape(f) for f in FOLDERS)})/[\w./-]*\w)")
BARE = re.compile(r"`([\w-]+\.(?:py|h|cpp|toml|md))`")
ABOUT_THE_TREE = ("architecture", "cpu-target", "adding-a-target", "ir", "dot")  # other pages name the reader's files, too
SUFFIXES = (".py", ".h", ".cpp", ".toml", ".md", ".txt", ".pyi")


def identifier(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its examples: those name files of the reader's."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_links(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(file), f"{target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_named_files_exist(page: Path) -> None:
    text = LINK.sub("", prose(page))
    for name in NAMED.findall(text):
        matches = list(ROOT.glob(name)) or list(ROOT.glob(f"{name}.*"))
        assert matches or "SUITE" in name, f"{name} does not exist"
    known = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES}
    known |= {path.name for path in ROOT.iterdir()}
    for name in BARE.findall(text) if page.stem in ABOUT_THE_TREE else ():
        assert name in known, f"`{name}` does not exist"


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_no_paths_of_one_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users|tmp)/", page.read_text())


def test_architecture_names_every_folder_and_file() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for folder in ("opdsl", "csrc"):
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT).as_posix()
            if path.is_dir() and any(path.glob("*.[pch]*")) and "__pycache__" not in inside:
                assert path.name in text, f"docs/architecture.md does not mention {inside}"


def test_cpu_page_names_every_file() -> None:
    text = (ROOT / "docs" / "cpu-target.md").read_text()
    for path in (ROOT / "opdsl" / "targets" / "cpu").glob("*.py"):
        if path.name not in ("__init__.py", "assembly.py", "reports.py", "target.py"):
            assert f"`{path.name}`" in text, f"docs/cpu-target.md does not mention {path.name}"


def test_every_command_is_in_the_readme() -> None:
    from opdsl.cli.main import available_commands

    text = (ROOT / "README.md").read_text()
    for name in available_commands():
        assert f"opdsl {name}" in text or f"make {name}" in text


def readme_examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("target", ["interp", "cpu"])
def test_the_first_example_runs(target: str, tmp_path: Path) -> None:
    """As a user types it: a file of its own, a process of its own."""
    example = readme_examples()[0]
    assert example.count("\n") <= 20
    path = tmp_path / "example.py"
    path.write_text(example)
    command = [sys.executable, "-c", f"import opdsl, runpy; opdsl.knobs.target = {target!r}; runpy.run_path({str(path)!r})"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = re.search(r"largest difference from NumPy: (\S+)", result.stdout)
    assert found is not None
    assert float(found.group(1)) < 1e-3


def test_the_second_example_runs() -> None:
    import numpy as np

    random = np.random.default_rng(0)
    x, weight, bias = (random.standard_normal(shape, np.float32) for shape in ((30, 40), (50, 40), (50,)))
    names = {"x": x, "weight": weight, "bias": bias, "z": np.empty((30, 50), np.float32)}
    with od.knobs.scope(target="interp"):
        exec(readme_examples()[1], names)  # noqa: S102
    np.testing.assert_allclose(names["y"].sum(axis=-1), 1, rtol=1e-5)
    assert np.isfinite(names["z"]).all()


def test_results_block() -> None:
    from opdsl.bench.readme_results import BEGIN, END, replaced

    text = (ROOT / "README.md").read_text()
    changed = replaced(text, "| a |\n")
    assert f"{BEGIN}\n| a |\n{END}" in changed
    assert replaced(changed, text.partition(BEGIN)[2].partition(END)[0]) == text
    with pytest.raises(ValueError, match="needs one line"):
        replaced("no marks", "")


def test_results_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from opdsl.bench import readme_results
    from opdsl.bench.rows import BarResult, Row, write

    header = {"kind": "header", "device": "A processor", "isa": "avx2", "threads": 1, "time": "2026-01-02T03:04:05Z",
              "command": "opdsl bench all", "compiler": "gcc 12", "versions": {"numpy": "2", "torch": "3"}}  # fmt: skip
    rows = [
        Row("matmul", "matmul", shape, "f32", 1, "opdsl", ms_min=1.0, ratio=min(ratios), roof_pct=90.0, correct=True,
            ratios=dict(zip(("torch", "numpy"), ratios, strict=True)))
        for shape, ratios in (("2x2", (0.5, 4.0)), ("3x3", (2.0, 1.0)))
    ]  # fmt: skip
    compiling = Row("compile", "cold_compile", "add", "f32", 1, "opdsl", ms_min=120.0)
    bars = [BarResult("matmul", "worst", 0.5, ">= 0.85", False), BarResult("matmul", "mean", 1.5, ">= 1", True)]
    path = tmp_path / "results.jsonl"
    write(path, header, [*rows, compiling, *bars])
    assert readme_results.main(["--print", str(path)]) == 0
    text = capsys.readouterr().out
    assert "| matmul | f32 | 2 | 1.00 | 2.00 | 0.50 (2x2) | 90 |" in text
    assert "A processor, avx2, 1 thread, gcc 12, torch 3, numpy 2, 2026-01-02: `opdsl bench all`" in text
    assert "1 of 2 reached" in text
    assert "matmul: worst >= 0.85, found 0.5" in text
    assert "| cold_compile | add | 120 ms | - |" in text
    page = tmp_path / "page.md"
    page.write_text(f"before\n{readme_results.BEGIN}\n{readme_results.END}\nafter\n")
    assert readme_results.main([str(path), "--readme", str(page)]) == 0
    assert "cold_compile" in page.read_text()
    page.write_text("nothing")
    assert readme_results.main([str(path), "--readme", str(page)]) == 2
