"""The figures of `bench/huh_theory.py` at a tiny scale; their verdicts can fail."""

import copy
import json
import math

import numpy as np
import pytest

from bench import huh_theory
from refngd import deep_linear as dl
from refngd import experiments as ex
from refngd import modes
from refngd.cli.output import jsonable

TINY = {
    "huh-curves": {"width": 3, "depth": 3, "singular_values": [3.0], "seeds": 1, "points": 20},
    "huh-paths": {"width": 3, "singular_values": [2.0], "scales": [0.5, 0.2], "seeds": 1, "points": 40},
    "huh-weights": {"width": 3, "depth": 3, "singular_values": [3.0], "seeds": 2, "duration": 0.05},
    "huh-samples": {"width": 4, "singular_values": [3.0], "P": [0.5, 1.0, 2.0], "seeds": 2, "duration": 0.05},
}


@pytest.mark.parametrize("name", TINY)
def test_figure_runs_from_its_parts_to_its_picture(name, tmp_path):
    figure = huh_theory.FIGURES[name]
    assert set(figure.settings) == {"small", "paper"}
    assert all(settings["seeds"] >= 3 for settings in figure.settings.values())
    settings = figure.settings["small"] | TINY[name]
    results = {part: figure.compute(settings, part, "cpu", None) for part in figure.parts(settings)}
    results = json.loads(json.dumps(jsonable(results)))
    for claim, holds in figure.verdicts(settings, results):
        assert isinstance(claim, str)
        assert holds in (True, False)
    figure.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


SETTINGS = {name: figure.settings["small"] for name, figure in huh_theory.FIGURES.items()}
SETTINGS["huh-curves"] = SETTINGS["huh-curves"] | {"points": 80}


def ideal_curves():
    """Modes by (17), but for clipped ones, and SGD's with a slow end."""
    settings, s = SETTINGS["huh-curves"], np.array([4.0, 3.0, 2.0, 0.3])
    start, runs = 1e-3 * s, {}
    for name, (rule, *_) in ex.RULES.items():
        t = huh_theory._times(settings, rule)
        p, eta_bar = modes.exponent(4, rule.q), modes.calibrated_rate(1.0, 4, rule.q)
        runs[name] = modes.solution(t[:, None], s, start, p, eta_bar)
        if rule.q == 1:
            runs[f"{name}, clipped"] = modes.solution(0.5 * t[:, None], s, start, p, eta_bar)
        if math.isinf(rule.q):
            x = runs[name] / s
            runs[name] = s * np.where(x > 0.9, np.minimum(x, 1 - 0.1 / (1 + 5 * np.maximum(t[:, None] - 10, 0))), x)
    return {"s": s.tolist(), "start": start.tolist(), "runs": {key: run.tolist() for key, run in runs.items()}}


def ideal_weights():
    rules = {
        name: {"norm": 3.0 if name == "NGD-d" else 2.0}
        | {"moved": dict.fromkeys(huh_theory.CHANGES, size) | {"start": 0.01}}
        for name, size in zip(ex.RULES, (0.01, 0.05, 0.02, 0.1, 0.02), strict=True)
    }
    rules["SGD"]["moved"]["start"] = 0.02
    return {"rules": rules, "apart": {"weights": [0.0, 0.3], "map": [0.0, 0.01]}}


def ideal_samples(kind, P):
    settings = SETTINGS["huh-samples"]
    white = settings["noise"] ** 2 * settings["width"] / (2 * P)
    last = white if kind == "white" else 10.0 if P == 1 else 2.0
    each = {"least": [0.5 * last] * 2, "last": [0.99 * last, 1.01 * last]}
    return {name: copy.deepcopy(each) for name in ("sqrt-NGD", "NGD")}


def ideal(name):
    if name == "huh-samples":
        return {part: ideal_samples(part.split("-")[0], float(part.split("-")[1])) for part in
                huh_theory.samples_parts(SETTINGS[name])}  # fmt: skip
    if name == "huh-paths":
        gaps = {f"{s:g}": {"sqrt-NGD": 0.4 - 0.2 * s, "NGD": 0.5 - 0.2 * s} for s in SETTINGS[name]["scales"]}
        one = {"gaps": gaps, "one mode": {"sqrt-NGD": 1e-6, "NGD": 1e-6}}
    else:
        one = ideal_curves() if name == "huh-curves" else ideal_weights()
    return {"0": one, "1": copy.deepcopy(one)}


