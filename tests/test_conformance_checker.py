"""The conformance suite itself: verdicts, malformed outputs, corrupt files, the pytest side, and bugs it must name."""

import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import refngd as rn
from refngd.conformance import compare, plugin, vectors
from refngd.conformance.adapters.refngd_numpy import OPERATIONS, Engine, listed, run
from refngd.conformance.compare import ACCURATE, CONFORMANT, FAILED, NOT_TESTABLE, UNSUPPORTED, check, judge
from refngd.conformance.suspects import explain

ROOT = Path(__file__).parent.parent
CASES, BROKEN = vectors.read()
OF = {operation: [case for case in CASES if case.operation == operation] for operation in OPERATIONS}


def adapter(case, dtype):
    with np.errstate(all="ignore"):
        return run(*case.arguments(dtype))


def small(**changes):
    """A case by hand."""
    fields = dict(
        id="forward-900", operation="forward", kind="discriminating", title="", equation="", catches="", attrs={},
        inputs={"x": np.ones((2, 2))}, outputs={"f": np.array([[3.0, 0.0], [0.0, 4.0]])}, kappa=2.0, kappa_gram=2e3,
    )  # fmt: skip
    return vectors.Case(**{**fields, **changes})


def returning(f, case=None, dtype=np.float64):
    """The verdict on an implementation that returns f, or raises it."""

    def implementation(case, dtype):
        if isinstance(f, Exception):
            raise f
        return f

    return check(case or small(), implementation, dtype)


# ------------------------------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    ("error", "status"),
    [(0, ACCURATE), (50 * 2**-53, ACCURATE), (70 * 2**-53, CONFORMANT), (5e4 * 2**-53, CONFORMANT), (1e-10, FAILED)],
)
def test_the_bounds_are_30_u_kappa(error, status):
    f = small().outputs["f"].copy()
    f[0, 1] = 5 * error  # ||f|| = 5
    verdict = judge(small(), {"f": f})
    assert verdict.status == status
    assert verdict.error == pytest.approx(error)
    assert verdict.digits == pytest.approx(-np.log10(error) if error else 15.95, abs=0.01)


def test_float32_has_its_own_bounds():
    f = small().outputs["f"].astype(np.float32) * np.float32(1 + 2**-20)
    assert judge(small(), {"f": f}, np.float32).status == ACCURATE
    assert judge(small(), {"f": f.astype(float)}).status == FAILED
    assert judge(small(), {"f": small().outputs["f"].astype(np.float32)}, np.float32).digits == pytest.approx(
        7.2, abs=0.1
    )


def test_an_output_that_is_zero_is_measured_by_the_others():
    case = small(outputs={"a": np.zeros(2), "b": np.array([3.0, 4.0])})
    assert judge(case, {"a": np.array([5e-15, 0]), "b": case.outputs["b"]}).error == pytest.approx(1e-15)
    assert judge(small(outputs={"a": np.zeros(2)}), {"a": np.array([1e-3, 0])}).error == 1e-3


def test_infinity_is_compared_exactly_and_small_numbers_do_not_underflow():
    case = small(outputs={"t": np.array([1.0, np.inf])})
    assert judge(case, {"t": np.array([1.0, np.inf])}).status == ACCURATE
    assert judge(case, {"t": np.array([1.0, 2.0])}).status == FAILED
    tiny = small(outputs={"t": np.array([1e-200])})
    assert judge(tiny, {"t": np.array([1e-200])}).status == ACCURATE
    assert judge(tiny, {"t": np.array([2e-200])}).error == pytest.approx(1)


def test_a_case_beyond_the_dtype_is_not_testable_and_says_so():
    verdict = returning(RuntimeError("not even called"), small(kappa=1e6, kappa_gram=1e6), np.float32)
    assert verdict.status == NOT_TESTABLE
    assert "kappa = 1e+06" in verdict.message
    gram = small(kappa_gram=1e6)
    f = gram.outputs["f"].astype(np.float32)
    assert judge(gram, {"f": f}, np.float32).status == ACCURATE
    assert judge(gram, {"f": f * np.float32(1.01)}, np.float32).status == NOT_TESTABLE


def test_unsupported_is_no_failure_and_an_exception_is_one():
    assert returning(NotImplementedError("no KFAC")).message == "unsupported: no KFAC"
    assert returning(NotImplementedError()).status == UNSUPPORTED
    verdict = returning(ZeroDivisionError("oh"))
    assert verdict.status == FAILED
    assert verdict.message.startswith("raised ZeroDivisionError: oh")
    assert "test_conformance_checker.py" in verdict.message


def test_must_fail_passes_if_and_only_if_an_error_is_raised():
    case = small(outputs={}, error="rho is negative")
    assert returning(ValueError("rho"), case).status == ACCURATE
    assert returning(NotImplementedError(), case).status == UNSUPPORTED
    verdict = returning({}, case)
    assert verdict.status == FAILED
    assert "rho is negative" in verdict.message


