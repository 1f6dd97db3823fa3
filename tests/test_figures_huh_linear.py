"""The figures of `bench/huh_linear.py` at a tiny scale; their verdicts can fail."""

import copy
import json
import math

import numpy as np
import pytest

from bench import huh_linear
from refngd import deep_linear as dl
from refngd import experiments as ex
from refngd import linear_training as lt
from refngd.cli.output import jsonable

TINY = {"width": 5, "singular_values": [3.0], "seeds": 2, "duration": 0.2}


@pytest.fixture(scope="module")
def made():
    """Settings and results of each figure, as the command hands them on."""
    out = {}
    for name, figure in huh_linear.FIGURES.items():
        assert set(figure.settings) == {"small", "paper"}
        settings = figure.settings["small"] | TINY
        results = {part: figure.compute(settings, part, "cpu", None) for part in figure.parts(settings)}
        out[name] = settings, json.loads(json.dumps(jsonable(results)))
    return out


@pytest.mark.parametrize("name", huh_linear.FIGURES)
def test_figure_runs_from_its_parts_to_its_picture(name, made, tmp_path):
    figure, (settings, results) = huh_linear.FIGURES[name], made[name]
    assert list(results) == ["0", "1"]
    for claim, holds in figure.verdicts(settings, results):
        assert isinstance(claim, str)
        assert holds in (True, False)
    figure.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_measures_on_made_up_modes():
    """late_rates: theory's exponentials, in Euler steps, have the ratio 1. noise_learned: the share at two thirds."""
    settings = huh_linear.FIGURES["huh-4"].settings["small"] | {"singular_values": [3.0]}
    eta, t, s = 0.02, np.arange(400), np.array([3.0, 0.5])
    for name, rate in (("NGD", 1.0), ("sqrt-NGD", 2 * 3**0.75)):
        modes = np.stack([3 * (1 - (1 - eta * rate) ** t), 0.5 * (t > 100)], axis=1)
        run = {"t": t.tolist(), "modes": modes.tolist()}
        assert huh_linear.late_rates(settings, name, run, s) == pytest.approx(1, abs=1e-12)
        reached = math.ceil(math.log(1 / 3) / math.log(1 - eta * rate))
        assert huh_linear.noise_learned(settings, name, run, s) == float(reached > 100)
    assert math.isnan(huh_linear.late_rates(settings, "NGD", {"t": [0, 1], "modes": [[0, 0], [1, 0]]}, s))
    assert math.isnan(huh_linear.noise_learned(settings, "NGD", {"t": [0, 1], "modes": [[0, 0], [1, 0]]}, s))


def test_drift_of_euler_steps_explains_all_of_the_change_of_full_rules(made):
    _, results = made["huh-5"]
    for r in results.values():
        for name in huh_linear.FULL:
            assert r["extra"][name]["unexplained"] < 1e-13
        assert r["extra"]["NGD-d"]["unexplained"] > 0.1
    w, data, _ = ex.teacher_student_problem(0, 5, singular_values=[3.0])
    last, drift = huh_linear._last_and_drift(w, data, dl.Rule(2), 0.5, 2)
    *_, state = lt.descend(w, data, dl.Rule(2), 0.5, 2)
    assert all((a == b).all() for a, b in zip(last, state.w, strict=True))
    for a, b, c in zip(dl.conserved(last), dl.conserved(w), drift, strict=True):
        np.testing.assert_allclose(a - b, c, atol=1e-13)