def shift(key, factor):
    def change(results):
        run = np.array(results["1"]["runs"][key])
        results["1"]["runs"][key] = (run * factor).tolist()

    return change


def straighten(results):
    r = results["1"]["runs"]
    r["NGD-d, clipped"] = r["NGD-d"]


def true_sgd(results):
    settings, r = SETTINGS["huh-curves"], results["1"]
    t, s, start = huh_theory._times(settings, ex.RULES["SGD"][0]), np.array(r["s"]), np.array(r["start"])
    r["runs"]["SGD"] = modes.solution(t[:, None], s, start, 1.5, 4.0).tolist()


def samples(part, rule, **changes):
    return lambda results: results[part][rule].update(changes)


def moved(change):
    return lambda r: r["1"]["rules"]["NGD"]["moved"].update({change: 1.0})


FAILURES = [
    ("huh-curves", 0, shift("NGD", 1.05)),
    ("huh-curves", 1, straighten),
    ("huh-curves", 2, shift("sqrt-NGD-d", 1.2)),
    ("huh-curves", 3, true_sgd),
    ("huh-paths", 0, lambda r: r["1"]["one mode"].update(NGD=0.01)),
    ("huh-paths", 1, lambda r: r["1"]["gaps"]["0.02"].update({"sqrt-NGD": 0.01})),
    ("huh-paths", 2, lambda r: r["1"]["gaps"]["0.5"].update(NGD=0.9)),
    ("huh-weights", 0, lambda r: r["1"]["apart"].update(weights=[0.0, 0.05])),
    ("huh-weights", 1, lambda r: r["1"]["rules"]["NGD-d"].update(norm=2.0)),
    ("huh-weights", 2, moved("eta")),
    ("huh-weights", 3, moved("clip")),
    ("huh-weights", 4, lambda r: [v["rules"]["NGD-d"]["moved"].update(start=1.0) for v in r.values()]),
    ("huh-weights", 5, moved("noise")),
    ("huh-samples", 0, samples("raw-2", "sqrt-NGD", last=[99.0, 99.0])),
    ("huh-samples", 1, samples("white-1", "sqrt-NGD", last=[98.0, 99.0])),
    ("huh-samples", 2, samples("white-4", "NGD", last=[99.0, 99.0])),
]


@pytest.mark.parametrize("name", TINY)
def test_all_claims_hold_of_ideal_results(name):
    for claim, holds in huh_theory.FIGURES[name].verdicts(SETTINGS[name], ideal(name)):
        assert holds, claim


@pytest.mark.parametrize(("name", "claim", "change"), FAILURES)
def test_each_claim_fails_where_one_seed_contradicts_it(name, claim, change):
    results = ideal(name)
    change(results)
    holds = [held for _, held in huh_theory.FIGURES[name].verdicts(SETTINGS[name], results)]
    assert not holds[claim]
    assert {failed for figure, failed, _ in FAILURES if figure == name} == set(range(len(holds)))


def test_the_distance_of_a_path_is_to_the_line_between_points(monkeypatch):
    paths = {math.inf: np.array([[0.0, 0.0], [4.0, 0.0]]), 2: np.array([[1.0, 0.5], [3.0, 4.0]])}
    monkeypatch.setattr(huh_theory, "_path", lambda w, data, rule, points: paths[rule.q])
    assert huh_theory._gap([], None, dl.Rule(2), 2) == pytest.approx(4 / 5)


def test_noise_in_updates_is_a_tenth_of_them():
    w, data, _ = ex.teacher_student_problem(0, 3, 2, singular_values=[2.0])
    noisy = huh_theory._end(w, data, dl.Rule(2), 0.1, 1, np.random.default_rng(0))
    plain = huh_theory._end(w, data, dl.Rule(2), 0.1, 1)
    noise = dl.norm([a - b for a, b in zip(noisy, plain, strict=True)])
    step = dl.norm([a - b for a, b in zip(plain, w, strict=True)])
    assert 0.05 < noise / step < 0.15
