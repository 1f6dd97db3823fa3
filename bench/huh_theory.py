"""Huh's claims about deep linear networks that Figs. 4 and 5 do not decide: curves, paths, sensitivity, samples.

`huh-curves`: the modes of a network in time, against the solution of (17). `huh-paths`: the path of all weights,
against that of SGD. `huh-weights`: how close, how large and how sensitive the weights are. `huh-samples`: overfitting
over P.
The small scale is width 8, of `huh-paths` 4, the paper's 16 with five seeds.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import deep_linear, linear_training, modes
from refngd.cli.output import subplots
from refngd.deep_linear import Rule, Statistics
from refngd.experiments import RULES, teacher_student_problem, trajectory

from .figure import Figure
from .huh_linear import span, spans

NAMES = {"sqrt-NGD": r"$\sqrt{\mathrm{NGD}}$", "sqrt-NGD-d": r"$\sqrt{\mathrm{NGD}}$-d"}


def problem(settings: dict, seed: str, device: str, **options) -> tuple[list, Statistics, np.ndarray]:
    """Weights and statistics of a seed on the device, and the teacher on the host."""
    keys = ("width", "depth", "singular_values", "noise")
    w, data, teacher = teacher_student_problem(int(seed), **{key: settings[key] for key in keys}, **options)
    w_star, S = (None if a is None else rn.to_device(a, device) for a in (data.w_star, data.S))
    return rn.to_device(w, device), Statistics(w_star, S, data.const), teacher


def _seeds(settings: dict) -> list[str]:
    return [str(seed) for seed in range(settings["seeds"])]


def _over(results: dict[str, dict], rules, measure) -> dict[str, list[float]]:
    """measure(result of a seed, rule) of every rule, over the seeds."""
    return {rule: [measure(r, rule) for r in results.values()] for rule in rules}


# ------------------------------------------------------------------------------------- Fig. 4D: the modes against (17)

CLIPPED = ("NGD", "NGD-d")


def curves_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """The modes u_a^T w_bar v_a (T, k) of the flow by every rule, the signal first; of NGD without clipping, too."""
    w, statistics, _ = problem(settings, part, device)
    U, s, Vt = np.linalg.svd(rn.to_device(statistics.w_star, "cpu"))
    runs = {}
    for name, (rule, *_) in RULES.items():
        t = _times(settings, rule)
        for key, chosen in {name: replace(rule, clip=math.inf), f"{name}, clipped": rule}.items():
            if key == name or name in CLIPPED:
                states = linear_training.flow(w, statistics, chosen, t, tolerance=1e-7, evaluations=100_000)
                w_bars = [rn.to_device(deep_linear.product(state.w), "cpu") for state in states]
                runs[key] = [np.diagonal(U.T @ w_bar @ Vt.T) for w_bar in w_bars]
    start = np.diagonal(U.T @ rn.to_device(deep_linear.product(w), "cpu") @ Vt.T)
    return {"s": s, "start": start.copy(), "runs": {key: np.array(run).tolist() for key, run in runs.items()}}


def _times(settings: dict, rule: Rule) -> np.ndarray:
    end = settings["times"]["SGD" if math.isinf(rule.q) else "others"]
    return np.geomspace(end / 1000, end, settings["points"])


def from_exponential(settings: dict, r: dict, key: str) -> float:
    """The largest |s_bar - s_star - (s_0 - s_star) e^{-t}| / s_star of the signal modes, from the start on: p = 0."""
    signal, t = len(settings["singular_values"]), _times(settings, Rule(1))[:, None]
    s, start = (np.array(r[what])[:signal] for what in ("s", "start"))
    return float(abs((np.array(r["runs"][key])[:, :signal] - s - (start - s) * np.exp(-t)) / s).max())


def curve(settings: dict, r: dict, key: str, a: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times from which mode a has a tenth of its end, s_bar / s_star there, and by (17) from that tenth on."""
    rule, s = RULES[key.partition(",")[0]][0], r["s"][a]
    t, x = _times(settings, rule), np.array(r["runs"][key])[:, a] / s
    i = int(np.argmax(x > 0.1))
    start = float(np.interp(0.1, x[i - 1 : i + 1], t[i - 1 : i + 1])) if i else 0.0
    p, eta_bar = (f(settings["depth"], rule.q) for f in (modes.exponent, partial(modes.calibrated_rate, 1.0)))
    return t[i:], x[i:], modes.solution(t[i:] - start, s, 0.1 * s, p, eta_bar) / s


