"""Huh Figs. 4, 5 and S.I.1: a deep linear network learns from a noisy teacher of low rank, by five update rules."""

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import deep_linear, linear_training, modes
from refngd.cli import linear
from refngd.deep_linear import Statistics
from refngd.experiments import RULES, Trajectory, teacher_student_problem, trajectory

from .figure import Figure

FULL, SLOW = ("SGD", "NGD", "sqrt-NGD"), ("SGD", "sqrt-NGD", "sqrt-NGD-d")
NATURAL = ("NGD", "NGD-d")


def problem(settings: dict, part: str, device: str) -> tuple[list, Statistics, rn.arrays.Array, np.ndarray]:
    """Weights, statistics and teacher of a seed on the device, and the singular values of the map wanted."""
    keys = ("width", "depth", "singular_values", "noise", "whiten")
    w, data, teacher = teacher_student_problem(int(part), **{key: settings[key] for key in keys})
    s = np.linalg.svd(data.w_star, compute_uv=False)
    on_device = [None if a is None else rn.to_device(a, device) for a in (data.w_star, data.S)]
    return rn.to_device(w, device), Statistics(*on_device, data.const), rn.to_device(teacher, device), s


def setting(settings: dict, name: str) -> tuple[deep_linear.Rule, float, int]:
    return linear.setting(name, not settings["whiten"], duration=settings["duration"])


def _parts(settings: dict) -> list[str]:
    return [str(seed) for seed in range(settings["seeds"])]


def _compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """The trajectories of all rules, and the singular values s of the map wanted."""
    w, statistics, teacher, s = problem(settings, part, device)
    runs = {name: trajectory(w, statistics, teacher, *setting(settings, name), 100) for name in RULES}
    if part != _parts(settings)[0]:
        for r in runs.values():
            r.entries.clear()  # only the first seed is drawn
    return {"s": s, "w_star": rn.to_device(statistics.w_star, "cpu"), "runs": {k: asdict(r) for k, r in runs.items()}}


def _over(results: dict[str, dict], measure) -> dict[str, list[float]]:
    """measure(rule, run, s) of every rule, over the seeds."""
    return {name: [measure(name, r["runs"][name], np.array(r["s"])) for r in results.values()] for name in RULES}


