"""The builder's methods that order pipes and cores, and those that help to debug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opdsl.npu.scalars import Scalar, ScalarLike, dtype_of


class SyncInstructions:
    if TYPE_CHECKING:

        def issue(self, name: str, on_pipe: Any = None, **operands: Any) -> Scalar | None: ...

    def set_flag(self, event: str, event_id: ScalarLike) -> None:
        """SetFlag<HardEvent::event>(event_id): when all that its first pipe did before is done. Ids are 0 to 7."""
        self.issue("set_flag", event=event, event_id=event_id)

    def wait_flag(self, event: str, event_id: ScalarLike) -> None:
        """WaitFlag<HardEvent::event>(event_id): its second pipe goes on when the flag is set, and clears it."""
        self.issue("wait_flag", event=event, event_id=event_id)

    def pipe_barrier(self, pipe: str) -> None:
        """PipeBarrier<PIPE_x>: what follows on the pipe waits for all before. `ALL` holds up the scalar unit for all
        pipes."""
        self.issue("pipe_barrier", pipe=pipe)

    def cross_core_set_flag(self, pipe: str, mode: int, flag_id: ScalarLike) -> None:
        """CrossCoreSetFlag<mode, PIPE_x>(flag_id), flag_id 0 to 10. Mode 0: when all cores of this kind have set it,
        each may pass one wait. Mode 1: the same for the two vector cores of a block. Mode 2: from the cube core to
        each of its vector cores, or from all vector cores of the block to the cube core."""
        self.issue("cross_core_set_flag", pipe=pipe, mode=mode, flag_id=flag_id)

    def cross_core_wait_flag(self, flag_id: ScalarLike) -> None:
        """CrossCoreWaitFlag(flag_id): holds up the scalar unit, and so all that it issues afterwards."""
        self.issue("cross_core_wait_flag", flag_id=flag_id)

    def sync_all(self, all_kinds: bool = False) -> None:
        """SyncAll: all pipes of all cores of this kind (`all_kinds`: cube and vector cores) have done what came
        before."""
        self.issue("sync_all", all_kinds=int(all_kinds))

    def set_atomic(self, mode: str) -> None:
        """SetAtomicAdd, SetAtomicMax, SetAtomicMin, SetAtomicNone (`add`, `max`, `min`, `none`): how MTE3 and FIX
        write to GM from now on, in the dtype of what they write."""
        self.issue("set_atomic", mode=mode)

    def print_(self, text: str, value: ScalarLike | None = None, ends: bool = True) -> None:
        """printf: the text, and a scalar after it. `ends` false: the line goes on."""
        kind = 0 if value is None else 1 if dtype_of(value) == "i64" else 2
        self.issue("print_", text=text, value=0 if value is None else value, has_value=kind, ends=int(ends))

    def assert_(self, condition: ScalarLike, text: str) -> None:
        """assert: the run fails with the text where the condition is 0."""
        self.issue("assert_", condition=condition, text=text)

    def trap(self, text: str = "trap") -> None:
        """Trap: the run fails."""
        self.issue("trap", text=text)
