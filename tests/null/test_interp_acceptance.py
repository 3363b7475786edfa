"""The acceptance kernels on the interpreter, or on the targets of the option --targets."""

from __future__ import annotations

import pytest
from support.acceptance_tests import *  # noqa: F403
from support.targets import TARGETS

pytestmark = pytest.mark.parametrize("target", TARGETS)
