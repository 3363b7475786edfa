"""What is known of an integer before the kernel runs: that it is never negative."""

from __future__ import annotations

from opdsl.ir.core import Value
from opdsl.targets.cpu.facts import Facts

# Results of these are not negative if no operand is. Sizes are far below where an i64 would wrap.
KEEPS_SIGN = frozenset({"add", "mul", "min", "max", "floordiv", "mod"})


def is_nonnegative(facts: Facts, value: Value) -> bool:
    """Whether an index is at least 0 for certain: slices that begin there need no check of their low end."""
    op = facts.op(value)
    if op is not None:
        if op.name == "constant":
            return bool(op.attributes["value"] >= 0)
        return op.name == "dim" or (op.name in KEEPS_SIGN and all(is_nonnegative(facts, o) for o in op.operands))
    parent = facts.parents[facts.block_of[value]]
    if parent is None or parent[0].name not in ("parallel", "for"):
        return False
    loop = parent[0]
    place = loop.regions[0].arguments.index(value)
    if loop.name == "for" and place > 0:
        return False  # a carried value
    start, _, step = loop.operands[3 * place : 3 * place + 3]
    step_op = facts.op(step)
    counts_up = step_op is not None and step_op.name == "constant" and step_op.attributes["value"] > 0
    return counts_up and is_nonnegative(facts, start)
