"""The tables of Python and of C++ agree; programs print; chips load."""

import pytest
from programs import gemm

from opdsl import _npu, npu
from opdsl.ir.types import DTYPES
from opdsl.npu.instructions import INSTRUCTIONS
from opdsl.npu.scalars import CONVERSIONS, FLOAT_OPS, INTEGER_OPS
from opdsl.npu.statements import BUFFERS, PIPES, Issue


def test_tables_agree():
    assert set(INSTRUCTIONS) == set(_npu.INSTRUCTIONS[: len(INSTRUCTIONS)])
    assert list(INTEGER_OPS) == _npu.INTEGER_OPS
    assert set(FLOAT_OPS) == set(_npu.FLOAT_OPS)
    assert set(CONVERSIONS) == set(_npu.CONVERSIONS)
    assert list(DTYPES) == _npu.DTYPES
    assert [*PIPES, "ALL"] == _npu.PIPES
    assert list(BUFFERS) == _npu.SPACES


@pytest.mark.parametrize("name", npu.chip_names())
def test_chips(name):
    chip = npu.find_chip(name)
    assert chip.split == ("910b" in name)
    assert chip.buffers["UB"] > 0
    assert set(chip.kinds) == ({"aic", "aiv"} if chip.split else {"core"})
    with pytest.raises(npu.NpuError, match="needs 1000000 bytes"):
        k = npu.Builder("big", chip)
        with k.code("aiv" if chip.split else "core"):
            k.allocate("UB", 1_000_000, "f32", "big")


def test_an_unknown_chip():
    with pytest.raises(Exception, match="did you mean '910b2'"):
        npu.find_chip("910b22")


def test_a_program_prints_with_places_and_lines():
    text = str(gemm())
    assert "aic L1" in text
    assert "MTE1  load_data_3d" in text
    assert "M     mmad L0C cl0[0] f32" in text
    assert "for tile in block_idx" in text


def test_a_program_without_an_instruction():
    program = gemm()
    issue = next(s for s in program.codes["aic"].body if isinstance(s, Issue))
    less = program.without(issue)
    assert str(less).count("set_flag") == str(program).count("set_flag") - 1
