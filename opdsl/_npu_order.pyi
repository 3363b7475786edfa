import numpy as np
from numpy.typing import NDArray

class Runs:
    """Runs in the mind of one program. Agents and flags are numbers; flag 0 stands for none."""

    def __init__(self, scalars: list[int], flags: int) -> None:
        """scalars: of each agent, the scalar unit that hands its work to it."""
    def add(self, steps: NDArray[np.int32], needs: NDArray[np.int32]) -> None:
        """steps: (kind, agent, flag, slot, who waits); needs: (step, agent, how many of its instructions)."""
    def holds(self, run: int) -> bool:
        """Whether all needs of a run are met."""
    def superfluous(self, candidates: list[int]) -> list[int]:
        """Those of the flags, taken in order, that can be left out together with those before."""
