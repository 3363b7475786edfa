"""Every wrong kernel and wrong call gives the message of the golden file: place, caret, remedy.

`pytest tests/null/test_frontend_errors.py --update-golden` writes the file anew; read the difference as a user would.
"""

from __future__ import annotations

import importlib.util
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import opdsl as od

FOLDER = Path(__file__).parent / "errors"
GOLDEN = FOLDER / "expected.txt"


def load(name: str) -> list[Callable[[], None]]:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.CASES)


CASES = [*load("wrong_kernels"), *load("wrong_calls")]


def error_of(case: Callable[[], None]) -> od.OpdslError:
    with pytest.raises(od.OpdslError) as caught:
        case()
    return caught.value


def shown(error: od.OpdslError) -> str:
    """The message with the folder's path left out and no line numbers of the case files, which shift."""
    text = re.sub(r"\S*errors/(wrong_\w+\.py)", r"\1", str(error))
    return f"{type(error).__name__}\n{text}\n"


def golden() -> dict[str, str]:
    if not GOLDEN.exists():
        return {}
    parts = GOLDEN.read_text().split("=== ")[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


def test_golden_messages(update_golden: bool) -> None:
    found = {case.__name__: shown(error_of(case)) + "\n" for case in CASES}
    assert len(found) == len(CASES) >= 40
    if update_golden:
        GOLDEN.write_text("".join(f"=== {name}\n{text}" for name, text in found.items()))
    expected = golden()
    assert list(expected) == list(found)
    for name, text in found.items():
        assert text == expected[name], name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_message_has_place_caret_and_remedy(case: Callable[[], None]) -> None:
    text = shown(error_of(case))
    assert re.search(r"^\S*:\d+:\d+: error: ", text, re.MULTILINE)
    assert re.search(r"^ +\| +\^+$", text, re.MULTILINE) or "cannot be read" in text
    assert re.search(r"^help: \S", text, re.MULTILINE)
    assert "defect of OpDSL" not in text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_traceback_shows_at_most_one_frame_of_ours(case: Callable[[], None]) -> None:
    error = error_of(case)
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "/opdsl/" in f.filename]
    assert len(ours) <= 2, ours
    assert error.__suppress_context__ or error.__context__ is None


def test_the_users_exception_is_chained() -> None:
    (case,) = [case for case in CASES if case.__name__ == "constexpr_code_raises"]
    cause = error_of(case).__cause__
    assert isinstance(cause, ZeroDivisionError)
    frames = traceback.extract_tb(cause.__traceback__)
    assert [frame.name for frame in frames] == ["fails"]
