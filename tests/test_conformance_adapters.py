"""Adapters for other frameworks pass the vectors; a factor N planted in K-FAC fails the K-FAC cases and is named."""

import ast
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from adapters.cpp import mistakes

import refngd
from refngd.conformance import vectors
from refngd.conformance.adapters.refngd_numpy import Engine
from refngd.conformance.bugs import BUGS
from refngd.conformance.compare import ACCURATE, CONFORMANT, FAILED, NOT_TESTABLE, UNSUPPORTED, check
from refngd.conformance.implementations import Results
from refngd.conformance.suspects import explain
from refngd.datasets import shipped

pytestmark = pytest.mark.filterwarnings("ignore:rho = .* lies among the negative eigenvalues:RuntimeWarning")

FOLDER = Path(__file__).parent / "adapters"
CASES, _ = vectors.read()
NOT_IN_TORCH = {
    "alpha", "angles", "averages", "batch_training", "centred", "cross_entropy_flow", "dynamics",
    "empirical_kernels", "euler_drift",
    "flatten", "flow", "forster", "gamma", "gaussian_outputs", "init", "isotropy", "kernel_coefficient", "kernels",
    "linearized", "linearized_training", "mode_escape", "mode_exponents", "mode_map_velocity", "mode_solution",
    "mode_speed", "mode_time", "mode_unbalanced", "null_update", "order_parameters", "predictive",
    "semi_orthogonal", "standardise", "statistics", "unit_norm", "wide_training",
}  # fmt: skip
IN_NODE = {"forward", "signals", "jacobian", "direction"}
NODE_FISHERS = {"Exact", "BlockDiagonal", "KFAC", "Unitwise", "Entrywise"}


def verdicts(implementation, dtype=np.float64):
    return {case.id: check(case, implementation, dtype) for case in CASES}


def failures(found):
    return {name: v.message for name, v in found.items() if v.status == FAILED}


def has_product(case):
    """Whether it has the damping of the product, which no template has."""
    return case.attrs.get("kfac_damping", "factors") != "factors"


def unsupported(found):
    return {name for name, v in found.items() if v.status == UNSUPPORTED}


# ------------------------------------------------------------------------------------------------------------- PyTorch


@pytest.fixture(scope="module")
def torch_adapter():
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    from adapters import torch_autograd

    return lambda case, dtype: torch_autograd.run(*case.arguments(dtype))


def test_torch_passes_every_case_and_lacks_only_what_it_says(torch_adapter):
    found = verdicts(torch_adapter)
    assert failures(found) == {}
    assert unsupported(found) == {case.id for case in CASES if case.operation in NOT_IN_TORCH or has_product(case)}
    counts = Counter(v.status for v in found.values())
    assert counts[CONFORMANT] <= 4 < 300 < counts[ACCURATE]


def test_torch_passes_in_float32_what_can_be_tested(torch_adapter):
    found = verdicts(torch_adapter, np.float32)
    assert failures(found) == {}
    assert Counter(v.status for v in found.values())[NOT_TESTABLE] < len(found) / 4