def deviation(settings: dict, r: dict, key: str) -> float:
    """The largest |s_bar - (17)| / s_star of the signal modes, from a tenth of their end on."""
    signal = range(len(settings["singular_values"]))
    return max(float(abs(x - theory).max()) for _, x, theory in (curve(settings, r, key, a) for a in signal))


def late_rates(settings: dict, r: dict, key: str) -> list[float]:
    """Of each signal mode: the rate at which 1 - s_bar / s_star falls from .1 to .01, over that of (17)."""
    ratios = []
    for a in range(len(settings["singular_values"])):
        t, x, theory = curve(settings, r, key, a)
        measured, expected = (np.interp([0.9, 0.99], v, t) for v in (np.maximum.accumulate(x), theory))
        with np.errstate(all="ignore"):  # a curve of too few points has no rate: nan, or inf
            ratios.append(float(np.diff(expected)[0] / np.diff(measured)[0]))
    return ratios


def curves_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list(_curves_verdicts(settings, results))


def _curves_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    off = _over(results, RULES, partial(deviation, settings))
    natural, root = ("NGD", "NGD-d"), ("sqrt-NGD", "sqrt-NGD-d")
    straight = _over(results, next(iter(results.values()))["runs"], partial(from_exponential, settings))
    yield (
        "NGD and NGD-d follow s_star + (s_0 - s_star) e^(-eta t) where nothing is clipped: s_bar / s_star is off by "
        f"{spans(straight, natural)} (limit 0.02)",
        max(max(straight[rule]) for rule in natural) < 0.02,
    )
    clipped = [f"{rule}, clipped" for rule in natural]
    yield (
        f"with updates clipped they no longer do: {spans(straight, clipped)} (needed three times as much, by seed)",
        all(b > 3 * a for rule in natural for a, b in zip(straight[rule], straight[f"{rule}, clipped"], strict=True)),
    )
    yield (
        f"sqrt-NGD and sqrt-NGD-d follow (17), from a tenth of s_star on: off by {spans(off, root)} (limit 0.1)",
        max(max(off[rule]) for rule in root) < 0.1,
    )
    late = _over(results, ("SGD", "sqrt-NGD", "NGD"), lambda r, rule: min(late_rates(settings, r, rule)))
    off = {rule: [abs(1 - share) for share in shares] for rule, shares in late.items()}
    yield (
        f"SGD does NOT match (17) late, though the paper says so: modes mix, and the slowest signal mode has "
        f"{span(late['SGD'])} of its rate from .9 to .99 of s_star ({spans(late, ('sqrt-NGD', 'NGD'))}; needed: off 1 "
        "by 0.1, and by a hundred times as much as under these two)",
        min(off["SGD"]) > max(0.1, 100 * max(off["sqrt-NGD"] + off["NGD"])),
    )


def curves_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    """Above s_bar / s_star, below what is left of it, whose slope is the late rate."""
    first = next(iter(results.values()))
    figure, axes = subplots(2, len(RULES), figsize=(2.6 * len(RULES), 5), sharex="col", sharey="row")
    for (axis, rest), rule in zip(axes.T, RULES, strict=True):
        thin = slice(None, None, 3 if rule == "SGD" else 8)
        for a in range(len(settings["singular_values"])):
            t, x, theory = curve(settings, first, rule, a)
            for panel, change in ((axis, lambda v: v), (rest, lambda v: 1 - v)):
                panel.plot(t, change(theory), "-", color=f"C{a}", linewidth=1)
                panel.plot(t[thin], change(x[thin]), "o", color=f"C{a}", markersize=3, fillstyle="none")
            if rule in CLIPPED:
                t, x, _ = curve(settings, first, f"{rule}, clipped", a)
                axis.plot(t, x, ":", color=f"C{a}", linewidth=1)
        axis.set_title(NAMES.get(rule, rule))
        rest.set(xlabel=r"$\eta t$", xscale="log" if rule == "SGD" else "linear", yscale="log", ylim=(1e-3, 1))
    axes[0, 0].set_ylabel(r"$\bar\sigma / \bar\sigma_*$")
    axes[1, 0].set_ylabel(r"$1 - \bar\sigma / \bar\sigma_*$")
    figure.savefig(path)


