from typing import Any, Final

INSTRUCTIONS: Final[list[str]]
INTEGER_OPS: Final[list[str]]
FLOAT_OPS: Final[list[str]]
CONVERSIONS: Final[list[str]]
DTYPES: Final[list[str]]
PIPES: Final[list[str]]
SPACES: Final[list[str]]
STALLS: Final[list[str]]
FIRST_TENSOR: Final[int]

def run(chip: dict[str, Any], program: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]: ...
