"""The stub that editors read names what `import opdsl as od` offers."""

from __future__ import annotations

from support.public_interface import STUB, stub

import opdsl as od


def test_stub(update_golden: bool) -> None:
    if update_golden:
        STUB.write_text(stub())
    assert STUB.read_text() == stub(), "`pytest tests/null/test_public_interface.py --update-golden` renews it"


def test_every_name_loads() -> None:
    for name in od.__all__:
        assert getattr(od, name) is not None
        assert name in dir(od)
