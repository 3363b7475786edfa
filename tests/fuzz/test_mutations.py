"""Whatever a user writes, the front end gives verified IR or an error with a place and a remedy: nothing internal."""

from __future__ import annotations

import importlib.util
import random
import warnings
from pathlib import Path

import pytest
from support.pages import program

import opdsl as od
from fuzz.mutations import mutants
from opdsl.ir.verifier import verify

EXAMPLES = [program("language.md")]


@pytest.mark.parametrize("seed", range(4))
def test_mutants_compile_or_give_an_error(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(seed)
    compiled = 0
    for number, (name, text) in enumerate(mutants(EXAMPLES, seed, 150)):
        path = tmp_path / f"mutant_{number}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            try:
                spec.loader.exec_module(module)
            except (SyntaxError, TypeError):
                continue  # Python itself refuses it
        kernel = getattr(module, name)
        given = {c for c in kernel.signature.constexprs if c not in kernel.signature.defaults}
        constexprs = dict.fromkeys(given, 6)
        dtypes = {v: chance.choice((od.f32, od.f16, od.i32, od.u8, od.bool)) for v in kernel.signature.dtype_variables}
        try:
            verify(kernel.lower(**dtypes, **constexprs))
            compiled += 1
        except od.OpdslError as error:
            shown = str(error)
            assert "help: " in shown and "defect" not in shown, f"seed {seed}, mutant {number}:\n{text}\n{shown}"
    assert compiled
