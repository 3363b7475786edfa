"""Every kind of hazard is found, whatever the schedule, and correct programs have none."""

import numpy as np
import pytest
from programs import gemm, queued_scale, vector_add

from opdsl import npu
from opdsl.npu.statements import Issue, walk

SEEDS = [0, 1, 2]


def found(program, arguments, **how):
    """The kinds of the hazards of a run."""
    return {h.kind for h in hazards(program, arguments, **how)}


def hazards(program, arguments, **how):
    try:
        return npu.run(program, arguments, strict=False, **how).hazards
    except npu.NpuRunError as error:
        return error.hazards


def vectors(n=1_000_000):
    x = np.arange(n, dtype=np.float32)
    return [x, x + 1, np.zeros_like(x)]


def matrices():
    random = np.random.default_rng(0)
    a, b = (
        random.integers(-4, 4, (256, 512)).astype(np.float16),
        random.integers(-4, 4, (512, 512)).astype(np.float16),
    )
    return [a, b, np.zeros((256, 512), np.float32)]


@pytest.mark.parametrize("seed", SEEDS)
def test_correct_programs_have_none(seed):
    assert not hazards(vector_add(), vectors(), seed=seed)
    assert not hazards(vector_add("910a"), vectors(), seed=seed)
    assert not hazards(gemm(m_tile=64, n_tile=128), matrices(), seed=seed)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("chip", ["910b2", "310p"])
def test_queues_make_correct_programs(chip, depth):
    x = np.arange(300_001, dtype=np.float32)
    y = np.zeros_like(x)
    assert not hazards(queued_scale(chip, depth=depth), [x, y])
    np.testing.assert_array_equal(y, 2 * x)


@pytest.mark.parametrize("chip", ["910b2", "910a"])
def test_what_an_instruction_reads_does_not_hide_an_earlier_read_from_its_write(chip):
    def program(barrier):
        k = npu.Builder("in_place", chip)
        with k.code("aiv" if chip == "910b2" else "core"):
            a, b = k.allocate("UB", 256, "f32", "a"), k.allocate("UB", 256, "f32", "b")
            k.duplicate(a, 1.0)
            k.pipe_barrier("V")
            k.muls(b, a, 2.0)
            if barrier:
                k.pipe_barrier("V")
            k.muls(a, a, 3.0)
        return k.finish()

    assert found(program(False), []) == {"WAR"}
    assert not hazards(program(True), [])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("flag, kind", [("MTE2_V", "RAW"), ("V_MTE2", "WAR"), ("V_MTE3", "RAW"), ("MTE3_V", "WAR")])
def test_a_missing_pair_of_flags_is_a_race(flag, kind, seed):
    program = vector_add()
    races = [
        h
        for h in hazards(program.without(*flags(program, flag)), vectors(), seed=seed)
        if h.kind in ("RAW", "WAR", "WAW")
    ]
    pipes = set(flag.split("_"))
    assert any(race.kind == kind and {race.pipe, race.other_pipe} == pipes for race in races)


def flags(program, event):
    return [
        s
        for code in program.codes.values()
        for s in walk(code.body)
        if isinstance(s, Issue) and s.operands.get("event") == event
    ]


def test_the_report_names_both_lines():
    program = vector_add(omit="V_MTE3")
    race = next(h for h in hazards(program, vectors()) if h.kind == "RAW" and h.pipe == "MTE3")
    text = str(race)
    assert "k.add(c[here], a[here], b[here], count=length)" in text
    assert "k.data_copy_pad(z[at], c[here]" in text
    assert 'set_flag("V_MTE3", id)' in text


@pytest.mark.parametrize("name, arguments", [("vector_add", vectors), ("gemm", matrices)])
def test_every_single_flag_is_needed(name, arguments):
    """Without any one instruction of synchronisation something is reported."""
    program = vector_add() if name == "vector_add" else gemm(m_tile=64, n_tile=128)
    issues = [s for code in program.codes.values() for s in walk(code.body) if isinstance(s, Issue)]
    sync = [s for s in issues if s.name in ("set_flag", "wait_flag", "pipe_barrier")]
    assert len(sync) > 10
    for issue in sync:
        assert found(program.without(issue), arguments()), issue


# ---- three bugs that were published


