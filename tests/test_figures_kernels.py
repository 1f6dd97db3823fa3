"""bench/ko_kernels.py: each figure at a tiny scale, from its parts to its picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support import host

import refngd as rn
from bench import ko_kernels
from bench.ko_kernels import FIGURES

PANEL = {"title": "3 and 8", "data": "digits", "classes": [3, 8], "N": [4, 70]}  # 70 samples of rank below 64
TINY = {
    "ko-2": {"panels": [PANEL, PANEL | {"title": "three", "classes": [1, 4, 9]}], "initialisations": 3},
    "ko-3": {"M": [16, 32], "M_0": 12, "N": 8, "seeds": 2},
    "ko-s2": {"M": 256, "s": [0, 1.5], "seeds": 2},
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
    _, settings = tiny("ko-2")
    d = ko_kernels._panel_data(PANEL, 4, settings["seed"], None)
    net = rn.Network((64, 1, 1, 1))
    train, cross = rn.analytic_kernels(net, d.x, d.x), rn.analytic_kernels(net, d.x_test, d.x)
    f0 = np.zeros((len(d.x) + len(d.x_test), 1, 1))
    layers = [T1 @ np.linalg.solve(T, d.y) for T1, T in zip(cross.Theta, train.Theta, strict=True)]
    whole = sum(cross.Theta) @ np.linalg.solve(sum(train.Theta), d.y)
    for fisher, expected in ((rn.Exact(), whole), (rn.BlockDiagonal(), np.mean(layers, axis=0))):
        f, residual = ko_kernels._limit(fisher, train, cross, f0, d.y)
        np.testing.assert_allclose(host(f)[:, 0], expected, atol=1e-10)
        assert residual < 1e-10


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("ko-2", lambda r: r["methods"]["exact"].update(residual=1.0)),
        ("ko-3", lambda r: r.update({"block-diagonal": 2.0})),
        ("ko-s2", lambda r: r.update(measured=(2 * np.array(r["measured"])).tolist())),
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
