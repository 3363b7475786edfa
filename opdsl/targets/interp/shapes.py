"""Ops that only move elements of tiles."""

from __future__ import annotations

import numpy as np

from opdsl.ir.core import Op
from opdsl.ir.semantics.values import Array


def broadcast(op: Op, operands: list[Array]) -> Array:
    return np.broadcast_to(operands[0], op.attributes["shape"])


def reshape(op: Op, operands: list[Array]) -> Array:
    return operands[0].reshape(op.attributes["shape"])


def transpose(op: Op, operands: list[Array]) -> Array:
    return operands[0].transpose(op.attributes["permutation"])


def concat(op: Op, operands: list[Array]) -> Array:
    return np.concatenate(operands, axis=op.attributes["axis"])


def extract(op: Op, operands: list[Array]) -> Array:
    parts = []
    for start, size, step in zip(op.attributes["starts"], op.attributes["sizes"], op.attributes["steps"], strict=True):
        stop = start + size * step
        parts.append(slice(start, None if stop < 0 else stop, step))
    return operands[0][tuple(parts)]
