"""The certified vectors: what their README promises holds, and the oracle makes the same files again."""

import hashlib
import importlib.resources
import json
import math
import re
import struct
from functools import cache
from itertools import combinations, product
from pathlib import Path

import pytest
from mpmath import mp

from data.oracle import certify, files, fisher
from data.oracle import linalg as la
from data.oracle.__main__ import main
from data.oracle.cases import ABOUT, cases
from data.oracle.cases.directions import FISHERS
from data.oracle.cases.problems import Case, draw

FOLDER = Path(__file__).parent.parent / "data" / "vectors" / "v1"
CLASSES = {"discriminating", "stress", "boundary", "must-fail", "limit", "superseded"}
TEXTS = ("id", "class", "title", "equation", "pins", "catches", "flags", "attrs", "inputs")
VERDICT = ("outputs", "kappa", "kappa_gram", "digits")
MANIFEST = json.loads((FOLDER / "manifest.json").read_text("utf-8"))
OPERATIONS = [entry["operation"] for entry in MANIFEST["files"]]


@cache
def read(operation):
    return json.loads((FOLDER / f"{operation}.json").read_text("utf-8"))


def every_case():
    return [case for operation in OPERATIONS for case in read(operation)["cases"]]


def numbers(array):
    return [float(x) for x in array["data"]]


def is_float32(x):
    return math.isinf(x) or (abs(x) < 3e38 and struct.unpack("f", struct.pack("f", x))[0] == x)