def span(values: list[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def spans(values: dict[str, list[float]], names) -> str:
    return ", ".join(f"{name} {span(values[name])}" for name in names)


def noise_learned(settings: dict, name: str, run: dict, s: np.ndarray) -> float:
    """The share of the noise modes that is learned when the weakest signal mode has come two thirds of its way."""
    signal, grown = len(settings["singular_values"]), np.array(run["modes"])
    reached = grown[:, signal - 1] > 2 / 3 * s[signal - 1]
    return float(grown[np.argmax(reached), signal:].sum() / s[signal:].sum()) if reached.any() else math.nan


def late_rates(settings: dict, name: str, run: dict, s: np.ndarray) -> float:
    """The measured rate over that of (17) near s_star, eta_bar s_star^p, in Euler steps: the worst of the signal modes.

    Measured while 1 - s_bar / s_star falls from 0.1 to 0.01.
    """
    rule, eta, _ = setting(settings, name)
    d, ratios = settings["depth"], []
    for a in range(len(settings["singular_values"])):
        gap = 1 - np.array(run["modes"])[:, a] / s[a]
        window = np.flatnonzero((gap < 0.1) & (gap > 0.01))
        if len(window) < 2:
            return math.nan
        i, j = window[0], window[-1]
        measured = -math.log(gap[j] / gap[i]) / (run["t"][j] - run["t"][i])
        theory = eta * modes.calibrated_rate(1.0, d, rule.q) * s[a] ** modes.exponent(d, rule.q)
        ratios.append(measured / -math.log1p(-theory))
    return max(ratios, key=lambda ratio: abs(ratio - 1))


def _verdicts_4(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    least = _over(results, lambda name, run, s: run["best_excess"])
    last = _over(results, lambda name, run, s: run["excess"][-1])
    shares = _over(results, partial(noise_learned, settings))
    rates = {
        name: _over(results, partial(late_rates, settings))[name] for name in ("NGD", "NGD-d", "sqrt-NGD", "sqrt-NGD-d")
    }
    worst = max(
        a / min(b, c) for name in SLOW for a, b, c in zip(least[name], least["NGD"], least["NGD-d"], strict=True)
    )
    gain = {name: [b / a for a, b in zip(least[name], last[name], strict=True)] for name in RULES}
    return [
        (f"signal before noise under SGD, sqrt-NGD and sqrt-NGD-d: when the weakest signal mode is two thirds learned, "
         f"so is this share of the noise: {spans(shares, SLOW)} (limit 0.1)",
         max(max(shares[name]) for name in SLOW) < 0.1),
        (f"not under NGD and NGD-d, which learn all modes at one rate: {spans(shares, NATURAL)} (within 0.05 of 2/3)",
         max(abs(share - 2 / 3) for name in NATURAL for share in shares[name]) < 0.05),
        (f"early stopping: least excess test loss {spans(least, RULES)}; that of SGD, sqrt-NGD, sqrt-NGD-d is at most "
         f"{worst:.2f} of that of NGD and NGD-d on the same seed (limit 0.5)", worst < 0.5),
        (f"which overfit to the end: the last excess is {spans(gain, SLOW)} times the least (at least 1.5), but "
         f"{spans(gain, NATURAL)} times under NGD and NGD-d, which overfit from the start (at most 1.1)",
         min(min(gain[name]) for name in SLOW) > 1.5 and max(max(gain[name]) for name in NATURAL) < 1.1),
        (f"late rates of the signal modes are those of (17), eta_bar s_star^p: measured over theory "
         f"{spans(rates, rates)} (limits 1 % for NGD, NGD-d, 5 % for sqrt-NGD, 15 % for sqrt-NGD-d, not balanced)",
         all(abs(rate - 1) < limit for name, limit in zip(rates, (0.01, 0.01, 0.05, 0.15), strict=True)
             for rate in rates[name])),
    ]  # fmt: skip


def _trajectories(results: dict[str, dict]) -> tuple[dict, dict[str, Trajectory]]:
    first = next(iter(results.values()))
    return first, {name: Trajectory(**run) for name, run in first["runs"].items()}


def _etas(settings: dict) -> dict[str, float]:
    return {name: setting(settings, name)[1] for name in RULES}


def _draw_map(settings: dict, results: dict[str, dict], path: Path) -> None:
    first, runs = _trajectories(results)
    linear.draw_map(np.array(first["w_star"]), len(settings["singular_values"]), _etas(settings), runs, path)


# Fig. 5: the weights


def _compute_5(settings: dict, part: str, device: str, data: str | None) -> dict:
    """As for Fig. 4, and for each rule: what is left of the change of the c_i after the drift of Euler steps; the
    singular values of the last w_2; how far the last weights move if eta is halved, of their norm."""
    w, statistics, *_ = problem(settings, part, device)
    extra = {}
    for name in RULES:
        rule, eta, steps = setting(settings, name)
        last, drift = _last_and_drift(w, statistics, rule, eta, steps)
        changes = [
            c - c0 - d for c, c0, d in zip(deep_linear.conserved(last), deep_linear.conserved(w), drift, strict=True)
        ]
        *_, halved = linear_training.descend(w, statistics, rule, eta / 2, 2 * steps)
        moved = deep_linear.norm([a - b for a, b in zip(halved.w, last, strict=True)]) / deep_linear.norm(last)
        w_2 = np.linalg.svd(rn.to_device(last[1], "cpu"), compute_uv=False)
        extra[name] = {"unexplained": deep_linear.norm(changes), "moved": moved, "w_2": w_2}
        extra[name]["weights"] = [rn.to_device(w_i, "cpu") for w_i in (last[1], last[0].T @ last[0])]
    sgd = extra["SGD"]["weights"]
    for name in RULES:
        ours = extra[name].pop("weights") if name != "SGD" else sgd
        gaps = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(ours, sgd, strict=True)]
        extra[name] |= dict(zip(("w_2_gap", "gram_gap"), gaps, strict=True))
    extra["SGD"].pop("weights")
    return _compute(settings, part, device, data) | {"extra": extra}


def _last_and_drift(w, statistics, rule, eta, steps) -> tuple[list, list]:
    """The last weights, and the sum over steps of `deep_linear.euler_drift`."""
    states = linear_training.descend(w, statistics, rule, eta, steps)
    before, drift = next(states).w, [0 * c for c in deep_linear.conserved(w)]
    for state in states:
        step = [a - b for a, b in zip(before, state.w, strict=True)]
        drift = [a + b for a, b in zip(drift, deep_linear.euler_drift(step, 1.0), strict=True)]
        before = state.w
    return before, drift


def _verdicts_5(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    ratio = _over(results, lambda name, run, s: run["conserved"][-1][1] / run["conserved"][0][1])
    extra = {name: [r["extra"][name] for r in results.values()] for name in RULES}
    left, moved, w_2_gap, gram_gap = (
        {name: [e[key] for e in extra[name]] for name in RULES}
        for key in ("unexplained", "moved", "w_2_gap", "gram_gap")
    )
    signal, means = len(settings["singular_values"]), {name: float(np.mean(moved[name])) for name in RULES}
    balance = {
        name: [max(abs(e["w_2"][a] / r["s"][a] ** (1 / settings["depth"]) - 1) for a in range(signal))
               for e, r in zip(extra[name], results.values(), strict=True)] for name in RULES
    }  # fmt: skip
    return [
        (f"SGD, NGD and sqrt-NGD keep c_2: its last norm over its first is {spans(ratio, FULL)} (limits 0.9, 1.1)",
         all(0.9 < x < 1.1 for name in FULL for x in ratio[name])),
        (f"what moves it are the finite steps, exactly: less their drift, eta^2 sum (u_i u_i^T - u_i+1^T u_i+1), all "
         f"c_i change by {max(max(left[name]) for name in FULL):.1e} (limit 1e-12); NGD-d {span(left['NGD-d'])}",
         max(max(left[name]) for name in FULL) < 1e-12 < 1 < min(left["NGD-d"])),
        (f"NGD-d does not: c_2 grows {span(ratio['NGD-d'])} times (at least 15)", min(ratio["NGD-d"]) > 15),
        (f"sqrt-NGD-d only nearly: {span(ratio['sqrt-NGD-d'])} times (limit 6): it conserves |s_i| - |s_k|, per mode",
         max(ratio["sqrt-NGD-d"]) < 6),
        (f"signal modes of w_2 end balanced, at s_star^(1/d), but for NGD-d: they are off by {spans(balance, RULES)} "
         "(limits 0.02; for sqrt-NGD-d 0.1; at least 0.25 for NGD-d)",
         max(max(balance[name]) for name in FULL) < 0.02 and max(balance["sqrt-NGD-d"]) < 0.1
         and min(balance["NGD-d"]) > 0.25),
        (f"NOT the same solution, though the paper says so: w_2 differs from SGD's by {spans(w_2_gap, FULL[1:])} of "
         f"its norm (needed 0.2), w_1^T w_1 by {spans(gram_gap, FULL[1:])} (limit 0.4; {spans(gram_gap, ['NGD-d'])})",
         min(w_2_gap["NGD"] + w_2_gap["sqrt-NGD"]) > 0.2 and max(gram_gap["NGD"] + gram_gap["sqrt-NGD"]) < 0.4),
        (f"NGD-d is the most sensitive to the learning rate, NGD the next: with half of eta the last weights move by "
         f"{', '.join(f'{name} {mean:.3f}' for name, mean in means.items())} of their norm, on the mean; by seed "
         f"{spans(moved, RULES)}", means["NGD-d"] > means["NGD"] > max(means[name] for name in SLOW)),
    ]  # fmt: skip


def _draw_weights(settings: dict, results: dict[str, dict], path: Path) -> None:
    linear.draw_weights(_etas(settings), _trajectories(results)[1], path)


# Fig. S.I.1: inputs that are not white


def _verdicts_s1(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    least = _over(results, lambda name, run, s: run["best_excess"])
    last = _over(results, lambda name, run, s: run["excess"][-1])
    before = _over(results, lambda name, run, s: run["excess"][0])
    worse = [b / a for name in NATURAL for a, b in zip(least[name], last[name], strict=True)]
    behind = [a / b for name in NATURAL for a, b in zip(least[name], least["sqrt-NGD"], strict=True)]
    fractional = ("sqrt-NGD", "sqrt-NGD-d")
    slow = [a / b for name in fractional for a, b in zip(least[name], least["SGD"], strict=True)]
    natural = [min(pair) for pair in zip(least["NGD"], least["NGD-d"], strict=True)]
    short = [a / b for name in fractional for a, b in zip(least[name], natural, strict=True)]
    return [
        (f"the generalisation error of NGD and NGD-d is pronounced: at the end {spans(last, NATURAL)}, {span(worse)} "
         "times the least (at least 1.5)", min(worse) > 1.5),
        (f"early stopping does not save them: least excess test loss {spans(least, RULES)}; that of NGD and NGD-d is "
         f"{span(behind)} times that of sqrt-NGD (at least 1.8)", min(behind) > 1.8),
        ("SGD, sqrt-NGD and sqrt-NGD-d still generalise: the least of the two latter is nearer to SGD's than to NGD's "
         f"and NGD-d's, on each seed, {span(slow)} times the first and {span(short)} the second, all "
         f"below a third of the excess before training, {span(before['SGD'])}",
         all(a * b < 1 for a, b in zip(slow, short, strict=True))
         and all(a < b / 3 for name in SLOW for a, b in zip(least[name], before[name], strict=True))),
    ]  # fmt: skip


_BASE = {"width": 16, "depth": 4, "singular_values": [4.0, 3.0, 2.0], "noise": 0.3, "duration": 1}
_WHITE = {"small": _BASE | {"whiten": True, "seeds": 5}, "paper": _BASE | {"whiten": True, "seeds": 10}}
_RAW = {scale: settings | {"whiten": False} for scale, settings in _WHITE.items()}

FIGURES = {
    "huh-4": Figure(
        "Huh Fig. 4: the map of a deep linear network that learns from a noisy teacher, by five rules",
        _WHITE,
        _parts,
        _compute,
        _verdicts_4,
        _draw_map,
    ),
    "huh-5": Figure(
        "Huh Fig. 5: its weights, and the differences c_2 that full rules conserve",
        _WHITE,
        _parts,
        _compute_5,
        _verdicts_5,
        _draw_weights,
    ),
    "huh-s1": Figure(
        "Huh Fig. S.I.1: as Fig. 4, with inputs that are not white",
        _RAW,
        _parts,
        _compute,
        _verdicts_s1,
        _draw_map,
    ),
}
