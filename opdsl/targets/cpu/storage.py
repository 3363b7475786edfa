"""Which tile values are kept in local memory rather than evaluated where they are used."""

from __future__ import annotations

from opdsl.analysis.facts import CHEAP, CONTROL_OPS, Facts, is_inline, own_cost, tensor_of
from opdsl.ir.core import Op, Region, Value, walk
from opdsl.ir.types import shape_of
from opdsl.targets.cpu.dot_operands import widened_view

LOOPS = frozenset({"for", "while", "parallel"})


def choose_stored(facts: Facts) -> set[Value]:
    """The results of inline tile ops that get memory at the place where they are defined."""
    stored: set[Value] = set()
    roots: dict[Value, set[tuple[Op, Region]]] = {}
    costs: dict[Value, int] = {}
    for op in walk(facts.kernel.body):  # definitions come before their users
        for result in op.results:
            if is_inline(op):
                costs[result] = own_cost(op) + sum(costs.get(operand, 0) for operand in op.operands)
    for op in reversed(list(walk(facts.kernel.body))):
        if not is_inline(op):
            continue
        value = op.result
        users = roots[value] = set()
        for user, region in facts.users[value]:
            if is_inline(user) and user.result not in stored:
                users |= roots[user.result]
            else:
                users.add((user, region))
        if _must_store(facts, op, value, costs[value], users):
            stored.add(value)
    return stored


def _must_store(facts: Facts, op: Op, value: Value, cost: int, users: set[tuple[Op, Region]]) -> bool:
    if op.name == "copy_in" and facts.may_change(tensor_of(op)):
        return True
    direct = [user for user, _ in facts.users[value]]
    whole = any(user.name in ("dot", "sort", "concat", "print", "assert") for user in direct)
    if whole and (any(user.name != "dot" for user in direct) or widened_view(facts, value) is None):
        return True
    if any(user.name == "reshape" and not is_inline(user) for user in direct):
        return True
    expensive = own_cost(op) > CHEAP
    if expensive and any(user.name == "broadcast" and _expands(user) for user in direct):
        return True
    if len(users) > 1 and cost > CHEAP:
        return True
    return bool(cost > 3 and any(_inside_loop(facts, facts.block_of[value], region) for _, region in users))


def _expands(op: Op) -> bool:
    before, after = shape_of(op.operands[0].type), shape_of(op.result.type)
    return len([n for n in before if n != 1]) < len([n for n in after if n != 1])


def _inside_loop(facts: Facts, home: Region, region: Region) -> bool:
    """Whether a loop lies between where a value is defined and where it is used."""
    while region is not home:
        parent = facts.parents[region]
        if parent is None:
            return False
        if parent[0].name in LOOPS:
            return True
        region = parent[1]
    return False


__all__ = ["CONTROL_OPS", "choose_stored"]
