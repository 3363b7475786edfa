"""What to install for an optional part of OpDSL."""

from __future__ import annotations

import re


def install_help(extra: str) -> str:
    """The command that installs what an extra needs, by the packages' own names: it works beside a checkout as beside a
    wheel, and asks no registry for OpDSL, which none has."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        declared = requires("opdsl") or []
    except PackageNotFoundError:  # imported from a folder
        declared = []
    wanted = [text.partition(";")[0].strip() for text in declared if re.search(rf"extra == ['\"]{extra}['\"]", text)]
    if not wanted:
        return f"see the extra {extra!r} in pyproject.toml"
    return "pip install " + " ".join(f'"{name}"' for name in wanted)