def test_torch_steps_are_those_of_its_explicit_matrices(torch_adapter):
    """K = G^{-1/q} J^T: the two routes of the template agree where G is regular."""
    import torch
    from adapters import torch_autograd as template

    compared = 0
    for case in CASES:
        fisher, q, rho = (case.attrs.get(name) for name in ("fisher", "q", "rho"))
        regular = case.operation == "direction" and not case.error and case.kappa_gram < 1e4
        if regular and q in (1, 2) and 2**-6 <= rho <= 1 and fisher != "Identity":
            inputs = {name: torch.as_tensor(a) for name, a in case.inputs.items()}
            s, _ = template.whitened(case.attrs, template.signals(inputs, case.attrs), inputs["y"])
            w, V = torch.linalg.eigh(template.matrix(inputs, case.attrs, s))
            expected = (V * w ** (-1 / q) if q != 1 else V / w) @ (V.T @ s.flat().T)
            actual = template.preconditioned(inputs, case.attrs, s)
            gap = float(torch.linalg.norm(actual - expected) / torch.linalg.norm(expected))
            assert gap < 1e-14 * float(abs(w).max() / abs(w).min()), case.id
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("name", ["torch_autograd", "jax_autograd"])
def test_a_template_takes_nothing_from_refngd(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", "") for node in imports}
    assert all(getattr(node, "level", 0) == 0 for node in imports)
    assert not any(str(name).startswith("refngd") for name in names)


# ---------------------------------------------------------------------------------------------------------- JavaScript


@pytest.fixture(scope="module")
def node_results(tmp_path_factory):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on the PATH: install Node.js 18 or later")
    folder = tmp_path_factory.mktemp("results")
    command = [node, FOLDER / "node" / "conformance.mjs", shipped(vectors.FOLDER), folder]
    subprocess.run(command, check=True, timeout=60)
    return folder


def test_the_javascript_example_passes_every_case_that_it_supports(node_results):
    assert len(list(node_results.glob("*.json"))) == len(CASES)
    found = verdicts(Results(node_results, [case.id for case in CASES]))
    assert failures(found) == {}
    assert unsupported(found) == {case.id for case in CASES if not in_node(case)}
    assert {v.status for v in found.values()} <= {ACCURATE, CONFORMANT, UNSUPPORTED}


def in_node(case):
    if case.operation != "direction":
        return case.operation in IN_NODE
    return case.attrs["fisher"] in NODE_FISHERS and not has_product(case) and case.attrs.get("loss", "mse") == "mse"


def test_the_javascript_example_refuses_in_its_own_words(node_results):
    refused = [case for case in CASES if case.error and in_node(case)]
    messages = [json.loads((node_results / f"{case.id}.json").read_text("utf-8"))["error"] for case in refused]
    assert len(refused) > 5
    assert not any("undefined" in message or "not a function" in message for message in messages)


def test_the_javascript_example_says_how_to_call_it(node_results):
    result = subprocess.run(["node", FOLDER / "node" / "conformance.mjs"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "usage: node conformance.mjs VECTORS RESULTS" in result.stderr


# -------------------------------------------------------------------------------------------------------------- C++17


def test_the_mistakes_of_the_template_in_cpp_are_changes_of_it_and_have_words():
    """g++ builds it, and all of them, in .ci/conformance, where `bench.suspects` counts those that are named."""
    found, source = mistakes.mistakes(), mistakes.SOURCE.read_text("utf-8")
    assert len(found) >= 60
    assert {name for name, (words, _) in found.items() if not words} <= BUGS.keys()
    planted = mistakes.planted(source)
    assert all(f'is("{name}")' in planted for name in found)
    assert "is(" not in source


# ----------------------------------------------------------------------------------------------------------- PORTING.md


GUIDE = (Path(refngd.__file__).parent / "PORTING.md").read_text("utf-8")


def test_the_result_file_of_the_guide_is_accurate(tmp_path):
    (tmp_path / "forward-001.json").write_text(re.search(r"```json\n(.*?)```", GUIDE, re.S)[1])
    (case,) = (case for case in CASES if case.id == "forward-001")
    assert check(case, Results(tmp_path, [case.id])).status == ACCURATE


def test_the_case_that_the_guide_works_through_has_these_numbers():
    (case,) = (case for case in CASES if case.id == "direction-099")
    text = GUIDE[GUIDE.index("    h_0 ") : GUIDE.index("`definitions.py` has the same")]
    rows = re.split(r"^    (?=\w)", text, flags=re.M)[1:]
    values = {**case.intermediates, **case.outputs, "lambda": case.intermediates["lambda_1"]}
    for name, numbers in (row.split(maxsplit=1) for row in rows):
        given = [float(x) for x in re.findall(r"-?\d+(?:\.\d{6}|\.5)?(?=[],])", numbers)]
        assert given == [float(f"{x:.6f}") for x in values[name].ravel()], name
    assert len(rows) == 15


def test_the_guide_gives_every_operation_its_step():
    steps = GUIDE[GUIDE.index("| step | passes | needs |") : GUIDE.index("A first port may leave out")]
    assert {case.operation for case in CASES} - set(re.findall(r"`(\w+)`", steps)) == set()


# ----------------------------------------------------------------------------------------------------- a planted bug


class FactorN(Engine):
    """refngd with N times the K-FAC step."""

    def direction(self, inputs, attrs):
        outputs = super().direction(inputs, attrs)
        factor = len(inputs["x"]) if attrs["fisher"] == "KFAC" else 1
        return {name: factor * a if name.startswith("dW") else a for name, a in outputs.items()}


def test_a_factor_n_in_kfac_fails_exactly_the_kfac_cases_and_is_named():
    cases = [case for case in CASES if case.operation in ("direction", "coefficient")]
    found = {case.id: (case, check(case, lambda case, dtype: FactorN()(*case.arguments(dtype)))) for case in cases}
    failed = {name for name, (_, verdict) in found.items() if verdict.status == FAILED}
    assert failed == {
        case.id
        for case in CASES
        if case.operation == "direction" and case.attrs["fisher"] == "KFAC" and not case.error
        and len(case.inputs["x"]) > 1
    }  # fmt: skip
    for name in sorted(failed)[::5]:
        case, verdict = found[name]
        lines, _ = explain(case, verdict.outputs, np.float64)
        assert "looks like: a factor N = " in lines[-1], name
