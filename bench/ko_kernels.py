"""K&O's figures that need kernels alone, no training: Fig. 2, Fig. 3 and Fig. S.2."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import datasets
from refngd.cli.output import subplots
from refngd.datasets import Data

from .figure import Figure

PREDICTORS = {  # of Fig. 2
    "exact": rn.Exact(),
    "block-diagonal": rn.BlockDiagonal(),
    "tri-diagonal": rn.BlockTridiagonal(),
    "K-FAC": rn.KFAC(),
}
ISOTROPIC = ["exact", "block-diagonal", "tri-diagonal"]  # for any number of samples and outputs
PUBLISHED = {"mnist": datasets.mnist, "cifar10": datasets.cifar10}
METRICS = {  # of Fig. 3, in its colours
    "NTK": (rn.Identity(), "black"),
    "block-diagonal": (rn.BlockDiagonal(), "red"),
    "unit-wise": (rn.Unitwise(), "blue"),
    "diagonal": (rn.Entrywise(), "green"),
    "quasi-diagonal": (rn.QuasiDiagonal(), "darkturquoise"),
}
CONDITIONS = {"NTK": 164, "block-diagonal": 1, "unit-wise": 1.33, "diagonal": 20.7, "quasi-diagonal": 4.5}  # THEORY 5


# ------------------------------------------------------------------------------------------------ Fig. 2: test accuracy


def ko2_parts(settings: dict) -> list[str]:
    return list(_ko2_runs(settings))


def _ko2_runs(settings: dict) -> dict[str, tuple[dict, int]]:
    """Name of the part -> the panel and the number of training samples."""
    return {f"{panel['title']}, N = {N}": (panel, N) for panel in settings["panels"] for N in panel["N"]}


def ko2_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """Accuracies on the test samples for every f_0, that for f_0 = 0, and the largest |f_inf - y| in training."""
    panel, N = _ko2_runs(settings)[part]
    d = _panel_data(panel, N, settings["seed"], data)
    d = Data(*rn.to_device([d.x, d.y, d.x_test, d.y_test], device))
    C, n = d.y.shape[1], settings["initialisations"]
    # depth alone matters here: the widths of the hidden layers are infinite
    net = rn.Network((d.x.shape[1], *[1] * (settings["L"] - 1), C), rn.relu, settings["sigma_w^2"] ** 0.5)
    xp = rn.arrays.array_module(d.x)
    x = xp.concatenate([d.x, d.x_test])
    kernels = rn.analytic_kernels(net, x, x)
    train, cross = (_part_of(kernels, rows, slice(N)) for rows in (slice(N), slice(N, None)))
    f0 = xp.zeros((len(x), n + 1, C))  # the last one stays zero: the circles
    rng = np.random.default_rng([settings["seed"], N])
    f0[:, :n] = rn.gaussian_outputs(kernels.A[-1], n * C, rng).reshape(-1, n, C)
    del kernels
    limits = {"gradient descent": _limit(rn.Identity(), train, cross, f0, d.y)}
    numbers = {"rank": int(np.linalg.matrix_rank(rn.to_device(d.x, "cpu"))), "methods": {}}
    for name, fisher in PREDICTORS.items():
        if name == "K-FAC" and C > 1:
            continue  # as in the paper
        f, residual = _limit(fisher, train, cross, f0, d.y)
        accuracy = [datasets.accuracy(f[:, k], d.y_test) for k in range(n + 1)]
        numbers["methods"][name] = {"accuracy": accuracy[:n], "circle": accuracy[n], "residual": residual}
        limits[name] = f, residual
    gap = abs(limits["gradient descent"][0] - limits["exact"][0]).max()
    return numbers | {"gradient descent less exact": float(gap)}


def _panel_data(panel: dict, N: int, seed: int, data: str | None) -> Data:
    """N training samples, the first of the same order for every N, and the same test samples; `data` is NAME:FOLDER."""
    if panel["data"] == "digits":
        d = datasets.split(*datasets.digits(panel["classes"]), max(panel["N"]), seed)
        return Data(d.x[:N], d.y[:N], d.x_test, d.y_test)
    name, _, folder = (data or "published").partition(":")
    if name != "published":
        raise ValueError(f"--data is {data!r}; expected published:FOLDER, with the files of MNIST and CIFAR-10")
    parts = (PUBLISHED[panel["data"]](part, folder or None, panel["classes"]) for part in ("train", "test"))
    return datasets.draw(*parts, N, panel["N_test"], seed)


def _part_of(kernels: rn.Kernels, rows: slice, columns: slice) -> rn.Kernels:
    return rn.Kernels(*([K[rows, columns] for K in kind] for kind in (kernels.A, kernels.B)), kernels.bias)


def _limit(fisher, train: rn.Kernels, cross: rn.Kernels, f0, y) -> tuple:
    """f_inf (N', n, C) on test samples for f_0 (N + N', n, C), and the largest |f_inf - y| on the training samples."""
    xp, (N, C), n = rn.arrays.array_module(y), y.shape, f0.shape[1]
    flat = f0.reshape(len(f0), n * C)
    Theta_bar = fisher.kernel_coefficient(train, train)
    dynamics = rn.Dynamics(Theta_bar, flat[:N], xp.concatenate([y] * n, axis=1), rn.optimal_rate(Theta_bar))
    residual = abs(dynamics.predict(Theta_bar, flat[:N], math.inf).reshape(N, n, C) - y[:, None]).max()
    f = dynamics.predict(fisher.kernel_coefficient(cross, train), flat[N:], math.inf)
    return f.reshape(-1, n, C), float(residual)


def ko2_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    residual = max(r["methods"][name]["residual"] for r in results.values() for name in ISOTROPIC)
    gap = max(r["gradient descent less exact"] for r in results.values())
    verdicts = [
        (
            f"{', '.join(ISOTROPIC)} NGD fit every training sample: |f - y| <= {residual:.1e}, allowed 1e-6",
            residual < 1e-6,
        ),
        (f"gradient descent has the limit of exact NGD: they differ by {gap:.1e} at most, allowed 1e-6", gap < 1e-6),
    ]
    for panel in settings["panels"]:
        runs = [(N, results[f"{panel['title']}, N = {N}"]) for N in panel["N"]]
        verdicts += _panel_verdicts(panel, runs)
    return verdicts


def _panel_verdicts(panel: dict, runs: list[tuple[int, dict]]) -> Iterator[tuple[str, bool]]:
    title, (first, start), (last, end) = panel["title"], runs[0], runs[-1]
    means = {N: {name: float(np.mean(m["accuracy"])) for name, m in r["methods"].items()} for N, r in runs}
    gaps = {N: max(mean.values()) - min(mean.values()) for N, mean in means.items()}
    widest, low = max(gaps, key=gaps.get), min(means[last].values())
    listed = ", ".join(f"{name} {value:.3f}" for name, value in means[last].items())
    yield (
        f"{title}: the approximations are comparable, within 0.05, at N = {last}: {listed}. The largest gap at any N: "
        f"{gaps[widest]:.3f} at N = {widest}, {min(means[widest], key=means[widest].get)} the lowest",
        gaps[last] < 0.05,
    )
    error = 1 - 1 / len(panel["classes"])
    enough = 1 - 2 / 3 * error
    yield f"{title}: all do well, at most 2/3 of the errors of guessing: {low:.3f}, needed {enough:.3f}", low > enough
    growth, noise = {}, {}
    for name in end["methods"]:
        early, late = (np.array(s["methods"][name]["accuracy"]) for s in (start, end))
        growth[name], noise[name] = float(late.mean() - early.mean()), math.hypot(early.std(), late.std())
    least = min(growth, key=lambda name: growth[name] - 2 * noise[name])
    yield (
        f"{title}: accuracy grows from N = {first} to {last} by more than two standard deviations over f_0: by "
        f"{growth[least]:.3f} +- {noise[least]:.3f} ({least})",
        growth[least] > 2 * noise[least],
    )
    spread = {name: float(np.std(r["accuracy"])) for name, r in end["methods"].items()}
    widest = max(spread, key=spread.get)
    yield (
        f"{title}: the variance due to f_0 exists and is small at N = {last}: standard deviation up to "
        f"{spread[widest]:.4f} ({widest}), expected in (0, 0.02)",
        0 < spread[widest] < 0.02,
    )
    if "K-FAC" in end["methods"]:
        yield from _kfac_verdicts(title, runs)


def _kfac_verdicts(title: str, runs: list[tuple[int, dict]]) -> Iterator[tuple[str, bool]]:
    """Where the inputs are dependent Theta_bar is a diagonal matrix, not alpha I, but still regular."""
    residual = max(r["methods"]["K-FAC"]["residual"] for _, r in runs)
    dependent = [N for N, r in runs if r["rank"] < N]
    note = f"; the inputs are dependent, so Theta_bar is not alpha I, at N = {dependent}" if dependent else ""
    yield f"{title}: K-FAC fits every training sample: |f - y| <= {residual:.1e}, allowed 1e-6{note}", residual < 1e-6


def ko2_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    panels = settings["panels"]
    figure, axes = subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6))
    for axis, panel in zip(axes.flat, panels, strict=True):
        runs = [(N, results[f"{panel['title']}, N = {N}"]["methods"]) for N in panel["N"]]
        for k, name in enumerate(runs[0][1]):
            N = np.array(panel["N"]) * 1.06 ** (k - 1.5)  # side by side
            accuracy = np.array([methods[name]["accuracy"] for _, methods in runs])
            axis.errorbar(N, accuracy.mean(1), accuracy.std(1), color=f"C{k}", fmt="-_", lw=1, capsize=3, label=name)
            axis.plot(N, [methods[name]["circle"] for _, methods in runs], "o", color=f"C{k}", fillstyle="none")
        axis.set(xscale="log", title=panel["title"], xlabel="training samples N")
    axes.flat[0].set_ylabel(r"test accuracy of $f_\infty$")
    axes.flat[0].plot([], [], "o", color="0.4", fillstyle="none", label="$f_0 = 0$")
    axes.flat[0].legend(fontsize=8, loc="lower right")
    figure.savefig(path)


# ------------------------------------------------------------------------------------------- Fig. 3: condition numbers


def ko3_parts(settings: dict) -> list[str]:
    return list(_ko3_runs(settings))


def _ko3_runs(settings: dict) -> dict[str, tuple[int, int]]:
    """Name of the part -> width and seed."""
    return {f"M = {M}, seed {seed}": (M, seed) for M in settings["M"] for seed in range(settings["seeds"])}


def ko3_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    M, seed = _ko3_runs(settings)[part]
    rng = np.random.default_rng(seed)
    s = _signals(settings, M, rn.relu, rng, device)
    return {
        name: rn.isotropy(fisher.coefficient(s, s, settings["rho"])).condition for name, (fisher, _) in METRICS.items()
    }


def _signals(settings: dict, M: int, activation: rn.Activation, rng: np.random.Generator, device: str) -> rn.Signals:
    """Those of a random network with x ~ N(0, I), not normalised: K&O C.3.1 and C.3.3."""
    widths = (settings["M_0"], *[M] * (settings["L"] - 1), 1)
    net = rn.Network(widths, activation, settings["sigma_w^2"] ** 0.5, settings["sigma_b^2"] ** 0.5)
    W, x = net.init(rng), rng.standard_normal((settings["N"], settings["M_0"]))
    return net.signals(rn.to_device(W, device), rn.to_device(x, device))


def _logarithms(settings: dict, results: dict[str, dict]) -> dict[str, np.ndarray]:
    """The logarithms of the condition numbers (widths, seeds)."""
    runs, shape = _ko3_runs(settings), (len(settings["M"]), settings["seeds"])
    return {name: np.log([results[part][name] for part in runs]).reshape(shape) for name in METRICS}


def _counting(settings: dict, M: float, deviations: float) -> float:
    """1 + how far counts of live units are apart if each is within so many standard deviations of its mean.

    Theta_bar of unit-wise NGD is diagonal, with the number of units that are live for the sample: binomial, of L - 1
    layers of M units, each live with probability 1/2.
    """
    return 1 + 2 * deviations / math.sqrt((settings["L"] - 1) * M)


def ko3_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    logs, widths, N = _logarithms(settings, results), np.array(settings["M"]), settings["N"]
    mean = {name: np.exp(log.mean(1)) for name, log in logs.items()}
    wide = widths + 1 >= N  # where Theta_l is regular for every layer
    last, M = {name: values[-1] for name, values in mean.items()}, int(widths[-1])
    bd = float(np.exp(logs["block-diagonal"][wide].max()) - 1)
    unit, worst = mean["unit-wise"], np.exp(logs["unit-wise"].max(1))
    bound = np.array([_counting(settings, m, 4) for m in widths])
    rows = " ".join(f"{value:.3f}" for value in unit)
    entries = {name: mean[name][wide] for name in ("diagonal", "quasi-diagonal")}
    least = {name: values.min() for name, values in entries.items()}
    verdicts = [
        (f"block-diagonal: 1 for every M + 1 >= N = {N} and seed: excess {bd:.1e}, allowed 1e-6", bd < 1e-6),
        (
            f"unit-wise: falls towards 1 with M, for M = {widths.tolist()}: {rows}",
            bool((np.diff(unit) < 0).all() and last["unit-wise"] < 1.2),
        ),
        (
            "unit-wise: as the number of live units varies, every seed within 1 + 8 / sqrt((L-1) M) for M + 1 >= N: "
            f"the largest excess is {((worst - 1) / (bound - 1))[wide].max():.2f} of that",
            bool((worst <= bound)[wide].all()),
        ),
        (
            "diagonal and quasi-diagonal: stay larger than 1, above 2 for every M + 1 >= N, and do not fall: least "
            + ", ".join(f"{name} {least[name]:.1f} and {last[name]:.1f} at M = {M}" for name in entries),
            all(least[name] > 2 and last[name] >= 0.8 * values[0] for name, values in entries.items()),
        ),
        (
            f"diagonal and quasi-diagonal: below the NTK for every M + 1 >= N; NTK at M = {M}: {last['NTK']:.0f}",
            all((values < mean["NTK"][wide]).all() for values in entries.values()),
        ),
        (f"NTK: far from 1 at any width: {mean['NTK'].min():.0f} or more, needed 50", bool(mean["NTK"].min() > 50)),
    ]
    if 128 in settings["M"]:
        at_128 = {name: float(mean[name][settings["M"].index(128)]) for name in METRICS}
        text = ", ".join(f"{name} {at_128[name]:.3g} ({value})" for name, value in CONDITIONS.items())
        close = all(abs(at_128[name] / value - 1) < 0.25 for name, value in CONDITIONS.items())
        verdicts.append((f"M = 128: within 25 % of the values found independently: {text}", close))
    return verdicts


def ko3_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 1, figsize=(5.6, 4))
    axis, widths = axes.flat[0], settings["M"]
    for name, (_, color) in METRICS.items():
        log = _logarithms(settings, results)[name]
        mean, factor = np.exp(log.mean(1)), np.exp(log.std(1))
        spread = [mean - mean / factor, mean * factor - mean]
        axis.errorbar(widths, mean, spread, fmt="o", color=color, fillstyle="none", capsize=3, label=name)
    M = np.geomspace(widths[0], widths[-1], 100)
    largest = _largest_normal(settings["N"])
    axis.axhline(1, color="red", lw=1)
    axis.plot(M, [_counting(settings, m, largest) for m in M], color="blue", lw=1, label="live units, binomial")
    axis.set_xscale("log", base=2)
    axis.set(yscale="log", xlabel="width M", ylabel=r"condition number of $\bar\Theta$")
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path)


def _largest_normal(n: int) -> float:
    """The mean of the largest of n standard normal numbers: the integral of P(max > z) - P(0 > z), midpoint rule."""
    z = (np.arange(-800, 800) + 0.5) / 100
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z]) ** n
    return float(((z > 0) - below).sum() / 100)


# -------------------------------------------------------------------------------------- Fig. S.2: alpha of shifted ReLU


def kos2_parts(settings: dict) -> list[str]:
    return [f"s = {s:g}" for s in settings["s"]]


def kos2_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """alpha_n / M of every seed and sample: the diagonal of Theta_bar, and (S.157) for ||x_n||; the largest off it."""
    s = dict(zip(kos2_parts(settings), settings["s"], strict=True))[part]
    M, activation = settings["M"], rn.shifted_relu(s)
    measured, formula, off = [], [], 0.0
    for seed in range(settings["seeds"]):
        signals = _signals(settings, M, activation, np.random.default_rng(seed), device)
        Theta_bar = rn.to_device(rn.Unitwise().coefficient(signals, signals, settings["rho"]), "cpu") / M
        x = rn.to_device(signals.h[0], "cpu")[:, :-1] * (settings["M_0"] / settings["sigma_w^2"]) ** 0.5
        diagonal = Theta_bar.diagonal()
        measured.append(diagonal.tolist())
        formula.append([_alpha(settings, s, norm) for norm in np.linalg.norm(x, axis=1).tolist()])
        off = max(off, float(abs(Theta_bar - np.diag(diagonal)).max()))
    return {"measured": measured, "formula": formula, "off-diagonal": off}


def _alpha(settings: dict, s: float, norm: float) -> float:
    """alpha / M of (S.157) for ||x|| = norm, and 1 / M for the output unit, which (S.157) leaves out."""
    M, activation = settings["M"], rn.shifted_relu(s)
    widths = (settings["M_0"], *[M] * (settings["L"] - 1), 1)
    net = rn.Network(widths, activation, settings["sigma_w^2"] ** 0.5, settings["sigma_b^2"] ** 0.5)
    return sum(activation.gamma(q) for q in rn.order_parameters(net, norm)[:-1]) + 1 / M


def kos2_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    M, L, seeds, norm = settings["M"], settings["L"], settings["seeds"], settings["M_0"] ** 0.5
    means = {part: {key: np.mean(results[part][key]) for key in ("measured", "formula")} for part in results}
    gaps = {part: abs(m["measured"] - m["formula"]) for part, m in means.items()}
    worst = max(gaps, key=gaps.get)
    allowed = 4 * math.sqrt((L - 1) / (4 * M * seeds))
    share = gaps[worst] / means[worst]["formula"]
    off = max(results[part]["off-diagonal"] / means[part]["measured"] for part in results)
    at_unit, at_root = (
        max(abs(means[part]["measured"] - _alpha(settings, s, r)) for part, s in _shifts(settings)) for r in (1.0, norm)
    )
    return [
        (
            f"alpha / M is (S.157) with q_l for the norm of each sample: the means differ by at most {gaps[worst]:.4f}"
            f" ({share:.2%}, at {worst}); allowed {allowed:.4f}, 4 standard deviations of (L-1) M seeds coin flips",
            bool(gaps[worst] < allowed),
        ),
        (f"Theta_bar is diagonal: the rest is at most {off:.1e} of alpha, allowed 1e-2", bool(off < 1e-2)),
        (
            f"one norm for all, ||x|| = sqrt(M_0), does for the mean: off by at most {at_root:.4f}, allowed 0.05; unit "
            f"norm, which Unitwise.alpha presumes, does not hold here: off by {at_unit:.4f}",
            bool(at_root < 0.05 < at_unit),
        ),
    ]


def _shifts(settings: dict) -> list[tuple[str, float]]:
    return list(zip(kos2_parts(settings), settings["s"], strict=True))


def kos2_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 1, figsize=(5.6, 4))
    axis, s, norm = axes.flat[0], settings["s"], settings["M_0"] ** 0.5
    parts = kos2_parts(settings)
    fine = np.linspace(min(s), max(s), 101).tolist()
    axis.plot(
        fine, [_alpha(settings, v, norm) for v in fine], color="0.6", ls="--", lw=1, label=r"$||x|| = \sqrt{M_0}$"
    )
    axis.plot(fine, [_alpha(settings, v, 1.0) for v in fine], color="0.6", ls=":", lw=1, label="$||x|| = 1$")
    formula = [np.mean(results[part]["formula"]) for part in parts]
    axis.plot(s, formula, color="C0", label="(S.157), mean over samples")
    measured = [np.array(results[part]["measured"]) for part in parts]
    axis.errorbar(
        s,
        [m.mean() for m in measured],
        [m.std() for m in measured],
        fmt="o",
        color="C3",
        fillstyle="none",
        capsize=3,
        label="measured, and deviation over samples",
    )
    axis.set(xlabel="s", ylabel=r"$\alpha / M$")
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path)


INFINITE = {"L": 3, "sigma_w^2": 2.0, "initialisations": 10, "seed": 0}
FINITE = {"L": 3, "sigma_w^2": 2.0, "sigma_b^2": 0.5, "rho": 1e-12}
FIGURES = {
    "ko-2": Figure(
        "K&O Fig. 2: test accuracy of networks of infinite width trained without end, over the training samples; mean "
        "and standard deviation over f_0, and circles for f_0 = 0. small: 8 x 8 digits, neither MNIST nor CIFAR-10",
        {
            "small": INFINITE
            | {
                "panels": [
                    {"title": "digits 3 and 8", "data": "digits", "classes": [3, 8], "N": [10, 20, 40, 80, 160, 240]},
                    {
                        "title": "ten digits",
                        "data": "digits",
                        "classes": list(range(10)),
                        "N": [10, 30, 100, 300, 1000],
                    },
                ]
            },
            "paper": INFINITE
            | {
                "data": "published",
                "panels": [
                    {
                        "title": "CIFAR-10, airplane and horse",
                        "data": "cifar10",
                        "classes": [0, 7],
                        "N": [100, 300, 1000, 3000, 10_000],
                        "N_test": 2000,
                    },
                    *(
                        {
                            "title": title,
                            "data": name,
                            "classes": list(range(10)),
                            "N": [100, 300, 1000, 3000, 10_000],
                            "N_test": 10_000,
                        }
                        for title, name in (("MNIST", "mnist"), ("CIFAR-10", "cifar10"))
                    ),
                ],
            },
        },
        ko2_parts,
        ko2_compute,
        ko2_verdicts,
        ko2_draw,
    ),
    "ko-3": Figure(
        "K&O Fig. 3: condition number of Theta_bar over the width, ReLU; geometric mean and deviation over seeds",
        {
            "small": FINITE | {"M_0": 100, "N": 80, "M": [32, 64, 128, 256, 512, 1024], "seeds": 5},
            "paper": FINITE | {"M_0": 100, "N": 80, "M": [32, 64, 128, 256, 512, 1024, 2048, 4096], "seeds": 10},
        },
        ko3_parts,
        ko3_compute,
        ko3_verdicts,
        ko3_draw,
    ),
    "ko-s2": Figure(
        "K&O Fig. S.2: alpha / M of unit-wise NGD over the shift s of max(x, -s); x ~ N(0, I), not normalised",
        {
            "small": FINITE | {"M_0": 10, "N": 10, "M": 4096, "s": [0, 0.5, 1, 1.5, 2, 2.5, 3, 4], "seeds": 5},
            "paper": FINITE | {"M_0": 10, "N": 10, "M": 4096, "s": [k / 4 for k in range(17)], "seeds": 20},
        },
        kos2_parts,
        kos2_compute,
        kos2_verdicts,
        kos2_draw,
    ),
}
