"""Flash attention on cube and vector cores: the cube multiplies q by k and p by v, the vector cores have the softmax.

Cores exchange through global memory (the L2 holds it). The cube is tiles of keys ahead: it multiplies q by the next k while
the vector cores work on this one, as hicann/pto-isa (kernels/manual/common/flash_atten) and CANN's operator do.
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.addresses import Global, Local
from opdsl.npu.chip import Chip
from opdsl.npu.scalars import ScalarLike

from .gemm import ceil_div, round_up
from .vector import Vector

UNIT = 128
"""Rows and columns of a piece of L0C; it holds two."""
AHEAD = 2
"""Tiles of keys by which the first product is ahead of the second."""
SLOTS = AHEAD + 1
S_READY, P_READY, O_READY = 0, 1, 2
"""Cross-core flags: scores, probabilities, and products with v lie in global memory."""


@dataclass(frozen=True)
class Problem:
    """q (batch, queries, heads, depth), k and v (batch, keys, kv_heads, depth). With one query the heads that share keys
    are the rows of one product. `causal`: keys after the last query of a tile are left out; those of the tile on the
    diagonal are not masked, so that only the time is right."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    depth: int
    causal: bool = False


def attention(chip: str | Chip, p: Problem, dtype: str = "f16", *, blocks: int = 0) -> npu.Program:
    """out = softmax(q k^T / sqrt(depth)) v; depth is a multiple of 16, at most 512."""
    k = npu.Builder("attention", chip)
    q, key, value, out = (k.argument(name, dtype) for name in ("q", "k", "v", "out"))
    rows = UNIT if p.depth <= 128 else UNIT // (p.depth // 128)
    keys_tile = 256 if p.depth <= 256 else 128
    group = p.heads // p.kv_heads
    decode = p.queries == 1
    most = group if decode else p.queries
    rows = min(rows, -(-most // 16) * 16)
    cores = blocks or k.chip.cores["aic"]
    workspaces = {
        name: k.workspace(name, kind, cores * SLOTS * rows * width * size)
        for name, kind, width, size in (
            ("s", "f32", keys_tile, 4),
            ("p", dtype, keys_tile, 2),
            ("o", "f32", p.depth, 4),
        )
    }
    tiles = -(-most // rows)
    tasks = p.batch * (p.kv_heads if decode else p.heads) * tiles

    def task_of(task: npu.Scalar) -> tuple[npu.Scalar, npu.Scalar, int, npu.Scalar, npu.Scalar]:
        """Where q's rows and the keys begin, the elements between rows, how many rows, and how many keys."""
        tile, rest = task % tiles, task // tiles
        heads = p.kv_heads if decode else p.heads
        head, batch = rest % heads, rest // heads
        first = tile * rows
        length = k.compute("min", k.constant(most) - first, rows)
        if decode:
            start = (batch * p.heads + head * group + first) * p.depth
            step, kv_head = p.depth, head
        else:
            start = ((batch * p.queries + first) * p.heads + head) * p.depth
            step, kv_head = p.heads * p.depth, head // group
        keys_at = (batch * p.keys * p.kv_heads + kv_head) * p.depth
        keys = k.constant(p.keys)
        if p.causal:
            keys = k.compute("min", keys, first + length + (p.keys - p.queries))
        return start, keys_at, step, length, keys

    with k.code("aic"):
        Cube(k, p, dtype, rows, keys_tile).write(q, key, value, workspaces, task_of, tasks)
    with k.code("aiv"):
        VectorHalf(k, p, dtype, rows, keys_tile).write(out, workspaces, task_of, tasks)
    return k.finish(block_num=blocks)


class Cube:
    """The cube core: s = q k^T, and o = p v of the tile before."""

    def __init__(self, k: npu.Builder, p: Problem, dtype: str, rows: int, keys_tile: int) -> None:
        self.k, self.p, self.rows, self.keys_tile = k, p, rows, keys_tile
        self.q1 = k.allocate("L1", 2 * rows * p.depth * 2, dtype, "q in L1")
        self.k1 = k.allocate("L1", (2 if p.depth <= 128 else 1) * keys_tile * p.depth * 2, dtype, "k in L1")
        self.p1 = k.allocate("L1", rows * keys_tile * 2, dtype, "p in L1")
        self.v1 = k.allocate("L1", keys_tile * p.depth * 2, dtype, "v in L1")
        self.a0 = k.allocate("L0A", 2 * UNIT * 64 * 2, dtype, "left")
        self.b0 = k.allocate("L0B", 2 * 64 * UNIT * 2, dtype, "right")
        self.c0 = k.allocate("L0C", 2 * UNIT * UNIT * 4, "f32", "product")
        self.slots = 2 if p.depth <= 128 else 1
        self.turn_0, self.turn_c = k.variable(0, "turn_0"), k.variable(0, "turn_c")
        self.turn_q, self.turn_k = k.variable(0, "turn_q"), k.variable(0, "turn_k")
        self.turn_s, self.turn_o = k.variable(0, "turn_s"), k.variable(0, "turn_o")

    def write(self, q: Global, key: Global, value: Global, w: dict[str, Global], task_of, tasks: int) -> None:  # type: ignore[no-untyped-def]
        k = self.k
        for slot in range(2):
            k.set_flag("M_MTE1", slot)
            k.set_flag("FIX_M", slot)
        for slot in range(6):
            k.set_flag("MTE1_MTE2", slot)
        with k.loop(k.block_idx, tasks, k.block_num, name="task") as task:
            start, keys_at, step, length, keys = task_of(task)
            m16 = round_up(k, length, 16)
            slot_q = self.turn_q % 2
            q1 = self.q1[slot_q * (self.rows * self.p.depth)]
            k.wait_flag("MTE1_MTE2", slot_q)
            self.load(q1, q[start], length, self.p.depth, step, m16)
            k.set_flag("MTE2_MTE1", slot_q)
            k.wait_flag("MTE2_MTE1", slot_q)
            steps = ceil_div(k, keys, self.keys_tile)
            with k.loop(0, steps + AHEAD, name="j") as j:
                with k.if_(j < steps):
                    self.scores(q1, key, w["s"], keys_at, j * self.keys_tile, keys, length, m16)
                with k.if_(j >= AHEAD):
                    self.outputs(value, w, keys_at, (j - AHEAD) * self.keys_tile, keys, length, m16)
            k.set_flag("MTE1_MTE2", slot_q)
            k.assign(self.turn_q, self.turn_q + 1)
        for slot in range(2):
            k.wait_flag("M_MTE1", slot)
            k.wait_flag("FIX_M", slot)
        for slot in range(6):
            k.wait_flag("MTE1_MTE2", slot)

    def load(
        self, to: Local, source: Global, n: ScalarLike, d: ScalarLike, step: ScalarLike, height: ScalarLike
    ) -> None:
        self.k.data_copy_nd2nz(to, source, n_value=n, d_value=d, src_d_value=step, dst_nz_c0_stride=height)

    def scores(self, q1, key, s, keys_at, at, keys, length, m16) -> None:  # type: ignore[no-untyped-def]
        k, p = self.k, self.p
        slot = self.turn_k % self.slots
        k1 = self.k1[slot * (self.keys_tile * p.depth)]
        n = k.compute("min", keys - at, self.keys_tile)
        n16 = round_up(k, n, 16)
        k.wait_flag("MTE1_MTE2", 2 + slot)
        self.load(k1, key[keys_at + at * (p.kv_heads * p.depth)], n, p.depth, p.kv_heads * p.depth, n16)
        k.set_flag("MTE2_MTE1", 2 + slot)
        k.wait_flag("MTE2_MTE1", 2 + slot)
        to = s[(k.block_idx * SLOTS + self.turn_s % SLOTS) * (self.rows * self.keys_tile)]
        with k.loop(0, n, UNIT, name="n0") as n0:
            columns = k.compute("min", n - n0, UNIT)
            self.unit(to[n0], self.keys_tile, q1, k1, m16, n16, length, columns, p.depth, n0, by_rows=True)
        k.set_flag("MTE1_MTE2", 2 + slot)
        k.cross_core_set_flag("FIX", 2, S_READY)
        k.assign(self.turn_k, self.turn_k + 1)
        k.assign(self.turn_s, self.turn_s + 1)

    def outputs(self, value, w, keys_at, at, keys, length, m16) -> None:  # type: ignore[no-untyped-def]
        k, p = self.k, self.p
        n = k.compute("min", keys - at, self.keys_tile)
        n16 = round_up(k, n, 16)
        k.wait_flag("MTE1_MTE2", 4)
        self.load(self.v1, value[keys_at + at * (p.kv_heads * p.depth)], n, p.depth, p.kv_heads * p.depth, n16)
        k.set_flag("MTE2_MTE1", 4)
        k.cross_core_wait_flag(P_READY)
        here = k.block_idx * SLOTS + self.turn_o % SLOTS
        k.wait_flag("MTE1_MTE2", 5)
        self.load(self.p1, w["p"][here * (self.rows * self.keys_tile)], length, n, self.keys_tile, m16)
        k.set_flag("MTE2_MTE1", 5)
        k.wait_flag("MTE2_MTE1", 4)
        k.wait_flag("MTE2_MTE1", 5)
        to = w["o"][here * (self.rows * p.depth)]
        with k.loop(0, p.depth, UNIT, name="n0") as n0:
            columns = k.compute("min", k.constant(p.depth) - n0, UNIT)
            self.unit(to[n0], p.depth, self.p1, self.v1, m16, n16, length, columns, n, n0, by_rows=False)
        k.set_flag("MTE1_MTE2", 4)
        k.set_flag("MTE1_MTE2", 5)
        k.cross_core_set_flag("FIX", 2, O_READY)
        k.assign(self.turn_o, self.turn_o + 1)

    def unit(self, to, pitch, left, right, m16, height, m, n, depth, n0, by_rows) -> None:  # type: ignore[no-untyped-def]
        """to (m x n) = left (m x depth) times columns n0.. of right: `by_rows`: (columns x depth), else (depth x columns),
        both `height` rows high in L1."""
        k = self.k
        slot = self.turn_c % 2
        c0 = self.c0[slot * (UNIT * UNIT)]
        n_16 = round_up(k, n, 16)
        k.wait_flag("FIX_M", slot)
        with k.loop(0, depth, 64, name="k0") as k0:
            now = self.turn_0 % 2
            a0, b0 = self.a0[now * (UNIT * 64)], self.b0[now * (UNIT * 64)]
            here = k.compute("min", k.constant(0) + depth - k0, 64)
            here16 = round_up(k, here, 16)
            k.wait_flag("M_MTE1", now)
            wide = round_up(k, k.constant(0) + depth, 16)
            k.load_data_3d(
                a0, left, l1_h=1, l1_w=m16, channel_size=wide, k_extension=here16, m_extension=m16, k_start_pt=k0
            )
            if by_rows:
                k.load_data_3d(
                    b0,
                    right,
                    l1_h=1,
                    l1_w=height,
                    channel_size=wide,
                    k_extension=here16,
                    m_extension=n_16,
                    k_start_pt=k0,
                    m_start_pt=n0,
                    en_transpose=True,
                )
            else:
                k.load_data_3d(
                    b0,
                    right,
                    l1_h=1,
                    l1_w=height,
                    channel_size=self.p.depth,
                    k_extension=n_16,
                    m_extension=here16,
                    k_start_pt=n0,
                    m_start_pt=k0,
                )
            k.set_flag("MTE1_M", now)
            k.wait_flag("MTE1_M", now)
            k.mmad(c0, a0, b0, m=m, n=n, k=here, init=k0 == 0)
            k.pipe_barrier("M")
            k.set_flag("M_MTE1", now)
            k.assign(self.turn_0, self.turn_0 + 1)
        k.set_flag("M_FIX", slot)
        k.wait_flag("M_FIX", slot)
        k.fixpipe(to, c0, n_size=n, m_size=m, src_stride=m16, dst_stride=pitch)
        k.set_flag("FIX_M", slot)
        k.assign(self.turn_c, self.turn_c + 1)


class VectorHalf:
    """A vector core: half of the rows. Running maximum and sum of each row stay in UB."""

    def __init__(self, k: npu.Builder, p: Problem, dtype: str, rows: int, keys_tile: int) -> None:
        self.k, self.p, self.dtype, self.rows, self.keys_tile = k, p, dtype, rows, keys_tile
        self.half = max(8, -(-rows // 16) * 8)
        half = self.half
        self.s = k.allocate("UB", half * keys_tile * 4, "f32", "scores")
        self.narrow = k.allocate("UB", half * max(keys_tile, p.depth) * 2, dtype, "probabilities")
        self.sum = k.allocate("UB", half * p.depth * 4, "f32", "sum of outputs")
        self.o = k.allocate("UB", half * p.depth * 4, "f32", "output")
        self.fold = k.allocate("UB", half * 256, "f32", "folded columns")
        self.blocks = k.allocate("UB", half * 32, "f32", "a block for each row")
        pitch = max(256, half * 4)
        self.total, self.now = (k.allocate("UB", pitch, "f32", name) for name in ("total", "of this tile"))
        # Of this tile and of the one before, in turn.
        self.maxima, self.scales = (k.allocate("UB", SLOTS * pitch, "f32", name) for name in ("maximum", "scale"))
        self.pitch = pitch // 4
        self.turn_s, self.turn_o = k.variable(0, "turn_s"), k.variable(0, "turn_o")

    def write(self, out: Global, w: dict[str, Global], task_of, tasks: int) -> None:  # type: ignore[no-untyped-def]
        k, p = self.k, self.p
        Vector(k, self.half * self.keys_tile).duplicate(self.s, 0.0)
        for row, count in ((self.total, 1), (self.now, 1), (self.maxima, SLOTS), (self.scales, SLOTS)):
            Vector(k, count * self.pitch).duplicate(row, 0.0)
        k.set_flag("V_MTE2", 0)
        k.set_flag("V_MTE2", 1)
        k.set_flag("MTE3_V", 0)
        with k.loop(k.block_idx, tasks, k.block_num, name="task") as task:
            start, _, step, length, keys = task_of(task)
            first = k.sub_block_idx * self.half
            mine = k.compute("max", k.compute("min", length - first, self.half), 0)
            with k.if_(mine > 0):
                Vector(k, SLOTS * self.pitch).duplicate(self.maxima, -1e30)
                Vector(k, self.half).duplicate(self.total, 0.0)
                Vector(k, self.half * p.depth).duplicate(self.sum, 0.0)
            steps = ceil_div(k, keys, self.keys_tile)
            self.load(w["s"], first, mine, k.compute("min", keys, self.keys_tile))
            with k.loop(0, steps + AHEAD, name="j") as j:
                with k.if_(j < steps):
                    n = k.compute("min", keys - j * self.keys_tile, self.keys_tile)
                    with k.if_(mine > 0):
                        self.probabilities(w["p"], first, mine, n)
                    k.cross_core_set_flag("MTE3", 2, P_READY)
                    k.assign(self.turn_s, self.turn_s + 1)
                    with k.if_(j + 1 < steps):  # flows while the vector pipe gathers
                        following = keys - (j + 1) * self.keys_tile
                        self.load(w["s"], first, mine, k.compute("min", following, self.keys_tile))
                with k.if_(j >= AHEAD):
                    k.cross_core_wait_flag(O_READY)
                    with k.if_(mine > 0):
                        self.gather(w["o"], first, mine)
                    k.assign(self.turn_o, self.turn_o + 1)
            with k.if_(mine > 0):
                self.finish(out[start + first * step], mine, step)
        k.wait_flag("V_MTE2", 0)
        k.wait_flag("V_MTE2", 1)
        k.wait_flag("MTE3_V", 0)

    def over_rows(self, name: str, dst: Local, src: Local, pitch: int, columns: ScalarLike) -> None:
        """dst (rows of `pitch` elements) = name(src, the block of each row), 64 columns at a time."""
        k = self.k
        with k.loop(0, columns, 64, name="c") as c:
            lanes = k.compute("min", k.constant(0) + columns - c, 64)
            k.vector(
                name,
                dst[c],
                src[c],
                self.blocks,
                mask=lanes,
                repeat=self.mine,
                blocks=(1, 1, 0),
                repeats=(pitch // 8, pitch // 8, 1),
            )
        k.pipe_barrier("V")

    def reduced(self, name: str, dst: Local, columns: npu.Scalar) -> None:
        """dst[row] = the sum or maximum of a row of the scores: columns folded on 64, those on 8, those on one."""
        k, pitch = self.k, self.keys_tile // 8
        reduce, neutral = ("block_reduce_max", -1e30) if name == "max" else ("block_reduce_sum", 0.0)
        with k.if_(columns >= 128):
            k.vector(name, self.fold, self.s, self.s[64], repeat=self.mine, repeats=(8, pitch, pitch))
            k.pipe_barrier("V")
        with k.else_():
            Vector(k, self.half * 64).duplicate(self.fold, neutral)
            lanes = k.compute("min", columns, 64)
            k.vector("adds", self.fold, self.s, scalar=0.0, mask=lanes, repeat=self.mine, repeats=(8, pitch))
            k.pipe_barrier("V")
        with k.loop(k.choose(columns >= 128, 128, 64), columns, 64, name="c") as c:
            here = k.compute("min", columns - c, 64)
            k.vector(name, self.fold, self.fold, self.s[c], mask=here, repeat=self.mine, repeats=(8, 8, pitch))
            k.pipe_barrier("V")
        k.vector(reduce, self.fold, self.fold, repeat=self.mine, repeats=(1, 8))
        k.pipe_barrier("V")
        k.vector(reduce, dst, self.fold, count=self.half * 8, repeats=(1, 8))
        k.pipe_barrier("V")

    def spread(self, row: Local) -> None:
        self.k.brcb(self.blocks, row, repeat=self.half // 8)
        self.k.pipe_barrier("V")

    def load(self, s: Global, first: npu.Scalar, mine: npu.Scalar, n: npu.Scalar) -> None:
        k = self.k
        at = (k.block_idx * SLOTS + self.turn_s % SLOTS) * (self.rows * self.keys_tile) + first * self.keys_tile
        gap = self.keys_tile - n
        k.cross_core_wait_flag(S_READY)
        with k.if_(mine > 0):
            k.wait_flag("V_MTE2", 0)
            k.data_copy_pad(
                self.s, s[at], block_count=mine, block_len=n * 4, src_stride=gap * 4, dst_stride=gap // 8
            )
            k.set_flag("MTE2_V", 0)

    def probabilities(self, to: Global, first: npu.Scalar, mine: npu.Scalar, n: npu.Scalar) -> None:
        k, p = self.k, self.p
        self.mine = mine
        turn = self.turn_s % SLOTS
        before = self.maxima[(self.turn_s + AHEAD) % SLOTS * self.pitch]
        maximum = self.maxima[turn * self.pitch]
        scale = self.scales[turn * self.pitch]
        at = (k.block_idx * SLOTS + turn) * (self.rows * self.keys_tile) + first * self.keys_tile
        every = Vector(k, self.half)
        tile = Vector(k, mine * self.keys_tile)
        k.wait_flag("MTE2_V", 0)
        tile.muls(self.s, self.s, p.depth**-0.5)
        self.reduced("max", self.now, n)
        every.max(maximum, before, self.now)
        every.sub(scale, before, maximum)
        every.exp(scale, scale)
        self.spread(maximum)
        self.over_rows("sub", self.s, self.s, self.keys_tile, n)
        tile.exp(self.s, self.s)
        self.reduced("add", self.now, n)
        every.mul(self.total, self.total, scale)
        every.add(self.total, self.total, self.now)
        k.wait_flag("MTE3_V", 0)
        tile.cast(self.narrow, self.s, "rint")
        k.set_flag("V_MTE2", 0)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        k.data_copy_pad(to[at], self.narrow, block_len=mine * (self.keys_tile * 2))
        k.set_flag("MTE3_V", 0)

    def gather(self, o: Global, first: npu.Scalar, mine: npu.Scalar) -> None:
        """sum = sum * scale + o, with the scale of o's own tile."""
        k, p = self.k, self.p
        self.mine = mine
        at = (k.block_idx * SLOTS + self.turn_o % SLOTS) * (self.rows * p.depth) + first * p.depth
        k.wait_flag("V_MTE2", 1)
        k.data_copy_pad(self.o, o[at], block_len=mine * (p.depth * 4))
        self.spread(self.scales[self.turn_o % SLOTS * self.pitch])
        self.over_rows("mul", self.sum, self.sum, p.depth, p.depth)
        k.set_flag("MTE2_V", 1)
        k.wait_flag("MTE2_V", 1)
        Vector(k, mine * p.depth).add(self.sum, self.sum, self.o)
        k.set_flag("V_MTE2", 1)

    def finish(self, out: Global, mine: npu.Scalar, step: int) -> None:
        k, p = self.k, self.p
        self.mine = mine
        self.spread(self.total)
        self.over_rows("div", self.sum, self.sum, p.depth, p.depth)
        k.wait_flag("MTE3_V", 0)
        Vector(k, mine * p.depth).cast(self.narrow, self.sum, "rint")
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        gap = (step - p.depth) * 2
        k.data_copy_pad(out, self.narrow, block_count=mine, block_len=p.depth * 2, dst_stride=gap)
        k.set_flag("MTE3_V", 0)