RIGHT = small().outputs["f"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([RIGHT], "the outputs are a list; expected a dict of arrays: f"),
        (None, "the outputs are a NoneType"),
        ({}, "f is missing"),
        ({"f": RIGHT, "y_hat": RIGHT}, "unknown outputs: y_hat; expected f"),
        ({"f": RIGHT, 3: RIGHT}, "unknown outputs: 3"),
        ({"f": RIGHT.tolist()}, "f is a list; expected a NumPy array"),
        ({"f": RIGHT.astype(np.float32)}, "f has dtype float32; expected float64"),
        ({"f": RIGHT + 0j}, "f has dtype complex128"),
        ({"f": RIGHT.astype(object)}, "f has dtype object"),
        ({"f": RIGHT.astype(int)}, "f has dtype int64"),
        ({"f": RIGHT[0]}, "f has shape (2,); expected (2, 2)"),
        ({"f": RIGHT.ravel()}, "f has shape (4,); expected (2, 2): the number of entries is right"),
        ({"f": RIGHT[:, :1]}, "f has shape (2, 1); expected (2, 2): the bias column, the last, looks missing"),
        ({"f": RIGHT * np.nan}, "f has 4 entries that are nan or infinite"),
        ({"f": np.where(RIGHT == 3, np.inf, RIGHT)}, "f has 1 entries that are nan or infinite"),
    ],
)
def test_malformed_outputs_are_named(outputs, message):
    verdict = returning(outputs)
    assert verdict.status == FAILED
    assert message in verdict.message


def test_a_transposed_output_is_recognised_by_its_shape():
    case = small(outputs={"J": np.ones((2, 3))})
    assert "it looks transposed" in judge(case, {"J": np.ones((3, 2))}).message


def test_all_that_is_malformed_is_named_and_scalars_may_be_floats():
    case = small(outputs={"loss": np.array(2.0), "f": RIGHT, "g": RIGHT})
    message = judge(case, {"loss": 2.0, "f": RIGHT[0]}).message
    assert "f has shape" in message
    assert "g is missing" in message
    assert "loss" not in message


# --------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def copy(tmp_path):
    """A copy of the vectors, to be spoilt."""
    folder = tmp_path / "v1"
    shutil.copytree(vectors.shipped(vectors.FOLDER), folder)
    return folder


def test_the_shipped_vectors_are_whole():
    assert not BROKEN
    assert len({case.id for case in CASES}) == len(CASES) > 50
    assert {case.operation for case in CASES} <= set(OPERATIONS)


def test_arrays_survive_their_encoding():
    for a in (np.array(1.5), np.array([[1.0, np.inf]]), np.zeros((0, 3)), np.array([0.1, 1e-300, -2])):
        again = vectors.decode(json.loads(json.dumps(vectors.encode(a))))
        assert again.shape == a.shape
        np.testing.assert_array_equal(again, a)
    with pytest.raises(ValueError, match="as many numbers as the shape says"):
        vectors.decode({"shape": [2], "data": [1.0]})


def spoil_digit(path):
    path.write_text(path.read_text().replace("1", "2", 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_digit, "forward.json is corrupt or was edited"),
        (lambda path: path.write_bytes(path.read_bytes()[:99]), "forward.json is corrupt or was edited"),
        (Path.unlink, "forward.json is missing"),
    ],
)
def test_a_corrupt_file_is_named_and_the_others_go_on(copy, spoil, message):
    spoil(copy / "forward.json")
    cases, (broken,) = vectors.read(copy)
    assert message in broken.message
    assert (broken.id, broken.operation) == ("forward.json", "forward")
    assert len(cases) == len(CASES) - len(OF["forward"])


@pytest.mark.parametrize("content", ["{}", "[]", '{"cases": [{"id": "forward-001"}]}', '{"cases": []}', "not JSON"])
def test_a_file_that_is_no_vector_file_is_named(copy, content):
    (copy / "forward.json").write_text(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    (entry,) = (entry for entry in manifest["files"] if entry["file"] == "forward.json")
    entry["sha256"] = compare_sum(content)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    _, (broken,) = vectors.read(copy)
    assert broken.message.startswith("forward.json")


def compare_sum(content):
    return vectors.hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 1}', '{"format": 99, "files": []}'])
def test_without_a_manifest_there_is_nothing_to_run(copy, content):
    path = copy / "manifest.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match="manifest"):
        vectors.read(copy)


# ----------------------------------------------------------------------------------------------------- refngd on NumPy


def test_refngd_is_accurate_on_every_case():
    start = time.perf_counter()
    verdicts = {case.id: check(case, adapter) for case in CASES}
    assert {name: v.message for name, v in verdicts.items() if v.status != ACCURATE} == {}
    assert time.perf_counter() - start < 60


def test_refngd_is_conformant_in_float32_wherever_that_can_be_tested():
    statuses = {case.id: check(case, adapter, np.float32).status for case in CASES}
    assert {name for name, status in statuses.items() if status not in (ACCURATE, CONFORMANT, NOT_TESTABLE)} == set()
    assert Counter(statuses.values())[NOT_TESTABLE] < len(CASES) / 4


def test_intermediates_are_returned_and_right():
    given = 0
    for case in OF["direction"] + OF["deep_linear_update"]:
        if not case.error:
            outputs = adapter(case, float)
            same = {name: a for name, a in case.intermediates.items() if name in outputs}
            bound = max(compare.bounds(case, float)[1], 1e-12)
            assert max(compare.relative_errors(same, outputs).values()) < bound, case.id
            given += len(same)
    assert given > 100
