"""The planted bugs: each can be planted, and the certified vectors catch it."""

import inspect
import json

import numpy as np
import pytest

from bench.flags import caught
from refngd import definitions
from refngd.conformance import vectors
from refngd.conformance.adapters import definitions as adapter
from refngd.conformance.bugs import BUGS, TABLE, planted
from refngd.conformance.compare import FAILED, check
from refngd.datasets import shipped

TEXT = inspect.getsource(definitions) + inspect.getsource(adapter)
CASES = [case for case in vectors.read()[0] if case.error is None]
SLOW = ("kernels", "order_parameters", "alpha")  # with averages of tanh


def fails(run, case):
    with np.errstate(all="ignore"):
        return check(case, lambda case, dtype: run(*case.arguments(dtype))).status == FAILED


def test_the_table_is_read_whole():
    lines = [line for line in TABLE.splitlines() if line and not line.startswith((" ", "#"))]
    assert [line.partition(":")[0] for line in lines] == list(BUGS)
    assert sum(line.startswith("    - ") for line in TABLE.splitlines()) == sum(len(b.changes) for b in BUGS.values())
    assert json.loads(shipped("vectors/v1/manifest.json").read_text())["bugs"] == {n: b.words for n, b in BUGS.items()}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_fails_cases_that_claim_to_catch_it(name):
    assert all(old in TEXT and old != new for old, new in BUGS[name].changes)
    claiming = [case for case in CASES if name in case.flags]
    assert claiming
    quick = [case for case in claiming if case.operation not in SLOW or case.attrs["activation"] != "tanh"]
    some = quick[:: -(-len(quick) // 10)] if quick else claiming[:1]  # bench.flags tries all
    passed = [case.id for case in some if not fails(planted(name), case)]
    assert passed == []


def test_every_case_claims_a_bug_and_passes_without():
    assert [case.id for case in CASES if not case.flags] == []
    planted("ascent")  # which leaves the definitions as they are
    assert [case.id for case in CASES[::7] if fails(adapter.run, case)] == []


def test_every_bug_that_a_case_catches_is_on_its_list():
    some = [case for case in CASES[::10] if case.operation in adapter.OPERATIONS]
    assert {case.id: sorted(case.flags) for case in some} == {case.id: sorted(caught(case)) for case in some}


def test_a_velocity_that_a_bug_makes_stiff_ends():
    with pytest.raises(RuntimeError, match="too stiff"):
        adapter.integrated(lambda theta: -1e9 * theta, np.ones(1), [1.0])
