"""K&O's figures that need kernels alone, no training: Fig. 2, Fig. 3 and Fig. S.2."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import datasets
from refngd.arrays import Array, array_module
from refngd.cli.output import subplots
from refngd.conformance.compare import roundoff
from refngd.datasets import Data
from refngd.preprocess import forster, unit_norm

from . import limits
from .data import PUBLISHED, Part, two_parts
from .figure import Figure
from .law import power_law

PREDICTORS = {  # of Fig. 2
    "exact": rn.Exact(),
    "block-diagonal": rn.BlockDiagonal(),
    "tri-diagonal": rn.BlockTridiagonal(),
    "K-FAC": rn.KFAC(),
}
ISOTROPIC = ["exact", "block-diagonal", "tri-diagonal"]  # for any number of samples and outputs
FORSTER, PUBLISHED_KFAC = "K-FAC, Forster", "K-FAC, published"
METRICS = {  # of Fig. 3, in its colours
    "NTK": (rn.Identity(), "black"),
    "block-diagonal": (rn.BlockDiagonal(), "red"),
    "unit-wise": (rn.Unitwise(), "blue"),
    "diagonal": (rn.Entrywise(), "green"),
    "quasi-diagonal": (rn.QuasiDiagonal(), "darkturquoise"),
}
CONDITIONS = {"NTK": 164, "block-diagonal": 1, "unit-wise": 1.33, "diagonal": 20.7, "quasi-diagonal": 4.5}  # THEORY 5


# ------------------------------------------------------------------------------------------------ Fig. 2: test accuracy


def ko2_available(settings: dict, data: str | None) -> dict:
    """The settings less the panels whose data --data does not name, or that are not in its folder or not fetched."""
    name = (data or "published").partition(":")[0]
    if name not in ("published", *PUBLISHED):
        raise ValueError(f"--data is {data!r}; expected mnist:FOLDER, cifar10:FOLDER or published:FOLDER, for both")
    panels, left = [], []
    for panel in settings["panels"]:
        try:
            if name not in ("published", panel["data"]):
                raise ValueError(f"--data names {name} alone")
            _source(panel, data)
            panels.append(panel)
        except ValueError as error:
            left.append(f"{panel['title']}, since its data are not there: {error}")
    if not panels:
        raise ValueError("; ".join(left))
    return settings | {"panels": panels, "left out": left}


def _source(panel: dict, data: str | None) -> list[Part]:
    folder = (data or "").partition(":")[2]
    name = panel["data"] + f":{folder}" * bool(folder and panel["data"] in PUBLISHED)
    return two_parts(name, panel["classes"])


def ko2_parts(settings: dict) -> list[str]:
    return list(_ko2_runs(settings))


def _ko2_runs(settings: dict) -> dict[str, tuple[dict, int, int]]:
    """Name of the part -> the panel, the number of training samples and the seed of the draw."""
    runs = ((panel, N, seed) for panel in settings["panels"] for N in panel["N"] for seed in range(settings["seeds"]))
    return {_run_name(*run): run for run in runs}


def _run_name(panel: dict, N: int, seed: int) -> str:
    return f"{panel['title']}, N = {N}, seed {seed}"


def ko2_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """Accuracies on the test samples for every f_0, that for f_0 = 0, and the largest |f_inf - y| in training."""
    panel, N, seed = _ko2_runs(settings)[part]
    d = datasets.draw(*_source(panel, data), N, panel["N_test"], seed)
    if "components" in panel:
        d = _principal(d, panel["components"])
    d = Data(*rn.to_device([d.x, d.y, d.x_test, d.y_test], device))
    rng, n = np.random.default_rng([seed, N]), settings["initialisations"]
    of_test = limits.layers(_network(settings, d), d.x_test, d.x_test)[-1]
    train, cross = (limits.layers(_network(settings, d), x, d.x) for x in (d.x, d.x_test))
    f0 = limits.outputs(train[-1], cross[-1], of_test, n, d.y.shape[1], rng)
    del of_test
    found = {name: _limit(of, f0, d.y) for name, of in limits.of_layers(train, cross, _residual(f0, d.y)).items()}
    del train, cross
    numbers = {}
    if d.y.shape[1] == 1:
        first, diagonal, numbers["rank"], numbers["kappa"] = limits.projector(d.x, d.x_test)
        found["K-FAC"] = _limit(limits.of_kfac(*_kernels(settings, d), first, diagonal, _residual(f0, d.y)), f0, d.y)
    if settings["by definition"] >= N:
        numbers["gap"] = _gap(settings, d, f0, found)
    if d.y.shape[1] == 1 and d.x.shape[1] < N:
        of_code = Data(published_forster(d.x), d.y, published_forster(d.x_test), d.y_test)
        numbers["coincide"] = _coinciding(of_code.x)
        if not numbers["coincide"]:
            found[PUBLISHED_KFAC] = _published_limit(settings, of_code, n, seed)
        try:
            found[FORSTER] = _forster_limit(settings, d, n, seed)
        except np.linalg.LinAlgError as error:
            numbers["no Forster transform"] = str(error)
    return numbers | {"methods": {name: _accuracies(*limit, d.y_test) for name, limit in found.items()}}


def _principal(d: Data, k: int) -> Data:
    """Inputs of k dimensions: the principal components of the training inputs, at unit norm."""
    V = np.linalg.svd(d.x, full_matrices=False)[2][:k].T
    return Data(unit_norm(d.x @ V), d.y, unit_norm(d.x_test @ V), d.y_test)


def _network(settings: dict, d: Data) -> rn.Network:
    """Its depth alone matters: the widths of the hidden layers are infinite."""
    return rn.Network((d.x.shape[1], *[1] * (settings["L"] - 1), d.y.shape[1]), rn.relu, settings["sigma_w^2"] ** 0.5)


def _kernels(settings: dict, d: Data) -> tuple[rn.Kernels, rn.Kernels]:
    """Between training samples, and between test and training samples."""
    return tuple(rn.analytic_kernels(_network(settings, d), x, d.x) for x in (d.x, d.x_test))


def _accuracies(f: Array, residual: float, y_test: Array) -> dict:
    values = [datasets.accuracy(f[:, k], y_test) for k in range(f.shape[1])]
    return {"accuracy": values[:-1], "circle": values[-1], "residual": residual}


def _residual(f0: tuple[Array, Array], y: Array) -> Array:
    """y - f_0 (N, (n+1) C) of the training samples."""
    return array_module(y).tile(y, (1, f0[0].shape[1] // y.shape[1])) - f0[0]


def _limit(change: tuple[Array, Array], f0: tuple[Array, Array], y: Array) -> tuple[Array, float]:
    """f_inf (N', n+1, C) on test samples, and the largest |f_inf - y| on the training samples that `change` has."""
    of_test, of_train = change
    f = (f0[1] + of_test).reshape(len(of_test), -1, y.shape[1])
    return f, float(abs(of_train - _residual(f0, y)[: len(of_train)]).max())


def _gap(settings: dict, d: Data, f0: tuple[Array, Array], found: dict[str, tuple]) -> float:
    """How far the limits are from those of `Dynamics` with their Theta_bar, and gradient descent's from exact's."""
    kernels, gap = _kernels(settings, d), 0.0
    for name, fisher in [("exact", rn.Identity()), *((name, PREDICTORS[name]) for name in found)]:
        gap = max(gap, float(abs(_by_definition(fisher, *kernels, f0, d.y) - found[name][0]).max()))
    return gap


def _by_definition(fisher, train: rn.Kernels, cross: rn.Kernels, f0: tuple[Array, Array], y: Array) -> Array:
    """f_inf (N', n+1, C) on the test samples."""
    Theta_bar = fisher.kernel_coefficient(train, train)
    targets = array_module(y).tile(y, (1, f0[0].shape[1] // y.shape[1]))
    dynamics = rn.Dynamics(Theta_bar, f0[0], targets, rn.optimal_rate(Theta_bar))
    f = dynamics.predict(fisher.kernel_coefficient(cross, train), f0[1], math.inf)
    return f.reshape(len(f), -1, y.shape[1])


def _forster_limit(settings: dict, d: Data, n: int, seed: int) -> tuple[Array, float]:
    """K-FAC for M_0 < N as K&O B.3 has it: training and test samples by one Forster transform. Raises LinAlgError."""
    A = forster(d.x)
    d = Data(unit_norm(d.x @ A), d.y, unit_norm(d.x_test @ A), d.y_test)
    return _kfac_limit(settings, d, n, seed, *limits.projector(d.x, d.x_test)[:2])


def _kfac_limit(settings: dict, d: Data, n: int, seed: int, first: Array, diagonal: Array) -> tuple[Array, float]:
    """That of K-FAC and f_0 of its own; first, diagonal: see `limits.of_kfac`."""
    (train, cross), of_test = _kernels(settings, d), limits.layers(_network(settings, d), d.x_test, d.x_test)[-1]
    f0 = limits.outputs(train.A[-1], cross.A[-1], of_test, n, 1, np.random.default_rng([seed, len(d.x)]))
    return _limit(limits.of_kfac(train, cross, first, diagonal, _residual(f0, d.y)), f0, d.y)


def published_forster(x: Array, steps: int = 100, tolerance: float = 1e-3, eps: float = 1e-7) -> Array:
    """The transform as K&O's code approximates it: damped by eps, and ended after 100 steps wherever it is then."""
    xp, (N, M_0) = array_module(x), x.shape
    for _ in range(steps):
        w, V = xp.linalg.eigh(x.T @ x)
        x = unit_norm(x @ ((V * (abs(w) + eps) ** -0.5) @ V.T))
        if xp.linalg.norm(x.T @ x * (M_0 / N) - xp.eye(M_0)) < tolerance * M_0**0.5:
            break
    return x


def _coinciding(x: Array) -> int:
    """How many of the samples x, of unit norm, are within 1e-6 of another: too near for a regular Theta."""
    cosines, i = x @ x.T, array_module(x).arange(len(x))
    cosines[i, i] = 0
    return int((cosines.max(1) > 1 - 1e-12 / 2).sum())


def _published_limit(settings: dict, d: Data, n: int, seed: int) -> tuple[Array, float]:
    """K-FAC for M_0 < N as K&O's code has it, d after its transform, of which test samples have one of their own: the
    first layer's X' X^T lacks the factor M_0 / N of X' (X^T X)^{-1} X^T, so that alpha = N L."""
    xp = array_module(d.x)
    rows = xp.concatenate([d.x_test, d.x[: limits.PROBES]])
    return _kfac_limit(settings, d, n, seed, rows @ d.x.T, xp.ones_like(d.x[:, 0]))


def _pooled(settings: dict, panel: dict, results: dict[str, dict]) -> list[tuple[int, dict]]:
    """For each N: "accuracy" over f_0 and draws, "circle" over draws, "residual" by method; the least rank; of each
    draw how many samples coincide after the published transform."""
    runs = []
    for N in panel["N"]:
        draws = [results[_run_name(panel, N, seed)] for seed in range(settings["seeds"])]
        names = [name for name in draws[0]["methods"] if all(name in draw["methods"] for draw in draws)]
        methods = {
            name: {
                "accuracy": [value for draw in draws for value in draw["methods"][name]["accuracy"]],
                "circle": [draw["methods"][name]["circle"] for draw in draws],
                "residual": max(draw["methods"][name]["residual"] for draw in draws),
            }
            for name in names
        }
        rank, coincide = ([draw.get(key, other) for draw in draws] for key, other in (("rank", N), ("coincide", 0)))
        runs.append((N, {"methods": methods, "rank": min(rank), "coincide": coincide}))
    return runs


def ko2_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    residual = max(r["methods"][name]["residual"] for r in results.values() for name in ISOTROPIC)
    gaps = {part: r["gap"] for part, r in results.items() if "gap" in r}
    allowed = {part: max(1e-6, 30 * roundoff(float) * results[part].get("kappa", 1)) for part in gaps}
    worst = max(gaps, key=lambda part: gaps[part] / allowed[part])
    verdicts = [
        (
            f"{', '.join(ISOTROPIC)} NGD fit every training sample: |f - y| <= {residual:.1e}, allowed 1e-6",
            residual < 1e-6,
        ),
        (
            "gradient descent has the limit of exact NGD, and each limit is that of its Theta_bar: for N <= "
            f"{settings['by definition']} they differ by {gaps[worst]:.1e} at most, allowed {allowed[worst]:.1e} (1e-6 "
            "or 30 u kappa, kappa the condition number of the inputs' Gram matrix)",
            gaps[worst] < allowed[worst],
        ),
    ]
    for panel in settings["panels"]:
        verdicts += _panel_verdicts(panel, _pooled(settings, panel, results))
    return verdicts


def _panel_verdicts(panel: dict, runs: list[tuple[int, dict]]) -> Iterator[tuple[str, bool]]:
    title, (first, start), (last, end) = panel["title"], runs[0], runs[-1]
    yield from _comparable(title, runs, 1 - 1 / len(panel["classes"]))
    growth, noise = {}, {}
    for name in ISOTROPIC:
        early, late = (np.array(s["methods"][name]["accuracy"]) for s in (start, end))
        growth[name], noise[name] = float(late.mean() - early.mean()), math.hypot(early.std(), late.std())
    least = min(growth, key=lambda name: growth[name] - 2 * noise[name])
    yield (
        f"{title}: accuracy grows from N = {first} to {last} by more than two standard deviations over f_0 and draws: "
        f"by {growth[least]:.3f} +- {noise[least]:.3f} ({least})",
        growth[least] > 2 * noise[least],
    )
    if "K-FAC" in end["methods"]:
        yield _kfac_verdict(title, runs)
    if end["rank"] < last:
        yield from _dependent_verdicts(title, last, end["methods"])
        yield _published_verdict(title, last, end)


def _comparable(title: str, runs: list[tuple[int, dict]], guessing: float) -> Iterator[tuple[str, bool]]:
    """K-FAC counts among the others while its inputs are independent; else it has verdicts of its own."""
    compared = {
        N: {name: float(np.mean(m["accuracy"])) for name, m in r["methods"].items()
            if name in ISOTROPIC or (name == "K-FAC" and r["rank"] == N)}
        for N, r in runs
    }  # fmt: skip
    gaps = {N: max(mean.values()) - min(mean.values()) for N, mean in compared.items()}
    last, widest = runs[-1][0], max(gaps, key=gaps.get)
    low, enough = min(compared[last].values()), 1 - 2 / 3 * guessing
    listed = ", ".join(f"{name} {value:.3f}" for name, value in compared[last].items())
    yield (
        f"{title}: the approximations are comparable, within 0.05, at N = {last}: {listed}. The largest gap at any N: "
        f"{gaps[widest]:.3f} at N = {widest}, {min(compared[widest], key=compared[widest].get)} the lowest",
        gaps[last] < 0.05,
    )
    yield f"{title}: all do well, at most 2/3 of the errors of guessing: {low:.3f}, needed {enough:.3f}", low > enough


def _kfac_verdict(title: str, runs: list[tuple[int, dict]]) -> tuple[str, bool]:
    """Where the inputs are dependent Theta_bar is a diagonal matrix, not alpha I, but still regular."""
    names = [name for name in ("K-FAC", FORSTER) if any(name in r["methods"] for _, r in runs)]
    residual = max(r["methods"][name]["residual"] for _, r in runs for name in names if name in r["methods"])
    dependent = [N for N, r in runs if r["rank"] < N]
    note = f"; the inputs are dependent, so without the transform Theta_bar is not alpha I, at N = {dependent}"
    return (
        f"{title}: {', '.join(names)}: every training sample is fitted, |f - y| <= {residual:.1e}, allowed 1e-6"
        + note * bool(dependent),
        residual < 1e-6,
    )


def _dependent_verdicts(title: str, N: int, methods: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    """For N > M_0: K-FAC by the pseudo-inverse, and after a Forster transform if there is one."""
    mean = {name: float(np.mean(m["accuracy"])) for name, m in methods.items()}
    circle = {name: float(np.mean(m["circle"])) for name, m in methods.items()}
    for name in [name for name in ("K-FAC", FORSTER) if name in methods]:
        scatter = math.hypot(*(np.std(methods[k]["accuracy"]) for k in (name, "exact")))
        error = scatter / math.sqrt(len(methods[name]["accuracy"]))
        behind = mean["exact"] - mean[name]
        finding = ", NOT comparable, though the paper says so" * (behind > 0.05)
        yield (
            f"{title}: {name} with fewer inputs than samples is no better than exact NGD on the mean over f_0, but "
            f"behind by {behind:.4f} +- {error:.4f} at N = {N}{finding}; for f_0 = 0 it is as good: {circle[name]:.3f} "
            f"against {circle['exact']:.3f} (limit 0.02 apart)",
            behind > -2 * error and abs(circle["exact"] - circle[name]) < 0.02,
        )


def _published_verdict(title: str, N: int, run: dict) -> tuple[str, bool]:
    """Of a coordinate that fewer than N / M_0 samples have the iteration makes the only one that they have."""
    methods, right = run["methods"], FORSTER if FORSTER in run["methods"] else "K-FAC"
    if PUBLISHED_KFAC not in methods:
        counts = ", ".join(map(str, run["coincide"]))
        return (
            f"{title}: NO limit of the published code at N = {N}: after its transform {counts} samples, by draw, "
            "coincide with another to 1e-6, and Theta_bar is singular",
            max(run["coincide"]) > 0,
        )
    mean, circle = (
        {name: float(np.mean(methods[name][key])) for name in (PUBLISHED_KFAC, right)} for key in ("accuracy", "circle")
    )
    return (
        f"{title}: the published code gives test samples a Forster transform of their own, and they lose by it: for "
        f"f_0 = 0 accuracy {circle[PUBLISHED_KFAC]:.3f}, {circle[right]:.3f} by {right} of one transform; on the mean "
        f"{mean[PUBLISHED_KFAC]:.3f} and {mean[right]:.3f}",
        circle[PUBLISHED_KFAC] < circle[right],
    )


def ko2_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    panels, labels = settings["panels"], {}
    figure, axes = subplots(1, len(panels), figsize=(4 * len(panels) + 1.8, 3.6))
    for axis, panel in zip(axes.flat, panels, strict=True):
        runs = _pooled(settings, panel, results)
        for k, name in enumerate([*PREDICTORS, FORSTER, PUBLISHED_KFAC]):
            of = [(N * 1.03 ** (k - 2), r["methods"][name]) for N, r in runs if name in r["methods"]]  # side by side
            if of:
                N, values = [N for N, _ in of], [np.array(m["accuracy"]) for _, m in of]
                spread = [v.std() for v in values]
                labels[name] = axis.errorbar(N, [v.mean() for v in values], spread, color=f"C{k}", capsize=3)
                axis.plot(N, [np.mean(m["circle"]) for _, m in of], "o", color=f"C{k}", fillstyle="none")
        axis.set(xscale="log", title=panel["title"], xlabel="training samples N")
        axis.set_xticks(panel["N"], [f"{N:,}" for N in panel["N"]], fontsize=8)
        axis.minorticks_off()
    axes.flat[0].set_ylabel(r"test accuracy of $f_\infty$")
    (labels["$f_0 = 0$"],) = axes.flat[0].plot([], [], "o", color="0.4", fillstyle="none")
    figure.legend(labels.values(), labels, fontsize=8, loc="outside right upper")
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
    rho = settings["r"] * unit_mean(s)
    return {name: rn.isotropy(fisher.coefficient(s, s, rho)).condition for name, (fisher, _) in METRICS.items()}


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


# ------------------------------------------------------------- Fig. S.2: alpha of shifted ReLU; (S.156): other samples


def unit_scale(s: rn.Signals) -> float:
    """The least eigenvalue of a unit's kernel diag(delta) h h^T diag(delta) / N, delta being of its mean square."""
    xp, N = array_module(s.f), len(s.f)
    return min(float((d**2).mean() * xp.linalg.eigvalsh(h @ h.T)[0] / N) for h, d in zip(s.h, s.delta, strict=True))


def unit_mean(s: rn.Signals) -> float:
    """The mean eigenvalue of the same, the least of the layers: above 0 for any width."""
    return min(float((d**2).mean() * (h**2).sum() / len(h) ** 2) for h, d in zip(s.h, s.delta, strict=True))


def kos2_parts(settings: dict) -> list[str]:
    return [*_shifts(settings), *_crossings(settings)]


def _shifts(settings: dict) -> dict[str, tuple[float, int]]:
    """Name of the part -> the shift and the width."""
    return {f"s = {s:g}, M = {M}": (s, M) for s in settings["s"] for M in settings["widths"]}


def _crossings(settings: dict) -> dict[str, tuple[int, int]]:
    """Name of the part -> the width and the batch of draws, for (S.156)."""
    return {f"S.156, M = {M}, batch {k}": (M, k) for M in settings["narrow"] for k in range(settings["seeds"])}


def kos2_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    if part in _crossings(settings):
        return _crossed(settings, *_crossings(settings)[part], device)
    return _counted(settings, *_shifts(settings)[part], device)


def _counted(settings: dict, s: float, M: int, device: str) -> dict:
    """alpha_n / M of every seed and sample: the diagonal of Theta_bar, and (S.157) for ||x_n||; the largest off it."""
    measured, formula, off = [], [], 0.0
    for seed in range(settings["seeds"]):
        signals = _signals(settings, M, rn.shifted_relu(s), np.random.default_rng(seed), device)
        rho = settings["r"] * unit_scale(signals)
        Theta_bar = rn.to_device(rn.Unitwise().coefficient(signals, signals, rho), "cpu") / M
        x = rn.to_device(signals.h[0], "cpu")[:, :-1] * (settings["M_0"] / settings["sigma_w^2"]) ** 0.5
        diagonal = Theta_bar.diagonal()
        measured.append(diagonal.tolist())
        formula.append([_alpha(settings, s, norm, M) for norm in np.linalg.norm(x, axis=1).tolist()])
        off = max(off, float(abs(Theta_bar - np.diag(diagonal)).max()))
    return {"measured": measured, "formula": formula, "off-diagonal": off}


def _crossed(settings: dict, M: int, batch: int, device: str) -> dict:
    """Theta_bar(x', x) / alpha of (S.156), N = 1, tanh, for draws of the weights; by rho over a unit's mean kernel."""
    x = np.array([[0.3, 0.91**0.5, 0.0], [1.0, 0.0, 0.0]])  # x' and x
    net = rn.Network(
        (3, *[M] * (settings["L"] - 1), 1), rn.tanh, settings["sigma_w^2"] ** 0.5, settings["sigma_b^2"] ** 0.5
    )
    rng, ratios = np.random.default_rng([batch, M]), {r: [] for r in settings["r_crossed"]}
    for _ in range(settings["draws"]):
        W = rn.to_device(net.init(rng), device)
        test, train = (net.signals(W, rn.to_device(v[None], device)) for v in x)
        scale = unit_scale(train)
        for r, values in ratios.items():
            values.append(float(rn.Unitwise().coefficient(test, train, r * scale)[0, 0]) / rn.Unitwise().alpha(net, 1))
    quartiles = {r: np.percentile(values, [25, 75]).tolist() for r, values in ratios.items()}
    return {"spread": [[r, high - low] for r, (low, high) in quartiles.items()]}


def _alpha(settings: dict, s: float, norm: float, M: int) -> float:
    """alpha / M of (S.157) for ||x|| = norm, and 1 / M for the output unit, which (S.157) leaves out."""
    activation = rn.shifted_relu(s)
    widths = (settings["M_0"], *[M] * (settings["L"] - 1), 1)
    net = rn.Network(widths, activation, settings["sigma_w^2"] ** 0.5, settings["sigma_b^2"] ** 0.5)
    return sum(activation.gamma(q) for q in rn.order_parameters(net, norm)[:-1]) + 1 / M


def _spreads(settings: dict, results: dict[str, dict]) -> dict[float, np.ndarray]:
    """The interquartile ranges of (S.156), (widths, batches), by r."""
    table = {run: dict(map(tuple, results[part]["spread"])) for part, run in _crossings(settings).items()}
    shape = len(settings["narrow"]), settings["seeds"]
    return {r: np.array([of[r] for of in table.values()]).reshape(shape) for r in settings["r_crossed"]}


def kos2_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    M, L, seeds, norm = settings["widths"][-1], settings["L"], settings["seeds"], settings["M_0"] ** 0.5
    means = {s: np.mean(results[f"s = {s:g}, M = {M}"]["measured"]) for s in settings["s"]}
    gaps = {s: abs(mean - np.mean(results[f"s = {s:g}, M = {M}"]["formula"])) for s, mean in means.items()}
    worst, allowed = max(gaps, key=gaps.get), 4 * math.sqrt((L - 1) / (4 * M * seeds))
    rest = max(results[f"s = {s:g}, M = {M}"]["off-diagonal"] / mean for s, mean in means.items())
    at_unit, at_root = (max(abs(mean - _alpha(settings, s, r, M)) for s, mean in means.items()) for r in (1.0, norm))
    return [
        (
            f"alpha / M is (S.157) with q_l for the norm of each sample: the means differ by at most {gaps[worst]:.4f}"
            f" (at s = {worst:g}); allowed {allowed:.4f}, 4 standard deviations of (L-1) M seeds coin flips",
            bool(gaps[worst] < allowed),
        ),
        _scatter_verdict(settings, results),
        (f"Theta_bar is diagonal: the rest is at most {rest:.1e} of alpha, allowed 1e-2", bool(rest < 1e-2)),
        (
            f"one norm for all, ||x|| = sqrt(M_0), does for the mean: off by at most {at_root:.4f}, allowed 0.05; unit "
            f"norm, which Unitwise.alpha presumes, does not hold here: off by {at_unit:.4f}",
            bool(at_root < 0.05 < at_unit),
        ),
        *_crossing_verdicts(settings, results),
    ]


def _scatter_verdict(settings: dict, results: dict[str, dict]) -> tuple[str, bool]:
    """The root mean square over shifts and samples, for each width and seed, against a binomial's."""
    runs, widths = _shifts(settings), settings["widths"]
    off = {run: np.array(results[part]["measured"]) - results[part]["formula"] for part, run in runs.items()}
    deviations = np.array([np.sqrt(np.mean([off[s, M] ** 2 for s in settings["s"]], axis=(0, 2))) for M in widths])
    law = power_law(widths, deviations)
    listed = ", ".join(f"{row.mean():.2g} at M = {M}" for M, row in zip(widths, deviations, strict=True))
    return (
        f"samples deviate from it as counts of live units do, binomial: root mean square {listed}, as M^({law}); "
        f"in theory M^(-1/2), within three errors",
        abs(law.power + 0.5) <= 3 * law.error < 0.25,
    )


def _crossing_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    """A mean of M ratios with Cauchy's tails is as spread as one of them; damped ones have a limit."""
    for r, spreads in _spreads(settings, results).items():
        law = power_law(settings["narrow"], spreads)
        listed = ", ".join(f"{row.mean():.2g}" for row in spreads)
        what = f"rho = {r:g} of a unit's mean kernel" if r else "rho = 0"
        claim = "narrows to a limit, at least as" if r else "has NO wide limit, though the paper writes one: as"
        yield (
            f"(S.156) at {what} {claim} M^({'-1/2' if r else '0'}): the interquartile range of Theta_bar(x', x) / "
            f"alpha over draws of the weights is {listed} at M = {settings['narrow']}, as M^({law})",
            law.power - 2 * law.error <= -0.5 if r else abs(law.power) <= 2 * law.error + 0.05,
        )


def kos2_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 2, figsize=(9.6, 4))
    (axis, crossing), s, M, norm = axes.flat, settings["s"], settings["widths"][-1], settings["M_0"] ** 0.5
    of = [results[f"s = {v:g}, M = {M}"] for v in s]
    fine = np.linspace(min(s), max(s), 101).tolist()
    for n, line, label in ((norm, "--", r"$||x|| = \sqrt{M_0}$"), (1.0, ":", "$||x|| = 1$")):
        axis.plot(fine, [_alpha(settings, v, n, M) for v in fine], color="0.6", ls=line, lw=1, label=label)
    axis.plot(s, [np.mean(r["formula"]) for r in of], color="C0", label="(S.157), mean over samples")
    measured = [np.array(r["measured"]) for r in of]
    style = dict(fmt="o", color="C3", fillstyle="none", capsize=3, label="measured, and deviation over samples")
    axis.errorbar(s, [m.mean() for m in measured], [m.std() for m in measured], **style)
    axis.set(xlabel="s", ylabel=r"$\alpha / M$")
    axis.legend(fontsize=8, loc="lower right")
    for k, (r, spreads) in enumerate(_spreads(settings, results).items()):
        label = rf"$\rho$ = {r:g} of a unit's mean kernel" if r else r"$\rho$ = 0"
        crossing.plot(settings["narrow"], spreads, "o", color=f"C{k}", fillstyle="none")
        crossing.plot(settings["narrow"], spreads.mean(1), color=f"C{k}", label=label)
    crossing.set(xscale="log", yscale="log", xlabel="width M")
    crossing.set_xticks(settings["narrow"], [str(M) for M in settings["narrow"]])
    crossing.xaxis.minorticks_off()
    crossing.set_title(r"(S.156), interquartile range of $\bar\Theta(x', x) / \alpha$", fontsize=9)
    crossing.legend(fontsize=8)
    figure.savefig(path)


TEN, SIZES = list(range(10)), [100, 1000, 10_000]
INFINITE = {"L": 3, "sigma_w^2": 2.0, "initialisations": 10, "seeds": 3, "by definition": 1000}
_TWO = {"data": "mnist-sample", "classes": [3, 8], "N_test": 200}
_SAMPLE = [
    _TWO | {"title": "MNIST, 3 and 8", "N": [10, 20, 40, 80, 160, 200]},
    _TWO | {"title": "MNIST, 3 and 8, 20 components", "components": 20, "N": [40, 80, 160, 200]},
    {"title": "MNIST, ten digits", "data": "mnist-sample", "classes": TEN, "N_test": 1000, "N": [30, 100, 300, 1000]},
]
_MNIST_TWO = {"data": "mnist", "classes": [3, 8], "N_test": 1984}
_WHOLE = [
    {"title": "CIFAR-10, airplane and horse", "data": "cifar10", "classes": [0, 7], "N_test": 2000, "N": SIZES},
    _MNIST_TWO | {"title": "MNIST, 3 and 8", "N": SIZES},
    _MNIST_TWO | {"title": "MNIST, 3 and 8, 100 components", "components": 100, "N": [300, 1000]},
    {"title": "MNIST, ten digits", "data": "mnist", "classes": TEN, "N_test": 10_000, "N": SIZES},
    {"title": "CIFAR-10, ten kinds", "data": "cifar10", "classes": TEN, "N_test": 10_000, "N": SIZES},
]
FINITE = {"L": 3, "sigma_w^2": 2.0, "sigma_b^2": 0.5}
_3 = FINITE | {"M_0": 100, "N": 80, "r": 1e-8}
_S2 = FINITE | {"M_0": 10, "N": 10, "widths": [256, 1024, 4096], "r": 1e-6}
_S2 |= {"narrow": [50, 150, 450], "draws": 100, "r_crossed": [0.0, 1e-2]}
FIGURES = {
    "ko-2": Figure(
        "K&O Fig. 2: test accuracy of networks of infinite width trained without end, over the training samples; mean "
        "and standard deviation over f_0 and draws of the samples, and circles for f_0 = 0",
        {"small": INFINITE | {"panels": _SAMPLE}, "paper": INFINITE | {"data": "published", "panels": _WHOLE}},
        ko2_parts,
        ko2_compute,
        ko2_verdicts,
        ko2_draw,
        ko2_available,
    ),
    "ko-3": Figure(
        "K&O Fig. 3: condition number of Theta_bar over the width, ReLU; geometric mean and deviation over seeds",
        {
            "small": _3 | {"M": [32, 64, 128, 256, 512, 1024], "seeds": 5},
            "paper": _3 | {"M": [32, 64, 128, 256, 512, 1024, 2048, 4096], "seeds": 3},
        },
        ko3_parts,
        ko3_compute,
        ko3_verdicts,
        ko3_draw,
    ),
    "ko-s2": Figure(
        "K&O Fig. S.2: alpha / M of unit-wise NGD over the shift s of max(x, -s), x ~ N(0, I), not normalised; and the "
        "spread of (S.156)",
        {
            "small": _S2 | {"s": [0, 0.5, 1, 1.5, 2, 2.5, 3, 4], "seeds": 5},
            "paper": _S2 | {"s": [k / 4 for k in range(17)], "seeds": 20, "narrow": [150, 450, 1350]},
        },
        kos2_parts,
        kos2_compute,
        kos2_verdicts,
        kos2_draw,
    ),
}