# ---------------------------------------------------------------------------------------- the path of all the weights


def paths_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """How far the path of each full rule is from SGD's, over the norm of the weights; by scale, and of one mode."""
    rules = {"sqrt-NGD": Rule(2), "NGD": Rule(1, rho=settings["rho"])}
    gaps = {}
    for scale in settings["scales"]:
        w, statistics, _ = problem(settings, part, device, sigma_w=scale)
        gaps[f"{scale:g}"] = {name: _gap(w, statistics, rule, settings["points"]) for name, rule in rules.items()}
    w, statistics, _ = problem(settings | {"singular_values": [3.0], "noise": 0.0}, part, device)
    U, _, Vt = np.linalg.svd(rn.to_device(statistics.w_star, "cpu"))
    u, v = U[:, 0], Vt[0]
    chain = [u] * (len(w) - 1)  # one mode, aligned: w_i = s_i times an outer product
    sizes = 0.2 + 0.3 * np.random.default_rng(int(part)).random(len(w))
    outer = [s * np.outer(a, b) for s, a, b in zip(sizes, [*chain, u], [v, *chain], strict=True)]
    aligned = rn.to_device(outer, device)
    one = {name: _gap(aligned, statistics, rule, settings["points"]) for name, rule in rules.items()}
    return {"gaps": gaps, "one mode": one}


def _gap(w: list, statistics: Statistics, rule: Rule, points: int) -> float:
    """The largest distance of a point of the path from SGD's, over the norm of the weights there."""
    path, other = (_path(w, statistics, r, points) for r in (rule, Rule(math.inf)))
    start, along = other[:-1], np.diff(other, axis=0)
    length = np.maximum((along**2).sum(1), 1e-300)
    worst = 0.0
    for point in path:
        share = np.clip(((point - start) * along).sum(1) / length, 0, 1)
        distance = np.linalg.norm(point - start - share[:, None] * along, axis=1).min()
        worst = max(worst, float(distance / np.linalg.norm(point)))
    return worst


def _path(w: list, statistics: Statistics, rule: Rule, points: int) -> np.ndarray:
    """theta (T, P) from w until ||E|| is 1e-3 of its first value."""
    times = np.geomspace(1e-3, 1e6 if math.isinf(rule.q) else 1e3, points)
    states = linear_training.flow(
        w, statistics, rule, [0.0, *times], converged=1e-3, tolerance=1e-7, evaluations=100_000
    )
    return np.array([rn.to_device(rn.flatten(state.w), "cpu") for state in states])


def paths_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    scales, rules = [f"{scale:g}" for scale in settings["scales"]], ("sqrt-NGD", "NGD")
    gaps = {s: _over(results, rules, lambda r, rule, s=s: r["gaps"][s][rule]) for s in scales}
    one = _over(results, rules, lambda r, rule: r["one mode"][rule])
    listed = "; ".join(f"{spans(gaps[s], rules)} at scale {s}" for s in scales)
    pairs = [zip(gaps[scales[0]][rule], gaps[scales[-1]][rule], strict=True) for rule in rules]
    grows = all(small > large for pair in pairs for large, small in pair)
    return [
        (
            f"one singular mode has one path under all full rules: off by {spans(one, rules)} of the norm (limit 1e-3)",
            max(max(one[rule]) for rule in rules) < 1e-3,
        ),
        (
            f"NOT so the weights of a network, though the paper says so: they leave the path of SGD by {listed} of "
            "their norm (needed 0.1 at the smallest scale)",
            min(min(gaps[scales[-1]][rule]) for rule in rules) > 0.1,
        ),
        (
            "and smaller initial weights do not help: on every seed the smallest scale is farther off than the largest",
            grows,
        ),
    ]


