"""`refngd.definitions` on the conformance vectors: every case accurate, none merely conformant.

It checks no argument, so the must-fail cases, which ask for an error in words, are left out: they are all of this kind
(a wrong shape, a number out of range, a matrix that is not symmetric).
"""

import numpy as np
import pytest

from refngd.conformance import vectors
from refngd.conformance.adapters import definitions
from refngd.conformance.compare import ACCURATE, NOT_TESTABLE, check

CASES = [case for case in vectors.read()[0] if case.error is None]
OPERATIONS = sorted({case.operation for case in CASES})


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_vector_is_accurate(operation, dtype):
    cases = [case for case in CASES if case.operation == operation]
    found = {c.id: check(c, lambda c, dtype: definitions.run(*c.arguments(dtype)), dtype) for c in cases}
    allowed = {ACCURATE} if dtype == np.float64 else {ACCURATE, NOT_TESTABLE}
    assert {name: v for name, v in found.items() if v.status not in allowed} == {}
    assert sum(v.status == ACCURATE for v in found.values()) > len(found) / 2


def test_the_adapter_has_all_operations():
    assert sorted(definitions.OPERATIONS) == OPERATIONS
    with pytest.raises(NotImplementedError, match="hessian"):
        definitions.run("hessian", {}, {})
