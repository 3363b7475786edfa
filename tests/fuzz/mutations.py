"""Wrong kernels made by chance: right ones with expressions and statements exchanged."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator, Sequence

EXPRESSIONS = (
    *(
        "None",
        "-1",
        "0",
        "2.5",
        "True",
        "'s'",
        "...",
        "1e400",
        "2**70",
        "(1, 2)",
        "[1]",
        "{}",
        "slice(1, 2)",
        "range(4)",
    ),
    *("x", "x.shape", "x[0:8]", "x[:]", "n", "i", "f'{x}'", "od", "od.f32", "od.exp", "od.sum", "od.copy_in"),
    *("od.arange(4)", "od.full((2, 3), 1.0, od.f64)", "od.parallel(range(3))", "lambda t: t", "x.shape[0] > 3"),
)


def kernels_of(text: str) -> list[tuple[list[ast.stmt], ast.FunctionDef]]:
    """The kernels of a program, each with the functions and constants that stand before it."""
    tree = ast.parse(text)
    found = []
    helpers: list[ast.stmt] = []
    for node in tree.body:
        decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
        if isinstance(node, ast.FunctionDef) and decorators == ["od.kernel"]:
            found.append((list(helpers), node))
        elif decorators == ["od.function"] or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
            helpers.append(node)
    return found


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old = old
        self.new = new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _expressions(body: Sequence[ast.stmt]) -> list[ast.expr]:
    nodes = ast.walk(ast.Module(list(body), []))
    return [n for n in nodes if isinstance(n, ast.expr) and not isinstance(getattr(n, "ctx", None), ast.Store)]


def mutants(texts: Sequence[str], seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(kernel's name, program) for each of `count` mutants of the kernels in some programs."""
    chance = random.Random(seed)
    kernels = [kernel for text in texts for kernel in kernels_of(text)]
    pool = [e for _, kernel in kernels for e in _expressions(kernel.body)]
    simple = [ast.parse(text, mode="eval").body for text in EXPRESSIONS]
    for _ in range(count):
        helpers, original = chance.choice(kernels)
        kernel = copy.deepcopy(original)
        for _ in range(chance.choice((1, 1, 2))):
            expressions = _expressions(kernel.body)
            statements = [n for n in ast.walk(ast.Module(kernel.body, [])) if isinstance(n, ast.stmt)]
            if not expressions:
                break
            old: ast.AST = chance.choice(expressions)
            new: ast.AST = chance.choice(simple if chance.random() < 0.5 else pool)
            if chance.random() < 0.2:
                old = chance.choice(statements)
                new = chance.choice([ast.Pass(), *chance.choice(kernels)[1].body])
            kernel.body = [_Replace(old, copy.deepcopy(new)).visit(s) for s in kernel.body]
        module = ast.fix_missing_locations(ast.Module([*copy.deepcopy(helpers), kernel], []))
        yield kernel.name, f"import numpy as np\nimport opdsl as od\n\n{ast.unparse(module)}\n"