def paths_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 1, figsize=(4.2, 3.2))
    for k, rule in enumerate(("sqrt-NGD", "NGD")):
        gaps = np.array([[r["gaps"][f"{s:g}"][rule] for s in settings["scales"]] for r in results.values()])
        axes.flat[0].plot(settings["scales"], gaps.T, "o-", color=f"C{k}", linewidth=0.8, markersize=4)
        axes.flat[0].plot([], [], "o-", color=f"C{k}", label=NAMES.get(rule, rule))
    axes.flat[0].set(xscale="log", xlabel="scale of the initial weights", ylabel="distance from SGD's path / norm")
    axes.flat[0].set_ylim(0, None)
    axes.flat[0].set_xticks(settings["scales"], [f"{s:g}" for s in settings["scales"]])
    axes.flat[0].minorticks_off()
    axes.flat[0].legend()
    figure.savefig(path)


# ----------------------------------------------------------------- the weights: how close, how large, and how sensitive

CHANGES = ("eta", "clip", "start", "noise")  # what `moved` changes


def weights_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """By rule: the last norm of the weights, and how far they move, of it, with each change of the conditions."""
    w, statistics, _ = problem(settings, part, device)
    rng = np.random.default_rng([int(part), 1])
    out, last = {}, {}
    for name, (rule, eta, steps) in RULES.items():
        steps = round(settings["duration"] * steps)
        last[name] = _end(w, statistics, rule, eta, steps)
        start = [w_i + 0.01 * deep_linear.norm([w_i]) * _normal(rng, w_i) / w_i.size**0.5 for w_i in w]
        changed = {
            "eta": _end(w, statistics, rule, eta / 2, 2 * steps),
            "start": _end(start, statistics, rule, eta, steps),
            "noise": _end(w, statistics, rule, eta, steps, rng),
        }
        if rule.clip < math.inf:
            changed["clip"] = _end(w, statistics, replace(rule, clip=rule.clip / 2), eta, 2 * steps)
        moved = {key: _apart(v, last[name]) for key, v in changed.items()}
        out[name] = {"norm": deep_linear.norm(last[name]), "moved": moved}
    return {"rules": out, "apart": _along(w, statistics, round(settings["duration"] * RULES["sqrt-NGD"][2]))}


def _normal(rng: np.random.Generator, like) -> rn.arrays.Array:
    return rn.arrays.array_module(like).asarray(rng.standard_normal(like.shape))


def _apart(a: list, b: list) -> float:
    return deep_linear.norm([x - y for x, y in zip(a, b, strict=True)]) / deep_linear.norm(b)


def _end(w: list, statistics: Statistics, rule: Rule, eta: float, steps: int, rng=None) -> list:
    """The last weights; with rng every update has noise of a tenth of its norm."""
    if rng is None:
        *_, state = linear_training.descend(w, statistics, rule, eta, steps)
        return state.w
    P = sum(w_i.size for w_i in w)
    for _ in range(steps):
        u = rule.update(w, statistics)
        size = 0.1 * deep_linear.norm(u) / P**0.5
        w = [w_i - eta * (u_i + size * _normal(rng, w_i)) for w_i, u_i in zip(w, u, strict=True)]
    return w


def _along(w: list, statistics: Statistics, steps: int) -> dict:
    """How far sqrt-NGD-d is from sqrt-NGD at equal times: the weights over their norm, and the map over w_star's."""
    eta = RULES["sqrt-NGD"][1]
    runs = [linear_training.descend(w, statistics, Rule(2, block=block), eta, steps) for block in (True, False)]
    pairs = [(a.w, b.w) for a, b in zip(*runs, strict=True)]
    size = deep_linear.norm([statistics.w_star])
    maps = [deep_linear.norm([deep_linear.product(a) - deep_linear.product(b)]) / size for a, b in pairs]
    return {"weights": [_apart(a, b) for a, b in pairs], "map": maps}


def weights_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list(_weights_verdicts(results))