@pytest.mark.parametrize("seed", SEEDS)
def test_zero_trip_loop_without_sync(seed):
    """The flag is set and waited for inside a loop; where the loop does not run, nothing orders what stands around it."""

    def program():
        k = npu.Builder("zero_trip", "910b2")
        x, y = k.argument("x", "f32"), k.argument("y", "f32")
        trips = k.scalar("trips")
        with k.code("aiv"), k.if_((k.block_idx + k.sub_block_idx) == 0):
            a, b = k.allocate("UB", 256, "f32", "a"), k.allocate("UB", 256, "f32", "b")
            k.data_copy(a, x, block_len=8)
            with k.loop(0, trips):
                k.set_flag("MTE2_V", 0)
                k.wait_flag("MTE2_V", 0)
            k.adds(b, a, 1.0)
            k.set_flag("V_MTE3", 0)
            k.wait_flag("V_MTE3", 0)
            k.data_copy(y, b, block_len=8)
        return k.finish(block_num=1)

    arrays = [np.ones(64, np.float32), np.zeros(64, np.float32)]
    assert not hazards(program(), arrays, scalars={"trips": 1}, seed=seed)
    (race,) = hazards(program(), arrays, scalars={"trips": 0}, seed=seed)
    assert (race.kind, race.pipe, race.other_pipe) == ("RAW", "V", "MTE2")


@pytest.mark.parametrize("seed", SEEDS)
def test_single_buffered_l0_without_reverse_dependence(seed):
    """One L0 buffer, and nothing says that the cube is done with it before MTE1 fills it again."""
    program = gemm(m_tile=64, n_tile=128, l0_depth=1)
    program = program.without(*flags(program, "M_MTE1"))
    races = [h for h in hazards(program, matrices(), seed=seed) if h.kind == "WAR"]
    assert {(race.pipe, race.other_pipe) for race in races} == {("MTE1", "M")}


@pytest.mark.parametrize("seed", SEEDS)
def test_flag_of_the_wrong_pipe(seed):
    """The instruction before the copy runs on V, but the flag is MTE2's."""
    k = npu.Builder("wrong_pipe", "910b2")
    y = k.argument("y", "f32")
    with k.code("aiv"), k.if_((k.block_idx + k.sub_block_idx) == 0):
        a = k.allocate("UB", 256, "f32", "a")
        k.duplicate(a, 1.0)
        k.set_flag("MTE2_MTE3", 0)
        k.wait_flag("MTE2_MTE3", 0)
        k.data_copy(y, a, block_len=8)
    races = hazards(k.finish(block_num=1), [np.zeros(64, np.float32)], seed=seed)
    assert [(race.kind, race.pipe, race.other_pipe) for race in races if race.kind == "RAW"] == [("RAW", "MTE3", "V")]


# ---- the other kinds


def vector_core(body, arrays, block_num=1, chip="910b2", one_core=True, **how):
    """A program of what `body(k, tensors)` writes, on one vector core."""
    k = npu.Builder("program", chip)
    names = {np.dtype(np.float32): "f32", np.dtype(np.int32): "i32"}
    tensors = [k.argument(f"x{i}", names[array.dtype], array.ndim) for i, array in enumerate(arrays)]
    with k.code("aiv"):
        if one_core:
            with k.if_((k.block_idx + k.sub_block_idx) == 0):
                body(k, tensors)
        else:
            body(k, tensors)
    return hazards(k.finish(block_num=block_num), arrays, **how)


def test_vector_instructions_need_a_barrier():
    def body(k, x):
        a = k.allocate("UB", 256, "f32", "a")
        k.duplicate(a, 1.0)
        if barrier:
            k.pipe_barrier("V")
        k.adds(a, a, 1.0)

    barrier = True
    assert not vector_core(body, [])
    barrier = False
    assert {h.kind for h in vector_core(body, [])} == {"RAW", "WAW"}


