"""Environment variables as typed knobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import opdsl
from opdsl.support.knobs import KNOBS, KnobError, Knobs, knobs


def test_unset_and_empty_give_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPDSL_COMPILE_TIMEOUT", raising=False)
    assert knobs.compile_timeout == 600
    monkeypatch.setenv("OPDSL_COMPILE_TIMEOUT", "")
    assert knobs.compile_timeout == 600
    monkeypatch.setenv("OPDSL_COMPILE_TIMEOUT", "7")
    assert knobs.compile_timeout == 7


@pytest.mark.parametrize(("text", "expected"), [("4096", 4096), ("2G", 2 << 30), ("1.5m", 3 << 19), ("64KiB", 65536)])
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("OPDSL_MEMORY_CACHE_BYTES", text)
    assert knobs.memory_cache_bytes == expected


@pytest.mark.parametrize(("text", "expected"), [("0", False), ("no", False), ("1", True), ("True", True)])
def test_booleans(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool) -> None:
    monkeypatch.setenv("OPDSL_CACHE", text)
    assert knobs.cache is expected


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OPDSL_CACHE", "maybe"),
        ("OPDSL_COMPILE_TIMEOUT", "soon"),
        ("OPDSL_NUM_THREADS", "0"),
        ("OPDSL_SPIN_MICROSECONDS", "-1"),
        ("OPDSL_MEMORY_CACHE_BYTES", "lots"),
    ],
)
def test_wrong_values_name_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    knob = next(knob for knob in KNOBS.values() if knob.variable == variable)
    with pytest.raises(KnobError, match=f"{variable} is '{text}'"):
        getattr(knobs, knob.name)


def test_scope_overrides_nests_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPDSL_ISA", "avx2")
    start = knobs.generation
    with knobs.scope(isa="baseline"):
        assert knobs.isa == "baseline"
        with pytest.raises(ZeroDivisionError), knobs.scope(isa=None, verify=True):
            assert knobs.isa is None
            raise ZeroDivisionError
        assert knobs.isa == "baseline"
        assert knobs.verify is False
    assert knobs.isa == "avx2"
    assert knobs.generation == start + 4


def test_assignment_and_unknown_names() -> None:
    own = Knobs()
    own.isa = "neon"
    assert own.isa == "neon"
    assert own.generation == 1
    with pytest.raises(KnobError, match="there is no knob 'isas'; the knobs are cache_dir"), own.scope(isas="x"):
        pass


def test_no_variable_is_read_elsewhere() -> None:
    package = Path(opdsl.__file__).parent
    for path in package.rglob("*.py"):
        if path.name != "knobs.py":
            assert not re.search(r"""(environ|getenv)[^\n]*["']OPDSL_""", path.read_text()), path


def test_every_variable_has_one_knob_and_a_summary() -> None:
    assert len({knob.variable for knob in KNOBS.values()}) == len(KNOBS)
    assert all(knob.variable.startswith("OPDSL_") and knob.summary for knob in KNOBS.values())