def _weights_verdicts(results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    weights, maps = ([r["apart"][what][-1] for r in results.values()] for what in ("weights", "map"))
    most = [max(r["apart"]["map"]) for r in results.values()]
    yield (
        f"NOT close to sqrt-NGD, though the paper says so, are the weights of sqrt-NGD-d: they end {span(weights)} of "
        f"their norm apart (needed 0.1); the maps are {span(most)} apart at most, {span(maps)} at the end",
        min(weights) > 0.1,
    )
    norms = _over(results, RULES, lambda r, rule: r["rules"][rule]["norm"])
    ratio = [a / b for a, b in zip(norms["NGD-d"], norms["NGD"], strict=True)]
    yield (
        f"NGD-d ends with larger weights: norms {spans(norms, RULES)}; {span(ratio)} times those of NGD (needed 1.2)",
        min(ratio) > 1.2,
    )
    for change, words in {
        "eta": "the learning rate halved",
        "clip": "the clip halved",
        "start": "other initial weights, by 1 %",
        "noise": "noise of a tenth in every update",
    }.items():
        rules = CLIPPED if change == "clip" else RULES
        moved = _over(results, rules, lambda r, rule, c=change: r["rules"][rule]["moved"][c])
        others = np.max([moved[rule] for rule in rules if rule != "NGD-d"], axis=0)
        logs = np.log(np.array(moved["NGD-d"]) / others)
        mean, error = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(len(logs))
        claim, needed, holds = f"NGD-d is the most sensitive to {words}", "above 0", mean > 0
        if change == "start":
            claim = f"NGD-d is NOT singled out as sensitive to {words}, though the paper says so"
            needed, holds = "not above 0 by two errors", mean <= 2 * error
        yield (
            f"{claim}: the weights move by {spans(moved, rules)} of their norm; by NGD-d {math.exp(mean):.2f} times as "
            f"much as by the most of the others, a logarithm of {mean:.2f} +- {error:.2f} over {len(logs)} seeds "
            f"(needed: {needed})",
            holds,
        )


def weights_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 2, figsize=(9, 3.4))
    left, right = axes.flat
    for k, r in enumerate(results.values()):
        for what, style in (("weights", "-"), ("map", "--")):
            t = RULES["sqrt-NGD"][1] * np.arange(len(r["apart"][what]))
            left.plot(t, r["apart"][what], style, color=f"C{k}", linewidth=1, label=None if k else what)
    left.set(xlabel=r"$\eta t$", ylabel="distance / norm", title="sqrt-NGD-d from sqrt-NGD")
    left.legend(fontsize=8)
    for k, rule in enumerate(RULES):
        for x, change in enumerate(CHANGES):
            moved = [r["rules"][rule]["moved"].get(change, np.nan) for r in results.values()]
            label = None if x else NAMES.get(rule, rule)
            right.plot(x + 0.12 * (k - 2) + 0 * np.array(moved), moved, "o", color=f"C{k}", markersize=4, label=label)
    right.set_xticks(range(len(CHANGES)), ["eta / 2", "clip / 2", "start 1 %", "noise 10 %"])
    right.set(yscale="log", title="moved, of the norm")
    right.legend(fontsize=7)
    figure.savefig(path)


# ------------------------------------------------------------------------------------ overfitting, and how many samples


def samples_parts(settings: dict) -> list[str]:
    return [f"{kind}-{P:g}" for kind in ("raw", "white") for P in settings["P"]]


def samples_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """The least and the last excess test loss of each seed, under sqrt-NGD and NGD, with P times the width samples."""
    kind, _, P = part.partition("-")
    out = {name: {"least": [], "last": []} for name in ("sqrt-NGD", "NGD")}
    for seed in _seeds(settings):
        N = round(float(P) * settings["width"])
        w, statistics, teacher = problem(settings, seed, device, whiten=kind == "white", N=N)
        for name, excess in out.items():
            rule, eta, steps = RULES[name]
            r = trajectory(w, statistics, rn.to_device(teacher, device), rule, eta, round(settings["duration"] * steps))
            excess["least"].append(r.best_excess)
            excess["last"].append(r.excess[-1])
    return out


def samples_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list(_samples_verdicts(settings, results))


def overfitting(results: dict[str, dict], kind: str, P: float, rule: str) -> np.ndarray:
    """The last excess less the least (seeds,)."""
    r = results[f"{kind}-{P:g}"][rule]
    return np.array(r["last"]) - r["least"]