def ideal(name):
    """Made-up results with which every claim of the figure holds."""
    settings = huh_linear.FIGURES[name].settings["small"]
    white, s = settings["whiten"], np.array([4.0, 3.0, 2.0, 0.4, 0.2])
    results = {}
    for seed in ("0", "1"):
        runs, extra = {}, {}
        for rule in ex.RULES:
            q, eta, natural = ex.RULES[rule][0].q, 0.02, rule in huh_linear.NATURAL
            t, d = np.arange(401), 4
            rates = eta * (1.0 if q == 1 else 2.0) * s ** (0 if q == 1 else 0.75)
            modes = s * (1 - (1 - rates) ** t[:, None])
            if not natural:
                modes[:300, 3:] = 0
            least, last = (
                ((0.6, 0.62) if natural else (0.2, 0.5)) if white else ((6.0, 12.0) if natural else (2.0, 2.2))
            )
            c = {"NGD-d": 5.0, "sqrt-NGD-d": 0.8}.get(rule, 0.2)
            runs[rule] = {"t": t.tolist(), "modes": modes.tolist(), "best_excess": least}
            runs[rule] |= {"excess": [15.0, last], "conserved": [[0.2, 0.2, 0.2], [0.2, c, 0.2]]}
            w_2 = s ** (1 / d) * {"NGD-d": 1.5, "sqrt-NGD-d": 1.05}.get(rule, 1.0)
            moved = {"NGD-d": 0.2, "NGD": 0.06}.get(rule, 0.01)
            extra[rule] = {"unexplained": 9.0 if rule == "NGD-d" else 1e-14, "moved": moved, "w_2": w_2.tolist()}
            extra[rule] |= {"w_2_gap": 0.5, "gram_gap": 0.2}
        results[seed] = {"s": s.tolist(), "runs": runs, "extra": extra}
    return settings, results


def spoiled(name, change):
    settings, results = ideal(name)
    results = copy.deepcopy(results)
    change(results["1"])
    return [holds for _, holds in huh_linear.FIGURES[name].verdicts(settings, results)]


def learn_noise(run, share):
    for modes in run["modes"]:
        modes[3:] = [0.4 * share, 0.2 * share]


def stretch(run):
    run["t"] = [2 * t for t in run["t"]]


FAILURES = [
    ("huh-4", 0, lambda r: learn_noise(r["runs"]["sqrt-NGD"], 0.2)),
    ("huh-4", 1, lambda r: learn_noise(r["runs"]["NGD-d"], 0.0)),
    ("huh-4", 2, lambda r: r["runs"]["sqrt-NGD-d"].update(best_excess=0.31)),
    ("huh-4", 3, lambda r: r["runs"]["SGD"].update(excess=[15.0, 0.25])),
    ("huh-4", 3, lambda r: r["runs"]["NGD"].update(excess=[15.0, 0.8])),
    ("huh-4", 4, lambda r: stretch(r["runs"]["sqrt-NGD"])),
    ("huh-5", 0, lambda r: r["runs"]["NGD"]["conserved"][-1].__setitem__(1, 0.3)),
    ("huh-5", 1, lambda r: r["extra"]["SGD"].update(unexplained=1e-9)),
    ("huh-5", 2, lambda r: r["runs"]["NGD-d"]["conserved"][-1].__setitem__(1, 2.0)),
    ("huh-5", 3, lambda r: r["runs"]["sqrt-NGD-d"]["conserved"][-1].__setitem__(1, 2.0)),
    ("huh-5", 4, lambda r: r["extra"]["SGD"]["w_2"].__setitem__(2, 2.0)),
    ("huh-5", 4, lambda r: r["extra"]["NGD-d"].update(w_2=(np.array(r["s"]) ** 0.25).tolist())),
    ("huh-5", 5, lambda r: r["extra"]["NGD"].update(w_2_gap=0.1)),
    ("huh-5", 5, lambda r: r["extra"]["NGD"].update(gram_gap=0.5)),
    ("huh-5", 6, lambda r: r["extra"]["NGD"].update(moved=0.5)),
    ("huh-5", 6, lambda r: r["extra"]["SGD"].update(moved=0.2)),
    ("huh-s1", 0, lambda r: r["runs"]["NGD"].update(excess=[15.0, 7.0])),
    ("huh-s1", 1, lambda r: r["runs"]["NGD"].update(best_excess=3.0)),
    ("huh-s1", 2, lambda r: r["runs"]["sqrt-NGD"].update(best_excess=3.6)),
    ("huh-s1", 2, lambda r: r["runs"]["SGD"].update(excess=[5.0, 2.2])),
]


@pytest.mark.parametrize("name", huh_linear.FIGURES)
def test_all_claims_hold_of_ideal_results(name):
    settings, results = ideal(name)
    for claim, holds in huh_linear.FIGURES[name].verdicts(settings, results):
        assert holds, claim


@pytest.mark.parametrize(("name", "claim", "change"), FAILURES)
def test_each_claim_fails_where_one_seed_contradicts_it(name, claim, change):
    holds = spoiled(name, change)
    assert not holds[claim]
    assert {failed for _, failed, _ in [f for f in FAILURES if f[0] == name]} == set(range(len(holds)))
