import numpy as np
from numpy.typing import NDArray

class Order:
    """A program as a row of steps. Agents, groups of accesses, flags and loops are numbers."""

    def __init__(
        self,
        steps: NDArray[np.int32],
        scalars: list[int],
        own: NDArray[np.bool_],
        made: NDArray[np.bool_],
        moves: list[list[tuple[int, list[int]]]],
        turning: list[list[int]],
        slots: list[tuple[int, int]],
        ranges: int,
    ) -> None:
        """steps: (kind, agent, group or flag, slot); of a loop (kind, range or -1, loop, trips). scalars: of each agent,
        the scalar unit that hands its work to it. own: the bits of each agent's accesses. made: those that each group
        sets. moves: of each loop, which bits go how many places up at the end of an iteration. turning: and the flags
        whose next slot becomes the first. slots: of each flag, and how often each may be set ahead of its waits. ranges:
        how many there are; loops over the same one all run, or all do not."""
    def holds(self, conflicts: NDArray[np.bool_], left_out: list[int]) -> bool:
        """Whether no bit that conflicts with a group (a row each) is pending where the group's accesses are made."""
    def superfluous(self, conflicts: NDArray[np.bool_], candidates: list[int]) -> list[int]:
        """Those of the flags, taken in order, that can be left out together with those before."""
