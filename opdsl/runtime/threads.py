"""How many threads a launch uses."""

from __future__ import annotations

import operator

from opdsl import _runtime


def get_num_threads() -> int:
    """The threads that a launch uses, the calling one included."""
    return _runtime.get_num_threads()


def set_num_threads(count: int) -> None:
    """Sets the threads that launches use from now on, in the whole process. Results do not depend on it."""
    number = operator.index(count)
    if number < 1:
        raise ValueError(f"set_num_threads: expected a whole number from 1 up, got {count!r}")
    _runtime.set_num_threads(number)