def _samples_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    for kind in ("raw", "white"):
        rise = {P: overfitting(results, kind, P, "sqrt-NGD") for P in settings["P"]}
        means = {P: float(values.mean()) for P, values in rise.items()}
        errors = {P: float(values.std(ddof=1)) / len(values) ** 0.5 for P, values in rise.items()}
        listed = ", ".join(f"{means[P]:.3g} +- {errors[P]:.2g} at P = {P:g} N" for P in settings["P"])
        next_to = max((P for P in settings["P"] if P != 1), key=means.get)
        times = means[1.0] / max(means[next_to], 1e-300)
        words = (
            f"under sqrt-NGD the excess rises from its least to its last value by {listed} ({settings['seeds']} seeds)"
        )
        if kind == "raw":
            yield (
                f"raw inputs: P = N is most susceptible to overfitting: {words}: {times:.3g} times as much as at "
                "the next (needed 3)",
                times > 3,
            )
        else:
            limit = max(next_to, 1 / next_to)
            yield (
                f"white inputs: P = N is NOT singled out, though the paper says so: {words}: {times:.3g} times as much "
                f"as at P = {next_to:g} N (limit {limit:.3g}, the ratio of the P)",
                times < limit,
            )
    width, noise = settings["width"], settings["noise"]
    share = {
        P: float(np.mean(results[f"white-{P:g}"]["NGD"]["last"])) / (noise**2 * width / (2 * P))
        for P in settings["P"]
        if P >= 1
    }
    yield (
        "white inputs have the excess sigma^2 n_in n_out / 2P in the end, in which nothing happens at P = N: NGD has "
        + ", ".join(f"{value:.2f} of it at P = {P:g} N" for P, value in share.items())
        + " (within 0.25)",
        all(abs(value - 1) < 0.25 for value in share.values()),
    )


def samples_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 2, figsize=(8, 3.2))
    for axis, kind in zip(axes.flat, ("raw", "white"), strict=True):
        for k, rule in enumerate(("sqrt-NGD", "NGD")):
            for what, style in (("last", "o-"), ("least", "s--")):
                values = np.array([results[f"{kind}-{P:g}"][rule][what] for P in settings["P"]])
                label = f"{NAMES.get(rule, rule)}, {what}"
                axis.errorbar(settings["P"], values.mean(1), values.std(1), fmt=style, color=f"C{k}", ms=4, label=label)
        axis.set(xscale="log", yscale="log", xlabel="P / N", title=f"{kind} inputs")
        axis.set_xticks(settings["P"], [f"{P:g}" for P in settings["P"]])
        axis.minorticks_off()
    axes.flat[0].set_ylabel("excess test loss")
    axes.flat[0].legend(fontsize=7)
    figure.savefig(path)


_TEACHER = {"width": 8, "depth": 4, "singular_values": [4.0, 3.0, 2.0], "noise": 0.3, "seeds": 3, "duration": 1}
_PAPER = {"width": 16, "seeds": 5}
_CURVES = _TEACHER | {"times": {"SGD": 100.0, "others": 8.0}, "points": 300}
_PATHS = {"width": 4, "depth": 3, "singular_values": [3.0, 2.0], "noise": 0.0, "seeds": 3}
_PATHS |= {"scales": [0.5, 0.1, 0.02], "rho": 1e-8, "points": 800}
_SAMPLES = _TEACHER | {"P": [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0], "duration": 2, "seeds": 10}

FIGURES = {
    "huh-curves": Figure(
        "Huh Fig. 4D: signal modes of a deep linear network against the solution of (17), by five rules",
        {"small": _CURVES, "paper": _CURVES | _PAPER},
        _seeds,
        curves_compute,
        curves_verdicts,
        curves_draw,
    ),
    "huh-paths": Figure(
        "Huh, sections 3 and 6: how far the weights of full rules leave the path of SGD",
        {"small": _PATHS, "paper": _PATHS | {"width": 8, "seeds": 5}},
        _seeds,
        paths_compute,
        paths_verdicts,
        paths_draw,
    ),
    "huh-weights": Figure(
        "Huh, section 6: sqrt-NGD-d against sqrt-NGD, the size of the weights, and what moves them",
        {"small": _TEACHER, "paper": _TEACHER | _PAPER},
        _seeds,
        weights_compute,
        weights_verdicts,
        weights_draw,
    ),
    "huh-samples": Figure(
        "Huh, section 6: overfitting over the number of samples, of raw and of white inputs",
        {"small": _SAMPLES, "paper": _SAMPLES | {"width": 16}},
        samples_parts,
        samples_compute,
        samples_verdicts,
        samples_draw,
    ),
}