def test_uninitialised_and_out_of_range_and_alignment():
    def uninitialised(k, x):
        a, b = k.allocate("UB", 256, "f32", "a"), k.allocate("UB", 256, "f32", "b")
        k.adds(b, a, 1.0)

    def beyond_the_buffer(k, x):
        k.duplicate(k.local("UB", 192 * 1024 - 128, "f32"), 1.0)

    def beyond_the_tensor(k, x):
        k.data_copy(k.local("UB", 0, "f32"), x[0][60], block_len=1)

    def misaligned(k, x):
        k.duplicate(k.local("UB", 16, "f32"), 1.0)

    array = [np.zeros(64, np.float32)]
    assert [h.kind for h in vector_core(uninitialised, [])] == ["uninitialised"]
    (one,) = vector_core(beyond_the_buffer, [])
    assert one.kind == "out_of_range"
    assert "which has bytes 0 to 196608" in one.message
    (one,) = vector_core(beyond_the_tensor, array)
    assert one.kind == "out_of_range"
    (one,) = vector_core(misaligned, [])
    assert one.kind == "alignment"
    assert one.location.file == __file__


def test_operands_that_overlap():
    """The same blocks, or none: neither a shift within a repeat nor a sum carried from repeat to repeat."""

    def same(k, x):
        a = k.allocate("UB", 1024, "f32", "a")
        k.duplicate(a, 1.0, repeat=4)
        k.pipe_barrier("V")
        k.adds(a, a, 1.0, repeat=4)

    def shifted(k, x):
        a = k.allocate("UB", 1024, "f32", "a")
        k.duplicate(a, 1.0, repeat=4)
        k.pipe_barrier("V")
        k.adds(a[8], a, 1.0, repeat=1)

    def carried(k, x):
        a, b = k.allocate("UB", 1024, "f32", "a"), k.allocate("UB", 256, "f32", "b")
        k.duplicate(a, 1.0, repeat=4)
        k.duplicate(b, 0.0)
        k.pipe_barrier("V")
        k.add(b, b, a, repeat=4, repeats=(0, 0, 8))

    assert not vector_core(same, [])
    for body, text in ((shifted, "not the same blocks"), (carried, "earlier one wrote")):
        (one,) = vector_core(body, [])
        assert one.kind == "operand"
        assert text in one.message


def test_what_dma_leaves_out_holds_no_value():
    def body(k, x):
        a = k.allocate("UB", 256, "f32", "a")
        k.data_copy_pad(a, x[0], block_len=20, right_padding=padding)
        k.set_flag("MTE2_V", 0)
        k.wait_flag("MTE2_V", 0)
        k.adds(a, a, 1.0, mask=8)

    padding = 3
    assert not vector_core(body, [np.ones(64, np.float32)])
    padding = 0
    assert [h.kind for h in vector_core(body, [np.ones(64, np.float32)])] == ["uninitialised"]


def test_misused_flags():
    def twice(k, x):
        k.set_flag("V_MTE3", 0)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)

    def left(k, x):
        k.set_flag("V_MTE3", 3)

    def never(k, x):
        k.wait_flag("V_MTE3", 2)

    def reserved(k, x):
        k.set_flag("V_MTE3", 8)

    assert {h.kind for h in vector_core(twice, [])} >= {"flag_set_twice"}
    assert [h.kind for h in vector_core(left, [])] == ["flag_left_set"]
    (one,) = vector_core(never, [])
    assert one.kind == "deadlock"
    assert "V_MTE3 2" in one.message
    (one,) = vector_core(reserved, [])
    assert one.kind == "operand"


def test_who_waits_for_whom():
    """Two pipes that wait for each other."""

    def body(k, x):
        k.wait_flag("MTE3_V", 0)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        k.set_flag("MTE3_V", 0)

    stuck = vector_core(body, [])
    assert {(h.kind, h.pipe) for h in stuck} == {("deadlock", "V"), ("deadlock", "MTE3")}


@pytest.mark.parametrize("seed", SEEDS)
def test_cores_that_write_the_same_memory(seed):
    def body(k, x):
        a = k.allocate("UB", 32, "f32", "a")
        k.duplicate(a, 1.0, mask=8)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        if atomic:
            k.set_atomic("add")
        k.data_copy(x[0], a, block_len=1)

    atomic = False
    array = np.zeros(64, np.float32)
    assert {h.kind for h in vector_core(body, [array], block_num=4, one_core=False, seed=seed)} == {"WAW"}
    atomic = True
    array[:] = 0
    assert not vector_core(body, [array], block_num=4, one_core=False, seed=seed)
    assert (array[:8] == 8).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", ["none", "flag", "sync_all"])
