"""The planted bugs: each can be planted, and the certified vectors catch it."""

import inspect

import numpy as np
import pytest

from refngd import definitions
from refngd.conformance import vectors
from refngd.conformance.adapters import definitions as adapter
from refngd.conformance.bugs import BUGS, TABLE, planted
from refngd.conformance.compare import FAILED, check

TEXT = inspect.getsource(definitions) + inspect.getsource(adapter)
CASES = [case for case in vectors.read()[0] if case.error is None and case.operation in adapter.OPERATIONS]
UNCAUGHT = {"tanh_cancels", "cut_off_coarse", "residual_cancels"}


def catches(name, case):
    run = planted(name)
    with np.errstate(all="ignore"):
        return check(case, lambda case, dtype: run(*case.arguments(dtype))).status == FAILED


def test_the_table_is_read_whole():
    lines = [line for line in TABLE.splitlines() if line and not line.startswith((" ", "#"))]
    assert [line.partition(":")[0] for line in lines] == list(BUGS)
    assert sum(line.startswith("    - ") for line in TABLE.splitlines()) == sum(len(b.changes) for b in BUGS.values())


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_a_change_of_the_definitions_that_vectors_catch(name):
    assert all(old in TEXT and old != new for old, new in BUGS[name].changes)
    assert any(catches(name, case) for case in CASES) == (name not in UNCAUGHT)


def test_planting_leaves_the_definitions_alone():
    planted("ascent")
    assert "ascent" in BUGS
    assert not any(catches_right(case) for case in CASES[:20])


def catches_right(case):
    return check(case, lambda case, dtype: adapter.run(*case.arguments(dtype))).status == FAILED
