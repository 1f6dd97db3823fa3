"""Huh Fig. S.I.2: a ReLU network trained from semi-orthogonal weights of smaller and smaller gain, by three rules.

    W_l <- W_l - eta d^{-1/q} (B_l (x) A_{l-1} + eps I)^{-1/q} grad_l      Huh (19), (21), d = 4 weight matrices

A and B are the exact Gauss-Newton factors of a mini-batch: K-FAC with last="gram" on the whitened signals of the
cross-entropy. q = inf is SGD, q = 1 NGD-d with the damping eps of the caption, q = 2 sqrt-NGD-d, which has none. The
paper gives no learning rates: every rule is run at those of a scan, and the claims are about the range in which it
trains. Since the whitened residual of a sample is ||e_n||^2 = (1 - p) / p, p being the probability of its class, a
confident mistake makes a step of sqrt-NGD-d as large as it likes; two remedies are run beside it, the damping of the
output, `CrossEntropy(rho)`, with which ||e_n||^2 <= 2 / rho, and a higher cut-off of the singular values.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import datasets
from refngd.cli.output import subplots

from .figure import Figure

POWER = {"SGD": math.inf, "NGD-d": 1, "NGD-d-tuned": 1, "sqrt-NGD-d": 2, "sqrt-NGD-d-output": 2, "sqrt-NGD-d-cut": 2}
TOO_LARGE = 20.0  # a batch loss that is given up


def images(settings: dict, data: str | None, rng: np.random.Generator) -> datasets.Data:
    """N images to train on and N_validation others, pixels in [0, 1], ten classes one-hot."""
    given, N, rest = data or settings["data"], settings["N"], settings["N_validation"]
    if given == "mnist-sample" or given.partition(":")[0] == "mnist":
        parts, top = _mnist(given), 255
    elif given == "digits":
        (x, labels), top = datasets.digits(), 16
        order = rng.permutation(len(x))
        parts = [(x[rows], labels[rows]) for rows in (order[:-rest], order[-rest:])]
    else:
        raise ValueError(f"--data is {given!r}; expected mnist-sample, digits, mnist or mnist:FOLDER")
    (x, labels), (x_validation, labels_validation) = (
        (x[rows], labels[rows])
        for (x, labels), n in zip(parts, (N, rest), strict=True)
        for rows in [rng.permutation(len(x))[:n]]
    )
    one_hot = np.eye(10)
    return datasets.Data(x / top, one_hot[labels], x_validation / top, one_hot[labels_validation])


@lru_cache(1)
def _mnist(given: str) -> list[tuple]:
    """Both parts of it, read once for all runs of a process."""
    name, _, folder = given.partition(":")
    if name == "mnist-sample":
        return [datasets.mnist_sample(part) for part in ("train", "test")]
    return [datasets.mnist(part, folder or None) for part in ("train", "test")]


def odds(f, y) -> np.ndarray:
    """(1 - p) / p (N,) of outputs f (N, C) and one-hot targets y (N, C), on the host: ||e_n||^2 without damping."""
    f, y = (rn.to_device(a, "cpu") for a in (f, y))
    rest = np.where(y > 0, -math.inf, f - (f * y).sum(1, keepdims=True))
    return np.exp(np.minimum(rest, 700)).sum(1)


@dataclass(frozen=True)
class Watched(rn.CrossEntropy):
    """The cross-entropy; `seen` has the largest odds and the sum of all of every batch that an update takes."""

    seen: list = field(default_factory=list)

    def whiten(self, s, y):
        each = odds(s.f, y)
        self.seen.append((float(each.max()), float(each.sum())))
        return super().whiten(s, y)


def trained(
    settings: dict, d: datasets.Data, rule: str, gain: float, eta: float, eps: float, seed: int, device
) -> dict:
    """One run: the losses of the batches; `odds`, see `Watched`; at the end loss, of at most 5000 training samples, and
    validation accuracy, 0 if the run breaks down."""
    given, (_, weight_rng, batch_rng) = settings["rules"][rule], np.random.default_rng(seed).spawn(3)
    q = POWER[rule]
    net = rn.Network((d.x.shape[1], *settings["hidden"], 10), parameterization="standard")
    x, y, x_validation, y_validation, *W = rn.to_device(
        [d.x, d.y, d.x_test, d.y_test, *net.semi_orthogonal(weight_rng, gain)], device
    )
    fisher, loss = rn.KFAC(last="gram", damping="product", rcond=given["rcond"]), Watched(given["output"])
    run = {"eta": eta, "eps": eps, "seed": seed, "loss": [], "odds": loss.seen, "stopped": None}
    options = dict(rho=eps, q=q, loss=loss, batch=settings["batch"], rng=batch_rng)
    try:
        for step in rn.train(net, W, x, y, fisher, eta * len(W) ** (-1 / q), settings["updates"], **options):
            run["loss"].append(step.loss)
            if step.loss > TOO_LARGE:
                raise FloatingPointError(f"training diverged at t = {step.t}: the loss is {step.loss:.3g}")
        run["train"] = rn.cross_entropy.value(net.forward(step.W, x[:5000]), y[:5000])
        run["accuracy"] = datasets.accuracy(net.forward(step.W, x_validation), y_validation)
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        run |= {"stopped": str(error), "train": math.inf, "accuracy": 0.0}
    return run


def largest_eigenvalue(settings: dict, d: datasets.Data, gain: float, device: str) -> float:
    """That of all B_l (x) A_{l-1} at the start of seed 0, on one batch: what eps is small or large against."""
    (_, weight_rng, _), N = np.random.default_rng(0).spawn(3), settings["batch"]
    net = rn.Network((d.x.shape[1], *settings["hidden"], 10), parameterization="standard")
    x, y, *W = rn.to_device([d.x[:N], d.y[:N], *net.semi_orthogonal(weight_rng, gain)], device)
    s, _ = rn.cross_entropy.whiten(net.signals(W, x), y)
    roots = [(np.linalg.norm(rn.to_device(a, "cpu").reshape(-1, a.shape[-1]), 2) for a in pair)
             for pair in zip(s.h, s.delta, strict=True)]  # fmt: skip
    return max(float((h * delta / N) ** 2) for h, delta in roots)


def _parts(settings: dict) -> list[str]:
    return [f"{rule}-{gain:g}" for rule in settings["rules"] for gain in settings["gains"]]


def _compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """The runs of a rule at a gain. A pair (eta, eps) that ends untrained on one seed is not run on those that follow.

    One that breaks down is, since these runs are looked at, too.
    """
    rule, gain = next((r, g) for r in settings["rules"] for g in settings["gains"] if part == f"{r}-{g:g}")
    given, runs = settings["rules"][rule], []
    scan = [(eta, eps) for eps in given["eps"].get(f"{gain:g}", [0.0]) for eta in given["etas"]]
    drawn = (images(settings, data, np.random.default_rng(seed).spawn(3)[0]) for seed in range(settings["seeds"]))
    for seed, d in enumerate(drawn):
        if seed == 0:
            largest = largest_eigenvalue(settings, d, gain, device)
        now = [trained(settings, d, rule, gain, *pair, seed, device) for pair in scan]
        scan = [pair for pair, r in zip(scan, now, strict=True) if r["stopped"] or r["accuracy"] > settings["trained"]]
        runs += now
    return {"runs": runs, "largest": largest}


class Scan:
    """The runs of a rule at a gain, by (eta, eps)."""

    def __init__(self, settings: dict, results: dict[str, dict], rule: str, gain: float) -> None:
        self.settings, self.runs = settings, results[f"{rule}-{gain:g}"]["runs"]
        self.pairs = list(dict.fromkeys((run["eta"], run["eps"]) for run in self.runs))

    def of(self, pair: tuple[float, float], what: str = "accuracy") -> list:
        """By seed, as far as it has been run."""
        return [run[what] for run in self.runs if (run["eta"], run["eps"]) == pair]

    def window(self) -> list[float]:
        """The rates at which the rule trains on every seed, with some eps."""
        good = {eta for eta, eps in self.pairs if min(self.of((eta, eps))) > self.settings["trained"]}
        return sorted(good)

    def best(self) -> tuple[float, float]:
        """The pair with the largest least accuracy."""
        return max(self.pairs, key=lambda pair: min(self.of(pair)))


def _windows(settings: dict, results: dict[str, dict], rule: str) -> dict[float, list[float]]:
    return {gain: Scan(settings, results, rule, gain).window() for gain in settings["gains"]}


def _common(windows: dict[float, list[float]]) -> list[float]:
    return sorted(set.intersection(*map(set, windows.values())))


def _range(etas: list[float]) -> str:
    return f"{min(etas):g} to {max(etas):g}" if len(etas) > 1 else f"{etas[0]:g}" if etas else "none"


def _list(numbers: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in numbers)


def _ranges(windows: dict[float, list[float]]) -> str:
    return ", ".join(f"{_range(etas)} at gain {gain:g}" for gain, etas in windows.items())


def _verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list(_claims(settings, results))


def _claims(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    gains, rules, seeds = settings["gains"], settings["rules"], settings["seeds"]
    windows = {rule: _windows(settings, results, rule) for rule in rules}
    scans = {rule: [Scan(settings, results, rule, gain) for gain in gains] for rule in rules}
    need = f"validation accuracy above {settings['trained']} after {settings['updates']} updates, on all {seeds} seeds"
    common = _common(windows["sqrt-NGD-d"])
    yield (
        f"sqrt-NGD-d trains at every gain with one learning rate and no damping: eta {_range(common)} of the scan "
        f"{_list(rules['sqrt-NGD-d']['etas'])} does at all gains ({need}); {_ranges(windows['sqrt-NGD-d'])}",
        bool(common),
    )
    if common:
        losses = {
            g: _mean(scan.of((common[0], 0.0), "train")) for g, scan in zip(gains, scans["sqrt-NGD-d"], strict=True)
        }
        small = [loss for gain, loss in losses.items() if gain < 1]
        yield (
            f"and alike: at eta = {common[0]:g} the training losses are "
            + ", ".join(f"{loss:.4f} at gain {gain:g}" for gain, loss in losses.items())
            + " (those of gains below 1 within 10 %)",
            max(small) < 1.1 * min(small),
        )
    yield (
        f"SGD trains at gain 1 only: {_ranges(windows['SGD'])} of {_list(rules['SGD']['etas'])}",
        bool(windows["SGD"][gains[0]]) and not any(windows["SGD"][gain] for gain in gains[1:]),
    )
    caption = {gain: rules["NGD-d"]["eps"][f"{gain:g}"][0] for gain in gains}
    yield (
        f"NGD-d with the eps of the caption trains at gain 1 only: {_ranges(windows['NGD-d'])} of "
        f"{_list(rules['NGD-d']['etas'])}",
        bool(windows["NGD-d"][gains[0]]) and not any(windows["NGD-d"][gain] for gain in gains[1:]),
    )
    largest = {gain: results[f"NGD-d-{gain:g}"]["largest"] for gain in gains}
    yield (
        "for that eps is NOT small, though the caption says so: at the start the largest eigenvalue of all B (x) A is "
        + ", ".join(f"{largest[gain]:.1e} with eps = {caption[gain]:g} at gain {gain:g}" for gain in gains)
        + ": at the gains below 1 NGD-d is SGD with the rate eta / eps (needed: eps a hundred times as large)",
        all(caption[gain] > 100 * largest[gain] for gain in gains[1:]),
    )
    tuned, listed = windows["NGD-d-tuned"], _list(rules["NGD-d-tuned"]["eps"]["1"])
    yield (
        f"NGD-d has to be tuned to the gain: even with eps as its square, {listed} times, it trains at no eta of "
        f"{_list(rules['NGD-d-tuned']['etas'])} at all gains: {_ranges(tuned)}",
        not _common(tuned) and bool(tuned[gains[1]]),
    )
    yield from _blow_up(settings, scans, windows)


def _mean(values: list) -> float:
    return float(np.mean([math.inf if v is None else v for v in values]))


def _blow_up(settings: dict, scans: dict[str, list[Scan]], windows: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    """Why sqrt-NGD-d blows up, and what cures it."""
    pairs = zip(settings["gains"], scans["sqrt-NGD-d"], strict=True)
    broken = [(gain, run) for gain, scan in pairs for run in scan.runs if run["stopped"]]
    worst = [_last_mistake(run) for _, run in broken]
    listed = f"{min(worst):.3g} to {max(worst):.3g}" if worst else "none"
    yield (
        f"sqrt-NGD-d blows up by confident mistakes, in {len(broken)} runs: the largest (1 - p) / p of a sample in "
        f"the last updates whose loss was below ln 10 is {listed}; it is 9 at the start (needed: 45)",
        all(value > 45 for value in worst),
    )
    rho, rcond = settings["rules"]["sqrt-NGD-d-output"]["output"], settings["rules"]["sqrt-NGD-d-cut"]["rcond"]
    damped, cut = (_repeated(settings, scans, rule, broken) for rule in ("sqrt-NGD-d-output", "sqrt-NGD-d-cut"))
    yield (
        f"a damping of the output, rho = {rho:g}, with which (1 - p) / p counts as 2 / rho at most, cures it: of "
        f"{len(damped)} of these runs, repeated with it, {sum(damped)} break down; it trains at eta "
        f"{_ranges(windows['sqrt-NGD-d-output'])}",
        not any(damped) and bool(damped) == bool(broken),
    )
    yield (
        f"a cut-off of singular values at {rcond:g} in place of 1e-10 does not: of {len(cut)} repeated with it "
        f"{sum(cut)} break down",
        any(cut) or not broken,
    )


def _last_mistake(run: dict) -> float:
    """The largest (1 - p) / p in the last three updates before the loss stays above ln 10."""
    low = [t for t, loss in enumerate(run["loss"]) if loss < math.log(10)]
    end = max(low, default=0) + 1
    return max(worst for worst, _ in run["odds"][max(end - 3, 0) : end])


def _repeated(settings: dict, scans: dict[str, list[Scan]], rule: str, broken: list[tuple[float, dict]]) -> list[bool]:
    """Of the broken runs that another rule has, too, at the same gain, eta and seed: which break down again."""
    pairs = zip(settings["gains"], scans[rule], strict=True)
    runs = {(gain, run["eta"], run["seed"]): run for gain, scan in pairs for run in scan.runs}
    keys = [(gain, run["eta"], run["seed"]) for gain, run in broken]
    return [runs[key]["stopped"] is not None for key in keys if key in runs]


def _draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    shown = {"SGD": "SGD", "NGD-d": "NGD-d, eps of the caption", "NGD-d-tuned": "NGD-d, eps tuned"}
    shown |= {"sqrt-NGD-d": r"$\sqrt{\mathrm{NGD}}$-d", "sqrt-NGD-d-output": r"$\sqrt{\mathrm{NGD}}$-d, damped output"}
    figure, axes = subplots(2, len(shown), figsize=(3 * len(shown), 5.6), sharey="row")
    for (top, bottom), (rule, title) in zip(axes.T, shown.items(), strict=True):
        top.axhline(math.log(10), color="0.7", linewidth=1, linestyle=":")
        common = _common(_windows(settings, results, rule))
        for k, gain in enumerate(settings["gains"]):
            scan = Scan(settings, results, rule, gain)
            pair = (common[len(common) // 2], scan.best()[1]) if common else scan.best()
            for seed, loss in enumerate(scan.of(pair, "loss")):
                label = None if seed else f"{gain:g}, eta {pair[0]:g}"
                top.plot(np.minimum(loss, 2 * TOO_LARGE), color=f"C{k}", linewidth=1.8 - 0.4 * k, label=label)
            for eps in dict.fromkeys(eps for _, eps in scan.pairs):
                etas = [eta for eta, e in scan.pairs if e == eps]
                values = [scan.of((eta, eps)) for eta in etas]
                mean, low, high = zip(*((np.mean(v), min(v), max(v)) for v in values), strict=True)
                bottom.plot(etas, mean, "o-", color=f"C{k}", linewidth=1.8 - 0.4 * k, markersize=4)
                bottom.fill_between(etas, low, high, color=f"C{k}", alpha=0.2)
        bottom.axhline(settings["trained"], color="0.7", linewidth=1, linestyle=":")
        top.set(title=title, yscale="log", ylim=(1e-2, 20), xlabel="update")
        top.legend(fontsize=6, title="gain", title_fontsize=6, loc="lower left")
        bottom.set(xscale="log", xlabel=r"$\eta$", ylim=(0, 1))
        bottom.set_xticks(settings["rules"][rule]["etas"], [f"{eta:g}" for eta in settings["rules"][rule]["etas"]])
        bottom.minorticks_off()
    axes[0, 0].set_ylabel("training loss of the batch")
    axes[1, 0].set_ylabel("validation accuracy")
    figure.savefig(path)


_GAINS = [1.0, 1e-2, 1e-4, 1e-6]
_CAPTION = {f"{gain:g}": [eps] for gain, eps in zip(_GAINS, (1e-3, 1e-3, 1e-6, 1e-7), strict=True)}


_TUNED = {f"{gain:g}": [c * gain**2 for c in (1e-1, 1e-2)] for gain in _GAINS}


def _rules(sgd: list[float], root: list[float]) -> dict:
    """The scans of all rules; root: the rates of sqrt-NGD-d."""
    plain = {"eps": {}, "output": 0.0, "rcond": 1e-10}
    return {
        "SGD": plain | {"etas": sgd},
        "NGD-d": plain | {"etas": [0.01, 0.1, 1.0], "eps": _CAPTION},
        "NGD-d-tuned": plain | {"etas": [0.003, 0.01, 0.03], "eps": _TUNED},
        "sqrt-NGD-d": plain | {"etas": root},
        "sqrt-NGD-d-output": plain | {"etas": root[-2:], "output": 0.01},
        "sqrt-NGD-d-cut": plain | {"etas": root[-1:], "rcond": 1e-3},
    }


_SMALL = {"data": "mnist-sample", "N": 1000, "N_validation": 1000, "hidden": [60, 40, 20], "batch": 50}
_SMALL |= {"updates": 120, "trained": 0.75, "seeds": 3, "gains": _GAINS}
_PAPER = {"data": "mnist", "N": 60_000, "N_validation": 10_000, "hidden": [300, 100, 30], "batch": 128}
_PAPER |= {"updates": 469, "trained": 0.85, "seeds": 3, "gains": _GAINS}

FIGURES = {
    "huh-s2": Figure(
        "Huh Fig. S.I.2: training loss of a ReLU network from semi-orthogonal weights, by gain and rule",
        {
            "small": _SMALL | {"rules": _rules([0.03, 0.1, 0.3, 10.0], [0.05, 0.1, 0.2, 0.5])},
            "paper": _PAPER | {"rules": _rules([0.03, 0.1, 0.3, 10.0], [0.05, 0.1, 0.2])},
        },
        _parts,
        _compute,
        _verdicts,
        _draw,
    ),
}