def test_cores_that_exchange_through_global_memory(way, seed):
    """The cube core writes a workspace, its vector cores read it."""
    k = npu.Builder("exchange", "910b2")
    a, b, y = k.argument("a", "f16", 2), k.argument("b", "f16", 2), k.argument("y", "f32", 3)
    shared = k.workspace("shared", "f32", 24 * 256 * 4)
    with k.code("aic"):
        mine = shared[k.block_idx * 256]
        a1, b1 = k.allocate("L1", 512, "f16", "a1"), k.allocate("L1", 512, "f16", "b1")
        k.data_copy_nd2nz(a1, a, n_value=16, d_value=16, src_d_value=16, dst_nz_c0_stride=16)
        k.data_copy_nd2nz(b1, b, n_value=16, d_value=16, src_d_value=16, dst_nz_c0_stride=16)
        k.set_flag("MTE2_MTE1", 0)
        k.wait_flag("MTE2_MTE1", 0)
        k.load_data(k.local("L0A", 0, "f16"), a1, repeat_times=1)
        k.load_data(k.local("L0B", 0, "f16"), b1, repeat_times=1, transpose=True)
        k.set_flag("MTE1_M", 0)
        k.wait_flag("MTE1_M", 0)
        k.mmad(k.local("L0C", 0, "f32"), k.local("L0A", 0, "f16"), k.local("L0B", 0, "f16"), m=16, n=16, k=16, init=1)
        k.set_flag("M_FIX", 0)
        k.wait_flag("M_FIX", 0)
        k.fixpipe(mine, k.local("L0C", 0, "f32"), n_size=16, m_size=16, src_stride=16, dst_stride=16)
        if way == "flag":
            k.cross_core_set_flag("FIX", 2, 3)
        elif way == "sync_all":
            k.sync_all(all_kinds=True)
    with k.code("aiv"):
        ub = k.allocate("UB", 512, "f32", "ub")
        if way == "flag":
            k.cross_core_wait_flag(3)
        elif way == "sync_all":
            k.sync_all(all_kinds=True)
        mine, half = shared[k.block_idx * 256], k.sub_block_idx * 128
        k.data_copy(ub, mine[half], block_len=16)
        k.set_flag("MTE2_MTE3", 0)
        k.wait_flag("MTE2_MTE3", 0)
        k.data_copy(y[k.block_idx * 256 + half], ub, block_len=16)
    random = np.random.default_rng(0)
    arrays = [random.integers(-4, 4, (16, 16)).astype(np.float16) for _ in range(2)]
    out = np.zeros((24, 16, 16), np.float32)
    kinds = found(k.finish(), [*arrays, out], seed=seed)
    if way == "none":
        assert kinds & {"RAW", "WAR"}
    else:
        assert not kinds
        np.testing.assert_array_equal(
            out, np.broadcast_to(arrays[0].astype(np.float32) @ arrays[1].astype(np.float32), out.shape)
        )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("answered", [True, False])
def test_a_counter_between_cores_that_may_run_over(answered, seed):
    """A flag between cores counts to 15. Here the cube core is slow, so that it never gets so far ahead, but only with
    answers is that sure."""
    k = npu.Builder("ahead", "910b2")
    x = k.argument("x", "f16", 1)
    with k.code("aic"):
        l1 = k.allocate("L1", 20 * 8192, "f16", "l1")
        for i in range(20):
            k.data_copy(l1[i * 8192], x, block_len=512)
            k.set_flag("MTE2_FIX", 0)
            k.wait_flag("MTE2_FIX", 0)
            k.cross_core_set_flag("FIX", 2, 3)
            k.set_flag("FIX_MTE2", 0)
            k.wait_flag("FIX_MTE2", 0)
            if answered:
                k.cross_core_wait_flag(4)
    with k.code("aiv"):
        for _ in range(20):
            k.cross_core_wait_flag(3)
            if answered:
                k.cross_core_set_flag("MTE3", 2, 4)
    reports = hazards(k.finish(block_num=1), [np.zeros(8192, np.float16)], seed=seed)
    assert {h.kind for h in reports} == (set() if answered else {"flag_set_twice"})
    assert answered or "may be set more than 15 times ahead of its waits" in reports[0].message