def test_the_manifest_lists_every_file_with_its_checksum():
    assert MANIFEST["format"] == 1
    assert sorted(ABOUT) == OPERATIONS
    assert {path.name for path in FOLDER.glob("*.json")} == {"manifest.json", *(e["file"] for e in MANIFEST["files"])}
    for entry in MANIFEST["files"]:
        content = (FOLDER / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        assert entry["cases"] == len(read(entry["operation"])["cases"])
        assert content.isascii()
        assert content.endswith(b"}\n")
        assert b"\r" not in content


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 6e6


def test_ids_are_permanent_numbers_without_gaps():
    for operation in OPERATIONS:
        ids = [case["id"] for case in read(operation)["cases"]]
        assert ids == [f"{operation}-{k:03d}" for k in range(1, len(ids) + 1)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_cases_have_the_keys_of_the_schema(operation):
    record = read(operation)
    assert list(record) == ["operation", "about", "cases"]
    for case in record["cases"]:
        verdict = ["error"] if "error" in case else list(VERDICT)
        if "intermediates" in case:
            verdict.insert(1, "intermediates")
        assert list(case) == [*TEXTS, *verdict]
        assert case["class"] in CLASSES
        assert case["catches"]
        assert case["flags"] == sorted(case["flags"])
        assert set(case["flags"]) <= set(MANIFEST["bugs"])
        assert bool(case["flags"]) == ("error" not in case)
        if "error" not in case:
            assert 1 <= case["kappa"] <= case["kappa_gram"]
            assert case["digits"] in range(20, 50, 5)
        for name in ("inputs", "outputs", "intermediates"):
            for array in case.get(name, {}).values():
                assert list(array) == ["shape", "data"]
                assert math.prod(array["shape"]) == len(array["data"])
                assert not any(math.isnan(x) for x in numbers(array))
                assert all(x in ("inf", "-inf") or float(repr(x)) == x for x in array["data"])


def test_the_schemas_name_the_same_keys():
    schema = json.loads((FOLDER / "schema" / "operation.schema.json").read_text("utf-8"))
    case = schema["$defs"]["case"]
    assert set(case["properties"]) == {*TEXTS, *VERDICT, "intermediates", "error"}
    assert set(case["required"]) == set(TEXTS)
    assert set(case["properties"]["class"]["enum"]) == CLASSES
    assert set(case["else"]["required"]) == set(VERDICT)


def test_no_case_is_another_once_more():
    for operation in OPERATIONS:
        cases = [case for case in read(operation)["cases"] if case["class"] != "superseded"]
        problems = [json.dumps([case["attrs"], case["inputs"]], sort_keys=True) for case in cases]
        assert len(set(problems)) == len(problems), operation


def coincidences(numbers):
    """Pairs of names whose numbers, squares, inverses or ratios coincide."""
    values = {}
    for name, x in numbers.items():
        for words, v in ((name, x), (f"{name}^2", x * x), (f"1/{name}", 1 / x), (f"1/{name}^2", 1 / x / x)):
            values.setdefault(round(v, 9), []).append(words)
        for other, y in numbers.items():
            if other != name:
                values.setdefault(round(x / y, 9), []).append(f"{name}/{other}")
    return [names for names in values.values() if len(names) > 1]


def test_sizes_and_settings_of_later_cases_tell_factors_apart():
    """For each layer no two of N, N', C, M, M + 1, sigma_w, sigma_b, their squares, ratios and inverses coincide."""
    found = 0
    for operation, first in FIRST.items():
        for case in read(operation)["cases"][first:]:
            if case["class"] != "discriminating" or "W_1" not in case["inputs"]:
                continue
            W = [case["inputs"][f"W_{l}"]["shape"] for l in range(1, 9) if f"W_{l}" in case["inputs"]]
            bias = case["attrs"]["sigma_b"] > 0
            sizes = {"N": case["inputs"]["x"]["shape"][0], "C": W[-1][0], "sigma_w": case["attrs"]["sigma_w"]}
            sizes |= {"sigma_b": case["attrs"]["sigma_b"]} if bias else {}
            if "x_test" in case["inputs"]:
                sizes["N'"] = case["inputs"]["x_test"]["shape"][0]
            sizes = {name: value for name, value in sizes.items() if value != 1}
            for _, k in W:
                M = k - bias
                assert coincidences(sizes | {"M": M, "M + 1": M + 1}) == [], case["id"]
            found += 1
    assert found > 50


FACTORS = {  # what cases of these operations are made of, with all values
    "operation": ("direction", "coefficient", "fisher_matrix", "prediction", "training"),
    "fisher": tuple(FISHERS),
    "q": (1, 1.5, 2, 3, math.inf),
    "damped": (False, True),
    "bias": (False, True),
    "many": (False, True),  # outputs
    "frozen": (False, True),
    "loss": ("mse", "cross-entropy"),
    "parameterization": ("ntk", "standard"),
}


def admissible(pair):
    """Whether cases can have two such values."""
    coupled, powers = pair.get("fisher") in ("BlockTridiagonal", "Layerwise"), pair.get("q", 1) not in (1, math.inf)
    cross_entropy = pair.get("loss") == "cross-entropy"
    return not (
        (pair.get("operation") == "fisher_matrix" and pair.get("q", 1) != 1)  # it has no power
        or (coupled and powers)
        or (pair.get("fisher") == "QuasiDiagonal" and pair.get("bias") and powers)
        or (pair.get("fisher") == "KFAC-separate" and pair.get("bias") is False)
        or (cross_entropy and (pair.get("operation") == "prediction" or pair.get("many") is False))
    )


def values_of(case):
    attrs = case["attrs"]
    own = {key: attrs[key] for key in ("fisher", "kfac_bias", "kfac_last") if key in attrs}
    (fisher,) = [name for name, (known, *_) in FISHERS.items() if known == own]
    C = max((name, a["shape"][0]) for name, a in case["inputs"].items() if name.startswith("W_"))[1]
    return {
        "operation": case["id"].rpartition("-")[0],
        "fisher": fisher,
        "q": float(attrs.get("q", 1)),
        "damped": attrs.get("rho", 0) > 0,
        "bias": attrs["sigma_b"] > 0,
        "many": C > 1,
        "frozen": bool(attrs.get("frozen")),
        "loss": attrs.get("loss", "mse"),
        "parameterization": attrs["parameterization"],
    }


def test_no_admissible_pair_of_attributes_is_without_a_case():
    cases = [case for operation in FACTORS["operation"] for case in read(operation)["cases"] if "error" not in case]
    found = {pair for case in cases for pair in combinations(values_of(case).items(), 2)}
    for (a, values), (b, others) in combinations(FACTORS.items(), 2):
        for pair in product(values, others):
            assert not admissible({a: pair[0], b: pair[1]}) or ((a, pair[0]), (b, pair[1])) in found, (a, b, pair)


def test_every_operation_and_every_fisher_has_a_discriminating_case():
    assert {case["class"] for case in every_case()} == CLASSES
    for operation in OPERATIONS:
        telling = [case for case in read(operation)["cases"] if case["class"] == "discriminating"]
        assert telling
        assert all(case["kappa"] < 1000 for case in telling)
    for operation in ("direction", "fisher_matrix", "coefficient"):
        telling = [case["attrs"] for case in read(operation)["cases"] if case["class"] == "discriminating"]
        for attrs, _, _ in FISHERS.values():
            assert any(attrs.items() <= other.items() for other in telling), (operation, attrs)


def test_the_readme_says_which_operations_have_frozen_layers_and_a_loss():
    text = (FOLDER.parent / "README.md").read_text("utf-8").partition("## Operations")[2]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|", text, re.M)
    documented = dict(rows)
    assert set(documented) == set(OPERATIONS)
    for operation in OPERATIONS:
        used = {"frozen", "loss"} & {name for case in read(operation)["cases"] for name in case["attrs"]}
        words = re.findall(r"\w+", documented[operation])
        assert "same" in words or used <= set(words), operation


def test_inputs_and_attributes_are_exact_in_float32_but_for_stress_and_limits():
    for case in every_case():
        if case["class"] not in ("stress", "limit"):
            values = [x for array in case["inputs"].values() for x in numbers(array)]
            values += [x for x in case["attrs"].values() if isinstance(x, float)]
            assert all(is_float32(x) for x in values), case["id"]


def test_the_vectors_travel_with_the_package():
    installed = importlib.resources.files("refngd") / "_data" / "vectors" / "v1" / "manifest.json"
    if installed.is_file():  # in a checkout the data lie beside the package
        assert installed.read_bytes() == (FOLDER / "manifest.json").read_bytes()


SAMPLE = {  # one of each kind of work, all of them fast
    "forward": 3, "signals": 4, "jacobian": 1, "push": 2, "pull": 1, "ntk": 2, "direction": 20, "fisher_matrix": 6,
    "coefficient": 17, "alpha": 9, "prediction": 4, "training": 1, "order_parameters": 1, "gamma": 3,
    "cross_entropy": 2, "inverse_power": 2, "forster": 1, "deep_linear": 2, "deep_linear_update": 24,
    "deep_linear_step": 9, "mode_velocity": 3, "mode_solution": 5, "mode_time": 3, "mode_exponents": 2, "kernels": 4,
    "kernel_coefficient": 1, "batch_training": 3, "linearized": 1, "linearized_training": 4, "empirical_kernels": 1,
    "dynamics": 1, "isotropy": 1, "cross_entropy_flow": 1, "standardise": 1, "statistics": 1, "null_update": 2,
    "euler_drift": 2, "mode_speed": 2, "mode_escape": 2, "mode_map_velocity": 2, "mode_unbalanced": 1, "unit_norm": 1,
    "init": 2, "semi_orthogonal": 1, "gaussian_outputs": 2, "predictive": 1, "centred": 2, "flatten": 1, "averages": 8,
    "wide_training": 4,
}  # fmt: skip
FIRST = {  # how many cases there were when distinct sizes came in
    "alpha": 17, "coefficient": 41, "direction": 123, "fisher_matrix": 31, "forward": 13, "jacobian": 10, "kernels": 15,
    "ntk": 10, "prediction": 25, "pull": 9, "push": 9, "signals": 10, "training": 17, "batch_training": 0,
    "linearized": 0, "linearized_training": 0, "empirical_kernels": 0,
}  # fmt: skip


@pytest.mark.parametrize("operation", SAMPLE)
def test_the_oracle_reproduces_a_sample_byte_for_byte(operation):
    case = cases(operation)[SAMPLE[operation] - 1]
    text = files.case_text(case, certify.certified(case))
    assert text in (FOLDER / f"{operation}.json").read_text("utf-8"), case.id


def test_check_names_the_case_that_differs(tmp_path, capsys):
    arguments = ["--only", "gamma", "--out", str(tmp_path), "--processes", "1"]
    assert main(arguments) == 0
    assert (tmp_path / "gamma.json").read_bytes() == (FOLDER / "gamma.json").read_bytes()
    assert main([*arguments, "--check"]) == 0
    text = (tmp_path / "gamma.json").read_text("utf-8")
    (tmp_path / "gamma.json").write_text(text.replace('"q": 2.0', '"q": 2.5'), "utf-8")
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 1
    shown = capsys.readouterr().out
    assert "gamma-003" in shown
    assert "manifest.json" in shown


def test_the_recurrence_of_the_input_numbers():
    state = 7919 * 5 + 1
    values = []
    for _ in range(11):
        state = (1103515245 * state + 12345) % 2**31
        values.append(((state >> 8) % 3073 - 1536) / 1024)
    assert draw(5, (1, 3)) == [values[8:]]


# ------------------------------------------------------------------- the oracle against numbers found independently


def oracle(operation, inputs, **attrs):
    """Outputs at 40 digits, of a case that is not in the files."""
    case = Case(operation, "", "discriminating", "", "", [], attrs, inputs)
    outputs, _ = certify.evaluate(case, 40)
    return outputs


def close(a, b):
    return abs(a - b) <= 1e-13 * abs(b)


UNIT = [[1.0, 0.0, 0.0, 0.0], [0.3, 0.91**0.5, 0.0, 0.0]]
WIDE = {"sigma_w": 2**0.5, "sigma_b": 0.5**0.5, "parameterization": "ntk"}


def test_golden_kernels_at_infinite_width():
    """THEORY 13, 1 and 2."""
    k = oracle("kernels", {"x": UNIT[:1], "x_test": UNIT[1:]}, activation="relu", depth=3, **WIDE)
    layers = [k[f"A_{l}"][0][0] * k[f"B_{l + 1}"][0][0] for l in range(3)]
    golden = (0.37708092925126, 0.97053480791767, 1.75128263485490)
    assert all(close(a, b) for a, b in zip(layers, golden, strict=True))
    assert close(
        oracle("kernels", {"x": UNIT[:1], "x_test": UNIT[:1]}, activation="relu", depth=3, **WIDE)["Theta"][0][0], 4.5
    )
    plain = {"sigma_w": 1.0, "sigma_b": 0.0, "parameterization": "ntk"}
    x = [[2 * a for a in row] for row in UNIT]  # q = 1, r = .3
    for activation, A, Xi in (
        ("relu", 0.2413721419177438, 0.2984933420103392),
        ("erf", 0.12818843369795, 0.43316488957426),
    ):
        k = oracle("kernels", {"x": x[:1], "x_test": x[1:]}, activation=activation, depth=2, **plain)
        assert close(k["A_1"][0][0], A)
        assert close(k["B_1"][0][0], Xi)


def test_golden_isotropy_constants():
    """THEORY 13, 3."""
    net = {"activation": "tanh", "sigma_w": 1.5, "sigma_b": 0.0, "parameterization": "ntk", "n": 2}
    Sigma = [[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]]
    assert close(
        oracle("alpha", {"Sigma": Sigma}, fisher="Layerwise", widths=[3, 3, 3, 1], **net)["alpha"], 2.357976653696498
    )
    for L, alpha in ((3, 1), (4, 2), (5, 2)):
        assert close(
            oracle("alpha", {}, fisher="BlockTridiagonal", widths=[2, *[2] * (L - 1), 1], **net)["alpha"], alpha
        )


def test_golden_cross_entropy():
    """THEORY 13, 4."""
    got = oracle("cross_entropy", {"f": [[1.0, 2.0, 3.0]], "y": [[1.0, 0.0, 0.0]]}, loss_rho=0.1)["velocity"][0]
    golden = (0.50517571874405, -0.06276119900086, -0.44241451974319)
    assert all(close(a, b) for a, b in zip(got, golden, strict=True))


def tiny_net():
    """THEORY 13, 5."""
    widths, root = (3, 5, 5, 1), mp.sqrt(2)
    inputs = {
        f"W_{l}": [
            [root * mp.sin(l + (i * widths[l - 1] + j + 1) ** 2) for j in range(widths[l - 1])]
            + [root * mp.cos(l + (i + 1) ** 2)]
            for i in range(widths[l])
        ]
        for l in (1, 2, 3)
    }
    x = [[mp.sin((3 * n + j + 1) ** 2) for j in range(3)] for n in range(5)]
    x = [[v / mp.sqrt(sum(a * a for a in row)) for v in row] for row in x]
    # W ~ N(0, 1) in theory's scale: the factors are in h
    return {**inputs, "x": x[:3], "x_test": x[3:], "y": [[1.0], [-1.0], [1.0]]}


def test_golden_tiny_net():
    """THEORY 13, 5: outputs, loss, and outputs after one step of exact natural gradient."""
    with mp.workdps(40):
        inputs, attrs = tiny_net(), {"activation": "tanh", **WIDE, "fisher": "Exact", "rho": 0.0, "q": 1}
        f = [row[0] for x in ("x", "x_test") for row in oracle("forward", {**inputs, "x": inputs[x]}, **attrs)["f"]]
        golden = (-0.187517501740302, -0.558951475203746, -0.353251615101541, -0.262932383003002, -0.450719347763366)
        assert all(close(a, b) for a, b in zip(f, golden, strict=True))
        after = oracle("training", inputs, eta=0.5, steps=1, **attrs)
        assert close(after["loss"][0], 0.57266859198990)
        f = oracle("forward", {**inputs, **{name: after[name] for name in ("W_1", "W_2", "W_3")}}, **attrs)["f"]
        golden = (0.47504982801725, -0.52790836020758, 0.391022528259)
        assert all(abs(a[0] - b) < 1e-12 for a, b in zip(f, golden, strict=True))


def test_golden_deep_linear():
    """THEORY 13, 6."""
    dims = (3, 4, 4, 2)
    with mp.workdps(40):
        inputs = {
            f"w_{k + 1}": [
                [mp.mpf(6) / 10 * mp.cos(1 + k + 2 * a + 3 * b + a * b) for b in range(dims[k])]
                for a in range(dims[k + 1])
            ]
            for k in range(3)
        }
        inputs["w_star"] = [[1.5, -0.3, 0.2], [0.1, 0.8, -0.6]]
        state = oracle("deep_linear", inputs)
        assert close(state["loss"], 2.13797044296717)
        assert close(mp.mnorm(mp.matrix(state["c_1"]), "f"), 1.40578087745281)
        for q, size in ((1, 3.3145896760499), (2, 2.0678348304288), (3, 2.3052157641755), ("inf", 3.3870760884634)):
            u = oracle("deep_linear_update", inputs, q=q, block=False)
            total = mp.sqrt(sum(v * v for w in u.values() for row in w for v in row))
            assert close(total, size)


def test_golden_half_times():
    """THEORY 9: half-max times of Huh (17) from s0 = s*/100, or 0."""
    for p, s0, golden in (
        (0.0, 0.0, 0.6931471806),
        (0.5, 0.0, 1.7627471740),
        (1.0, 0.01, 4.5951198501),
        (2.0, 0.01, 102.5951198501),
        (0.75, 0.0, 3.8468227768),
        (1.5, 0.01, 18.7336493538),
    ):
        t = oracle("mode_time", {"fraction": 0.5, "s_star": 1.0, "s0": s0}, p=p, eta_bar=1.0)["t"]
        assert abs(t - golden) < 1e-9 * golden, p


# ------------------------------------------------------------- the oracle's powers against those of all eigenvalues


def power_by_all(K, exponent):
    """By every eigenvalue of K, as the definition says; no power of those that are zero."""
    w, V = mp.eigsy(mp.matrix(K))
    terms = [x**exponent * V[:, k] * V[:, k].T for k, x in enumerate(w) if abs(x) > 1e-20 * max(w)]
    return sum(terms, mp.zeros(len(K))).tolist()


def distance(A, B):
    return la.norm(v for row in la.add(A, B, -1) for v in row) / la.norm(v for row in B for v in row)


@pytest.mark.parametrize("exponent", [-1, -0.5, 0.5])
@pytest.mark.parametrize("rho", [0, 0.25, 1e-9])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_powers_of_the_oracle_go_through_the_range(rank, rho, exponent):
    with mp.workdps(50):
        R = [[mp.sin((1 + 5 * i + j) ** 2) * mp.mpf(10) ** (-2 * i) for j in range(5)] for i in range(rank)]
        for n in range(rank):
            R[n].insert(2, mp.mpf(0))  # a block of its own, which is zero
        K = la.matmul(la.transpose(R), R)
        w, V = la.eigen(K)
        assert len(w) == rank
        assert distance(la.matmul(V, la.transpose(V)), la.identity(rank)) < 1e-45
        assert distance(la.power(K, exponent, rho), power_by_all(la.damped(K, rho), exponent)) < 1e-25


@pytest.mark.parametrize("rho", [0, 0.25])
@pytest.mark.parametrize("options", [{}, {"kfac_last": "gram"}, {"kfac_bias": "separate"}])
def test_the_oracles_power_of_kfac_is_that_of_its_matrix(options, rho):
    with mp.workdps(50):
        net = fisher.Net.of({"activation": "tanh", "sigma_b": 0.5})
        W = [[[mp.sin((l + 3 * i + j) ** 2) for j in range(3)] for i in range(2)] for l in (1, 2)]
        s = fisher.signals(net, W, [[1, -0.5], [0.25, 0.75], [0.5, 2]])
        a = fisher.Approximation.of({"fisher": "KFAC", "rho": rho, "q": 2, **options}, {})
        H = fisher.unit_hessians(s)
        power = fisher.kfac_power(a, s, H, mp.mpf(-1) / 2)
        assert distance(power, power_by_all(fisher.kfac_matrix(a, s, H), mp.mpf(-1) / 2)) < 1e-25


def test_the_oracle_solves_with_a_pivot_that_is_zero():
    K = [[0.0, 2.0, 1.0], [1.0, 0.0, 0.5], [3.0, 0.0, 0.0]]
    with mp.workdps(50):
        X = la.solve(certify.exact(K), la.identity(3))
        assert distance(la.matmul(K, X), la.identity(3)) < 1e-45


@pytest.mark.parametrize("rho", [2.0**-1022, 0.0])
def test_the_oracle_sees_probabilities_and_damping_far_below_1(rho):
    """p = (1 - t, t) with t = e^-1001: the Hessian is t [[1, -1], [-1, 1]] + rho I, and the residual of class 1 -t."""
    with mp.workdps(50):
        e, (H,) = fisher.loss_terms({"loss": "cross-entropy", "loss_rho": rho}, [[1.0, -1000.0]], [[1.0, 0.0]])
        t = mp.exp(-1001)
        assert distance(e, [[-t, t]]) < 1e-45
        assert all(
            distance([[a]], [[b]]) < 1e-45 for a, b in zip([*H[0], *H[1]], [t + rho, -t, -t, t + rho], strict=True)
        )
