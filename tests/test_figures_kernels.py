"""bench/ko_kernels.py: each figure at a tiny scale, from its parts to its picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support import host

import refngd as rn
from bench import ko_kernels, limits
from bench.data import two_parts
from bench.ko_kernels import FIGURES
from refngd import datasets

PANEL = {"title": "3 and 8", "data": "mnist-sample", "classes": [3, 8], "N_test": 40, "N": [4, 30]}
PANELS = [
    PANEL,
    PANEL | {"title": "few inputs", "components": 5, "N": [20, 40]},
    PANEL | {"title": "three", "classes": [1, 4, 9]},
]
TINY = {
    "ko-2": {"panels": PANELS, "initialisations": 3, "seeds": 2},
    "ko-3": {"M": [16, 32], "M_0": 12, "N": 8, "seeds": 2},
    "ko-s2": {"widths": [64, 128, 256], "s": [0, 1.5], "seeds": 2, "narrow": [5, 10, 20], "draws": 5},
}


def tiny(name):
    """The figure with the settings TINY alone, and these."""
    settings = FIGURES[name].settings["small"] | TINY[name]
    return replace(FIGURES[name], settings={"tiny": settings}), settings


def computed(figure, settings):
    """The numbers of all parts, through JSON."""
    parts = figure.parts(settings)
    results = {part: figure.compute(settings, part, "cpu", None) for part in parts}
    assert len(results) == len(parts)
    return json.loads(json.dumps(results, allow_nan=False))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_runs_from_its_parts_to_its_picture(name, tmp_path):
    figure, settings = tiny(name)
    results = computed(figure, settings)
    verdicts = figure.verdicts(settings, results)
    assert len({text for text, _ in verdicts}) == len(verdicts) >= 3
    assert all(type(text) is str and type(holds) is bool for text, holds in verdicts)
    figure.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_settings_are_json_and_every_part_has_a_name_of_its_own(name):
    figure = FIGURES[name]
    assert set(figure.settings) == {"small", "paper"}
    for settings in figure.settings.values():
        assert json.loads(json.dumps(settings)) == settings
        parts = figure.parts(settings)
        assert len(set(parts)) == len(parts) >= 3


def test_predictors_of_figure_2_are_kernel_regression():
    """f_0 = 0 and exact: cross Theta^{-1} y; block-diagonal: the mean over layers of Theta_l(x', x) Theta_l^{-1} y."""
    figure, settings = tiny("ko-2")
    d = datasets.draw(*two_parts("mnist-sample", [3, 8]), 4, 40, 1)
    net = rn.Network((784, 1, 1, 1))
    train, cross = rn.analytic_kernels(net, d.x, d.x), rn.analytic_kernels(net, d.x_test, d.x)
    f0 = np.zeros((len(d.x), 1)), np.zeros((len(d.x_test), 1))
    layers = [T1 @ np.linalg.solve(T, d.y) for T1, T in zip(cross.Theta, train.Theta, strict=True)]
    whole = sum(cross.Theta) @ np.linalg.solve(sum(train.Theta), d.y)
    numbers = figure.compute(settings, "3 and 8, N = 4, seed 1", "cpu", None)
    assert numbers["gap"] < 1e-10
    numbers = numbers["methods"]
    for name, fisher, expected in (
        ("exact", rn.Exact(), whole),
        ("block-diagonal", rn.BlockDiagonal(), np.mean(layers, axis=0)),
    ):
        f = ko_kernels._by_definition(fisher, train, cross, f0, d.y)
        np.testing.assert_allclose(host(f)[:, 0], expected, atol=1e-10)
        assert numbers[name]["residual"] < 1e-10
        assert numbers[name]["circle"] == datasets.accuracy(expected, d.y_test)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_limits_are_those_of_every_theta_bar(panel):
    """Those of `limits`, which form no Theta_bar, against `Dynamics` with it: K-FAC's with dependent inputs, too."""
    figure, settings = tiny("ko-2")
    for N in panel["N"]:
        assert figure.compute(settings, f"{panel['title']}, N = {N}, seed 0", "cpu", None)["gap"] < 1e-9
    with pytest.raises(KeyError):
        figure.compute(settings | {"by definition": 3}, f"{panel['title']}, N = {N}, seed 0", "cpu", None)["gap"]


class Columns:
    """In place of a generator: the draws are the columns of I."""

    def standard_normal(self, shape):
        return np.eye(*shape)


def test_first_outputs_have_the_joint_covariance_of_training_and_test_samples():
    x, x_test = (rn.preprocess.unit_norm(np.random.default_rng(k).standard_normal((5 + k, 4))) for k in (0, 1))
    (train, cross, test), net = [[x, x], [x_test, x], [x_test, x_test]], rn.Network((4, 1, 1))
    of = [limits.layers(net, *pair)[-1] for pair in (train, cross, test)]
    root = np.concatenate(limits.outputs(*of, 11, 1, Columns()))
    both = np.concatenate([x, x_test])
    np.testing.assert_allclose(root @ root.T, rn.analytic_kernels(net, both, both).A[-1], atol=1e-13)
    assert not root[:, -1].any()


def test_kfac_after_the_forster_transform_and_as_published():
    """For f_0 = 0, L = 3: the mean of B(x', x) B^{-1} * A(x', x) A^{-1}, of which the first is (M_0 / N) X' X^T."""
    _, settings = tiny("ko-2")
    d = ko_kernels._principal(datasets.draw(*two_parts("mnist-sample", [3, 8]), 40, 40, 1), 5)
    N, A = len(d.x), rn.preprocess.forster(d.x)

    def expected(x, x_test, share):
        net = rn.Network((5, 1, 1, 1))
        K, k = rn.analytic_kernels(net, x, x), rn.analytic_kernels(net, x_test, x)
        B = [b @ np.linalg.inv(b_) for b, b_ in zip(k.B[:2], K.B[:2], strict=True)]
        inner = [a @ np.linalg.inv(a_) for a, a_ in zip(k.A[1:], K.A[1:], strict=True)]
        terms = B[0] * (share * x_test @ x.T) + B[1] * inner[0] + inner[1]
        return terms @ d.y / (2 + share)  # over alpha / N

    x, x_test = (rn.preprocess.unit_norm(v @ A) for v in (d.x, d.x_test))
    f, residual = ko_kernels._forster_limit(settings, d, 2, 0)
    np.testing.assert_allclose(f[:, -1], expected(x, x_test, 5 / N), atol=1e-7)
    assert residual < 1e-8
    published = [ko_kernels.published_forster(v) for v in (d.x, d.x_test)]
    assert ko_kernels._coinciding(published[0]) == 0
    f, residual = ko_kernels._published_limit(settings, replace(d, x=published[0], x_test=published[1]), 2, 0)
    np.testing.assert_allclose(f[:, -1], expected(*published, 1), atol=1e-7)
    assert residual < 1e-8


def test_kfac_with_fewer_inputs_than_samples_is_behind_but_from_outputs_zero():
    """On the mean over f_0 it loses accuracy against exact NGD, by the pseudo-inverse and after the transform."""
    panel = PANEL | {"components": 20, "N_test": 200, "N": [80]}
    _, settings = tiny("ko-2")
    settings |= {"panels": [panel], "initialisations": 10, "seeds": 3}
    runs = [ko_kernels.ko2_compute(settings, part, "cpu", None)["methods"] for part in ko_kernels.ko2_parts(settings)]
    for name, least in (("K-FAC", 0.02), ("K-FAC, Forster", 0.05)):
        behind = [np.mean(run["exact"]["accuracy"]) - np.mean(run[name]["accuracy"]) for run in runs]
        assert np.mean(behind) > least
        assert abs(np.mean([run["exact"]["circle"] - run[name]["circle"] for run in runs])) < 0.02


def test_the_published_transform_is_the_right_one_up_to_its_tolerance():
    x = rn.preprocess.unit_norm(np.random.default_rng(0).standard_normal((60, 5)))
    y = ko_kernels.published_forster(x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1)
    assert np.linalg.norm(y.T @ y * 5 / 60 - np.eye(5)) < 1e-3 * 5**0.5
    right = rn.preprocess.unit_norm(x @ rn.preprocess.forster(x))
    np.testing.assert_allclose(y @ y.T, right @ right.T, atol=2e-3)


def test_samples_coincide_after_the_published_transform_where_few_have_an_input_and_the_verdict_says_so():
    x = np.random.default_rng(0).standard_normal((40, 5))
    x[:, 4] = 0
    x[:3, 4] = 1, 2, 3  # fewer than N / M_0 = 8
    with pytest.raises(np.linalg.LinAlgError):
        rn.preprocess.forster(x)
    assert ko_kernels._coinciding(ko_kernels.published_forster(rn.preprocess.unit_norm(x))) == 3
    figure, settings = tiny("ko-2")
    results = computed(figure, settings)
    for numbers in results.values():
        if numbers["methods"].pop("K-FAC, published", None):
            numbers["coincide"] = 3
    claims = [claim for claim in figure.verdicts(settings, results) if "NO limit of the published code" in claim[0]]
    assert [("3, 3 samples" in text, holds) for text, holds in claims] == [(True, True)]


def test_panels_are_chosen_by_the_data_that_are_there(tmp_path, monkeypatch):
    figure = FIGURES["ko-2"]
    monkeypatch.setattr(datasets, "_fetched", lambda name, mirrors: _refuse(name))
    assert figure.available(figure.settings["small"], None)["left out"] == []  # the sample ships
    with pytest.raises(
        ValueError, match=r"CIFAR-10, airplane and horse, since .* no connection.*; MNIST, 3 and 8, since"
    ):
        figure.available(figure.settings["paper"], None)
    monkeypatch.setattr(ko_kernels, "_source", lambda panel, data: _refuse("CIFAR") if panel["data"] != "mnist" else [])
    for data in (None, "published:here", "mnist:here"):
        settings = figure.available(figure.settings["paper"], data)
        assert [panel["data"] for panel in settings["panels"]] == ["mnist"] * 3
        assert [line.split(",")[0] for line in settings["left out"]] == ["CIFAR-10", "CIFAR-10"]
        assert ("--data names mnist alone" in settings["left out"][0]) == (data == "mnist:here")
        assert all("CIFAR" not in part for part in figure.parts(settings))
    with pytest.raises(
        ValueError, match="--data is 'gaussian'; expected mnist:FOLDER, cifar10:FOLDER or published:FOLD"
    ):
        figure.available(figure.settings["paper"], "gaussian")


def _refuse(name):
    raise ValueError(f"cannot fetch {name}: no connection")


@pytest.mark.parametrize(
    ("name", "claim", "spoil"),
    [
        ("ko-2", "gradient descent has the limit", lambda r: [v.update(gap=1.0) for v in r.values()]),
        ("ko-2", "K-FAC: every training", lambda r: _methods(r, "K-FAC", residual=1.0)),
        ("ko-2", "K-FAC with fewer inputs", lambda r: _methods(r, "K-FAC", circle=0.1)),
        ("ko-2", "the published code", lambda r: _methods(r, "K-FAC, published", circle=1.1)),
        ("ko-2", "3 and 8: the approximations", lambda r: _methods(r, "tri-diagonal", accuracy=[0.2] * 3)),
        ("ko-s2", "samples deviate from it", lambda r: _update(r, "measured", lambda v: (np.array(v) + 0.3).tolist())),
        ("ko-s2", "(S.156) at rho = 0 has", lambda r: _spread(r, 0.0, -1)),
        ("ko-s2", "(S.156) at rho = 0.01", lambda r: _spread(r, 0.01, 0)),
    ],
    ids=lambda a: a.replace(" ", "-") if isinstance(a, str) else "",
)
def test_a_result_that_contradicts_a_claim_fails_it(name, claim, spoil):
    figure, settings = tiny(name)
    results = computed(figure, settings)
    spoil(results)
    found = [holds for text, holds in figure.verdicts(settings, results) if claim in text]
    assert found
    assert not any(found)


def _methods(results, method, **changes):
    for r in results.values():
        if method in r["methods"]:
            r["methods"][method].update(changes)


def _update(results, key, change):
    for r in results.values():
        if key in r:
            r[key] = change(r[key])


def _spread(results, r, power):
    """As if the spread at r were M^power."""
    for part, numbers in results.items():
        if "spread" in numbers:
            M = int(part.split("M = ")[1].split(",")[0])
            numbers["spread"] = [[k, M**power if k == r else v] for k, v in numbers["spread"]]


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("ko-2", lambda r: r["methods"]["exact"].update(residual=1.0)),
        ("ko-3", lambda r: r.update({"block-diagonal": 2.0})),
        ("ko-s2", lambda r: r.update(measured=(2 * np.array(r.get("measured", 0))).tolist())),
    ],
)
def test_first_verdict_sees_a_result_that_contradicts_it(name, spoil):
    figure, settings = tiny(name)
    results = computed(figure, settings)
    assert figure.verdicts(settings, results)[0][1]
    for r in results.values():
        spoil(r)
    assert not figure.verdicts(settings, results)[0][1]


def test_mean_of_the_largest_normal_number():
    assert ko_kernels._largest_normal(1) == pytest.approx(0, abs=1e-9)
    assert ko_kernels._largest_normal(2) == pytest.approx(np.pi**-0.5, rel=1e-5)