@pytest.mark.parametrize("mode", [None, 0, 1])
def test_vector_cores_that_read_what_the_others_wrote(mode):
    """Mode 1 orders the two of a block, mode 0 all."""
    k = npu.Builder("neighbours", "910b2")
    y = k.argument("y", "f32", 2)
    shared = k.workspace("shared", "f32", 48 * 32)
    with k.code("aiv"):
        a, b = k.allocate("UB", 32, "f32", "a"), k.allocate("UB", 32, "f32", "b")
        me = k.block_idx * 2 + k.sub_block_idx
        other = k.block_idx * 2 + (1 - k.sub_block_idx) if mode == 1 else 47 - me
        k.duplicate(a, k.compute("to_float", me, dtype="f32"), mask=8)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        k.data_copy(shared[me * 8], a, block_len=1)
        if mode is not None:
            k.cross_core_set_flag("MTE3", mode, 0)
            k.cross_core_wait_flag(0)
        k.data_copy(b, shared[other * 8], block_len=1)
        k.set_flag("MTE2_MTE3", 0)
        k.wait_flag("MTE2_MTE3", 0)
        k.data_copy(y[me * 8], b, block_len=1)
    out = np.zeros((48, 8), np.float32)
    kinds = found(k.finish(), [out])
    if mode is None:
        assert kinds & {"RAW", "WAR"}
        return
    assert not kinds
    order = np.arange(48)
    np.testing.assert_array_equal(out[:, 0], order ^ 1 if mode == 1 else order[::-1])


def test_barrier_that_one_core_misses():
    def body(k, x):
        with k.if_(k.block_idx > 0):
            k.sync_all()

    stuck = vector_core(body, [], block_num=2, one_core=False)
    assert {h.kind for h in stuck} == {"deadlock"}
    assert "sync_all" in stuck[0].message


def test_what_the_scalar_unit_writes():
    """Its stores to UB need a flag, and those to global memory a clean cache."""

    def body(k, x):
        a = k.allocate("UB", 32, "f32", "a")
        k.duplicate(a, 0.0, mask=8)
        k.set_flag("V_S", 0)
        k.wait_flag("V_S", 0)
        k.store_scalar(a[3], 5.0)
        if flag:
            k.set_flag("S_MTE3", 0)
            k.wait_flag("S_MTE3", 0)
        k.data_copy(x[0], a, block_len=1)

    def through_the_cache(k, x):
        k.store_scalar(x[0], 5.0)
        if flag:
            k.data_cache_clean_and_invalid(x[0])
        k.set_flag("S_MTE2", 0)
        k.wait_flag("S_MTE2", 0)
        k.data_copy(k.local("UB", 0, "f32"), x[0], block_len=1)

    for program, kind in ((body, "RAW"), (through_the_cache, "stale")):
        flag = True
        assert not vector_core(program, [np.zeros(8, np.float32)])
        flag = False
        assert {h.kind for h in vector_core(program, [np.zeros(8, np.float32)])} == {kind}


def test_the_cube_adds_up_small_products_only_with_a_barrier():
    def program(m, n, barrier):
        k = npu.Builder("sum", "910b2")
        with k.code("aic"):
            a, b, c = k.local("L0A", 0, "f16"), k.local("L0B", 0, "f16"), k.local("L0C", 0, "f32")
            k.init_const_value(a, block_num=m // 16, value=1)
            k.init_const_value(b, block_num=n // 16, value=1)
            k.set_flag("MTE1_M", 0)
            k.wait_flag("MTE1_M", 0)
            k.mmad(c, a, b, m=m, n=n, k=16, init=1)
            if barrier:
                k.pipe_barrier("M")
            k.mmad(c, a, b, m=m, n=n, k=16)
        return k.finish(block_num=1)

    assert not hazards(program(64, 64, False), [])
    assert not hazards(program(16, 64, True), [])
    assert found(program(16, 64, False), []) == {"WAW"}


def test_assertions_and_endless_loops():
    def asserts(k, x):
        k.print_("at ", k.block_idx + 7)
        k.assert_(k.block_idx > 0, "the first block")

    (one,) = vector_core(asserts, [])
    assert (one.kind, one.message) == ("assert", "the first block")
