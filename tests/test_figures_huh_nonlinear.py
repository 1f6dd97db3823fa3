"""bench/huh_nonlinear.py: the figure at a tiny scale, from its parts to its picture, and claims that can fail."""

import copy
import json
import math

import numpy as np
import pytest
from support import generator

import refngd as rn
from bench import huh_nonlinear
from bench.huh_nonlinear import FIGURES, POWER
from refngd import datasets

FIGURE = FIGURES["huh-s2"]
TINY = {"N": 60, "N_validation": 20, "hidden": [12, 8, 6], "batch": 25}


def tiny_settings():
    small = FIGURE.settings["small"]
    rules = {rule: given | {"epochs": 1, "seeds": 2} for rule, given in small["rules"].items()}
    return small | TINY | {"rules": rules}


def curve(accuracy, train, stopped=None):
    return {"loss": train, "train": train, "accuracy": accuracy, "stopped": stopped}


def good_results(settings):
    """Numbers as the paper would have them."""
    up, stuck = curve([0.1, 0.96, 0.98], [2.3, 1.0, 0.05]), curve([0.1, 0.1, 0.1], [math.log(10)] * 3)
    later = curve([0.1, 0.1, 0.96, 0.98], [2.3, 2.3, 1.0, 0.05])
    results = {part: {"curves": [copy.deepcopy(stuck)]} for part in FIGURE.parts(settings)}
    for part in ("SGD-1", "NGD-d-1", *(f"sqrt-NGD-d-{gain:g}" for gain in settings["gains"])):
        results[part] = {"curves": [copy.deepcopy(up), copy.deepcopy(up)]}
    return results | {"NGD-d-retuned-0.01": {"curves": [later]}}


def test_figure_runs_from_its_parts_to_its_picture(tmp_path):
    settings = tiny_settings()
    parts = FIGURE.parts(settings)
    assert len(set(parts)) == len(parts) == 15
    results = {part: FIGURE.compute(settings, part, "cpu", None) for part in parts}
    results = json.loads(json.dumps(results, allow_nan=False))
    for r in results.values():
        assert [len(c["loss"]) for c in r["curves"]] == [4, 4]  # 25, 25, 10 of 60; and the one of the end
        assert [len(c[what]) for c in r["curves"] for what in ("train", "accuracy")] == [2] * 4
    verdicts = FIGURE.verdicts(settings, results)
    assert len({claim for claim, _ in verdicts}) == len(verdicts) == 8
    FIGURE.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_settings_are_json():
    assert set(FIGURE.settings) == {"small", "paper"}
    for settings in FIGURE.settings.values():
        assert json.loads(json.dumps(settings)) == settings
        assert set(settings["rules"]) == set(POWER)


SPOILED = [
    ("sqrt-NGD-d-0.0001", lambda c: c["accuracy"].append(0.9)),
    ("sqrt-NGD-d-1e-06", lambda c: c["train"].append(0.08)),
    ("SGD-1", lambda c: c["accuracy"].append(0.5)),
    ("SGD-0.01", lambda c: c["train"].append(2.0)),
    ("NGD-d-1", lambda c: c["accuracy"].append(0.5)),
    ("NGD-d-1e-06", lambda c: c["train"].append(1e9)),
    ("NGD-d-retuned-0.01", lambda c: c["accuracy"].insert(1, 0.95)),
    ("NGD-d-retuned-1e-06", lambda c: c["train"].append(0.3)),
]


@pytest.mark.parametrize(
    ("number", "part", "spoil"), [(k, *spoiled) for k, spoiled in enumerate(SPOILED)], ids=[part for part, _ in SPOILED]
)
def test_every_verdict_sees_a_result_that_contradicts_it(number, part, spoil):
    settings = tiny_settings()
    results = good_results(settings)
    assert all(holds for _, holds in FIGURE.verdicts(settings, results))
    spoil(results[part]["curves"][0])
    assert [k for k, (_, holds) in enumerate(FIGURE.verdicts(settings, results)) if not holds] == [number]


@pytest.mark.parametrize("number", range(8))
def test_a_run_that_stops_fails_its_claim(number):
    settings = tiny_settings()
    results = good_results(settings)
    results[SPOILED[number][0]]["curves"][0]["stopped"] = "training diverged"
    assert not FIGURE.verdicts(settings, results)[number][1]


def test_a_run_that_breaks_down_says_so():
    settings = tiny_settings()
    settings["rules"]["NGD-d"]["runs"] = [[1.0, 1e200, 0.0]]
    (c, _) = FIGURE.compute(settings, "NGD-d-1", "cpu", None)["curves"]
    assert "training diverged at t = 1" in c["stopped"]
    assert len(c["loss"]) == 1


@pytest.mark.parametrize(("rule", "q"), POWER.items())
def test_first_step_is_the_rule(rule, q):
    """W - eta d^{-1/q} (B (x) A)^{-1/q} grad, of the first batch, with the split, weights and batches of a seed."""
    settings = tiny_settings()
    gain, eta, rho = settings["rules"][rule]["runs"][0]
    losses = huh_nonlinear.trained(settings, rule, [gain, eta, rho], 3, "cpu", None)["loss"]
    data_rng, weight_rng, batch_rng = np.random.default_rng(3).spawn(3)
    d = huh_nonlinear.images(settings, None, data_rng)
    net = rn.Network((64, 12, 8, 6, 10), parameterization="standard")
    W, order = net.semi_orthogonal(weight_rng, gain), batch_rng.permutation(60)
    s, e = rn.cross_entropy.whiten(net.signals(W, d.x[order[:25]]), d.y[order[:25]])
    dW = rn.KFAC(last="gram", rcond=1e-10).direction(s, e, rho, q)
    W = [w - eta * 4 ** (-1 / q) * dw for w, dw in zip(W, dW, strict=True)]
    second = rn.cross_entropy.value(net.forward(W, d.x[order[25:50]]), d.y[order[25:50]])
    assert losses[1] == pytest.approx(second, rel=1e-12)


def test_images_are_split_and_pixels_lie_between_0_and_1():
    settings = FIGURE.settings["small"]
    d = huh_nonlinear.images(settings, None, generator())
    assert (d.x.shape, d.y.shape, d.x_test.shape, d.y_test.shape) == ((1437, 64), (1437, 10), (360, 64), (360, 10))
    assert (d.x.min(), d.x.max()) == (0, 1)
    assert sorted(map(tuple, np.concatenate([d.x, d.x_test]))) == sorted(map(tuple, datasets.digits()[0] / 16))
    with pytest.raises(ValueError, match="--data is 'gaussian'; expected digits, mnist or mnist:FOLDER"):
        huh_nonlinear.images(settings, "gaussian", generator())


def test_mnist_is_read_from_its_folder_and_scaled(monkeypatch):
    asked = []

    def mnist(part, folder):
        asked.append((part, folder))
        return np.full((100, 784), 255.0 if part == "train" else 51.0), np.arange(100) % 10

    monkeypatch.setattr(datasets, "mnist", mnist)
    d = huh_nonlinear.images(FIGURE.settings["small"] | TINY, "mnist:there", generator())
    assert asked == [("train", "there"), ("test", "there")]
    assert (d.x.shape, d.x_test.shape) == ((60, 784), (20, 784))
    assert (d.x == 1).all()
    assert (d.x_test == 0.2).all()
