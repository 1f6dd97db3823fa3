"""Huh's figures of singular modes: Fig. 1 and 3, the layers of depth d = 2; Fig. 2, their product in time."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import modes
from refngd.cli.output import subplots

from .figure import Figure

RULES = {  # q, block-diagonal
    "SGD": (math.inf, False),
    "sqrt-NGD": (2, False),
    "NGD": (1, False),
    "NGD-d": (1, True),
    "sqrt-NGD-d": (2, True),
}
NAMES = {"sqrt-NGD": r"$\sqrt{\mathrm{NGD}}$", "sqrt-NGD-d": r"$\sqrt{\mathrm{NGD}}$-d"}
FIG1 = ["SGD", "sqrt-NGD", "NGD"]
FIG3 = ["NGD-d", "sqrt-NGD-d"]
HALF_MAX = {"0": 0.6931471806, "0.5": 1.7627471740, "1": 4.5951198501, "2": 102.5951198501}  # times s_star^p


# -------------------------------------------------------------------------------- Fig. 1 and 3: two layers, s_1 and s_2


def planes_parts(settings: dict) -> list[str]:
    return settings["rules"]


def planes_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """Integrated paths (starts, times, 2) and the velocities there, and at the grid; Delta = s_1 s_2 - s_star."""
    velocity = _velocity(part, settings["s_star"], device)
    times = np.linspace(0, settings["t"], settings["times"])
    paths = [_integrate(velocity, start, times) for start in settings["starts"]]
    numbers = {"path": paths, "velocity": [velocity(path.T).T for path in paths]}
    numbers["field"] = velocity(np.moveaxis(_grid(settings), -1, 0).copy())
    if "saddle" in settings:
        end = math.log1p(settings["saddle"] ** 2 / settings["s_star"])  # s_Delta = -s_star, under NGD
        start = [-settings["saddle"], settings["saddle"]]
        numbers["into the saddle"] = velocity(_integrate(velocity, start, np.array([0, 0.5, 1 - 1e-6]) * end).T).T
    return {name: np.asarray(value).tolist() for name, value in numbers.items()}


def _velocity(rule: str, s_star: float, device: str) -> Callable[[np.ndarray], np.ndarray]:
    q, block = RULES[rule]
    return lambda s: rn.to_device(modes.velocity(rn.to_device(s, device), s_star, q, block), "cpu")


def _integrate(velocity: Callable, start: list[float], times: np.ndarray) -> np.ndarray:
    """s (times, d), each step to 1e-12."""
    from scipy.integrate import solve_ivp

    method = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-14}
    solution = solve_ivp(lambda _, s: velocity(s), (0, times[-1]), np.array(start), t_eval=times, **method)
    if not solution.success:
        raise FloatingPointError(f"no path from {start}: {solution.message}")
    return solution.y.T


def _grid(settings: dict) -> np.ndarray:
    """Points (n, n, 2)."""
    x = np.linspace(-1, 1, settings["grid"]) * settings["extent"]
    return np.stack(np.meshgrid(x, x), axis=-1)


class Paths:
    """What the claims are about, of the paths of one rule: arrays (starts, times)."""

    def __init__(self, settings: dict, numbers: dict) -> None:
        self.s, self.v = np.array(numbers["path"]), np.array(numbers["velocity"])
        self.Delta = self.s.prod(-1) - settings["s_star"]
        self.j = self.s[..., ::-1]
        self.speed, self.norm = (np.linalg.norm(x, axis=-1) for x in (self.v, self.j))
        moving = abs(self.Delta) > 1e-6  # below it velocities are rounding
        self.relative_speed = np.where(moving, self.speed, np.nan) / abs(self.Delta)
        null = self.s * [1, -1]
        self.cosine = abs((self.v * null).sum(-1)) / (self.speed * np.linalg.norm(null, axis=-1) + 1e-300) * moving

    def drift(self, conserved: Callable) -> float:
        c = conserved(self.s[..., 0], self.s[..., 1])
        return float(abs(c - c[:, :1]).max())


def _squares(a, b):
    return a**2 - b**2


def huh1_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    paths = {rule: Paths(settings, results[rule]) for rule in FIG1}
    drift = max(p.drift(_squares) for p in paths.values())
    yield f"all rules conserve s_1^2 - s_2^2: to {drift:.1e} along every path (limit 1e-10)", drift < 1e-10
    cosine = max(float(p.cosine.max()) for p in paths.values())
    yield (
        f"all move orthogonally to the null space, the contour lines: the cosine is {cosine:.1e} at most (limit 1e-9)",
        cosine < 1e-9,
    )
    for rule, power in (("SGD", "||j||"), ("sqrt-NGD", "1"), ("NGD", "1 / ||j||")):
        p, expected = paths[rule], 1 - 2 / RULES[rule][0]
        error = float(np.nanmax(abs(p.relative_speed / p.norm**expected - 1)))
        low, high = float(np.nanmin(p.relative_speed)), float(np.nanmax(p.relative_speed))
        yield (
            f"{rule}: the speed over |s_Delta| is {power}: off by {error:.1e} (limit 1e-9), {low:.3g} to {high:.3g} "
            f"for ||j|| from {p.norm.min():.3g} to {p.norm.max():.3g}",
            error < 1e-9,
        )
    ends = np.array([p.s[:, -1] for p in paths.values()])
    apart = float(np.linalg.norm(ends - ends[0], axis=-1).max())
    yield f"only the timing differs: all rules end at the same points, {apart:.1e} apart (limit 1e-6)", apart < 1e-6
    speeds = np.linalg.norm(results["NGD"]["into the saddle"], axis=-1)
    yield (
        f"NGD is not always exponential: from ({-settings['saddle']}, {settings['saddle']}), where s_bar has the wrong "
        f"sign, it runs into the saddle, with speeds {speeds[0]:.3g}, {speeds[1]:.3g}, {speeds[2]:.3g} at 0, 1/2 and "
        "1 - 1e-6 of the way (needed: a hundredfold growth)",
        bool(speeds[2] > 100 * speeds[0]),
    )


def huh3_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    paths = {rule: Paths(settings, numbers) for rule, numbers in results.items()}
    ngd, block, root = paths["NGD"], paths["NGD-d"], paths["sqrt-NGD-d"]
    apart = float(abs(block.Delta - ngd.Delta).max())
    times = np.linspace(0, settings["t"], settings["times"])
    theory = max(float(abs(p.Delta - p.Delta[:, :1] * np.exp(-times)).max()) for p in (ngd, block))
    yield (
        f"NGD-d crosses the contour lines at NGD's rate: s_Delta differs by {apart:.1e}, both from that of "
        f"s_Delta(0) e^(-eta t) by {theory:.1e} at most (limit 1e-8)",
        max(apart, theory) < 1e-8,
    )
    drift, other = block.drift(np.divide), block.drift(_squares)
    yield (
        f"NGD-d conserves s_1 / s_2: to {drift:.1e} (limit 1e-9), and not s_1^2 - s_2^2: that moves by {other:.2g} "
        "(needed 0.1)",
        drift < 1e-9 and other > 0.1,
    )
    cosines = {rule: float(paths[rule].cosine.max()) for rule in ("NGD", *FIG3)}
    yield (
        "block rules are not orthogonal to the contour lines: cosine up to "
        + ", ".join(f"{value:.2g} ({rule})" for rule, value in cosines.items()),
        cosines["NGD"] < 1e-9 and min(cosines[rule] for rule in FIG3) > 0.5,
    )
    yield _never_slower(results)
    drift, slip = root.drift(lambda a, b: abs(a) - abs(b)), float(np.nanmax(abs(root.relative_speed - 1)))
    yield (
        f"sqrt-NGD-d conserves |s_1| - |s_2|: to {drift:.1e}, with speed |s_Delta|: to {slip:.1e} (limits 1e-10, 1e-9)",
        drift < 1e-10 and slip < 1e-9,
    )
    yield from _ends(settings, paths)


def _never_slower(results: dict[str, dict]) -> tuple[str, bool]:
    block, full = (np.linalg.norm(results[rule]["field"], axis=0) for rule in ("NGD-d", "NGD"))
    ratio = block[full > 0] / full[full > 0]
    return (
        f"NGD-d is never slower than NGD: on the grid the speeds have ratios from {ratio.min():.12f} (limit 1 - 1e-12) "
        f"to {ratio.max():.3g}",
        bool(ratio.min() > 1 - 1e-12 and ratio.max() > 1.1),
    )


def _ends(settings: dict, paths: dict[str, Paths]) -> Iterator[tuple[str, bool]]:
    """Of starts 0 and 1, small and close to each other."""
    norm = {rule: float(np.linalg.norm(p.s[0, -1])) for rule, p in paths.items()}
    yield (
        f"from {settings['starts'][0]} NGD-d ends at a larger norm: {norm['NGD-d']:.3f}, against "
        + ", ".join(f"{norm[rule]:.3f} ({rule})" for rule in ("NGD", "sqrt-NGD-d")),
        norm["NGD-d"] > 1.3 * max(norm["NGD"], norm["sqrt-NGD-d"]),
    )
    apart = {rule: float(np.linalg.norm(p.s[0, -1] - p.s[1, -1])) for rule, p in paths.items()}
    yield (
        f"NGD-d is sensitive to the start: from {settings['starts'][0]} and {settings['starts'][1]} it ends "
        f"{apart['NGD-d']:.3f} apart, " + ", ".join(f"{rule} {apart[rule]:.3f}" for rule in ("NGD", "sqrt-NGD-d")),
        apart["NGD-d"] > 10 * max(apart["NGD"], apart["sqrt-NGD-d"]),
    )


def planes_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list((huh1_verdicts if "saddle" in settings else huh3_verdicts)(settings, results))


def planes_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    rules = settings["panels"]
    figure, axes = subplots(1, len(rules), figsize=(3.6 * len(rules) + 0.3, 3.8), sharex=True, sharey=True)
    times, d = np.linspace(0, settings["t"], settings["times"]), settings["extent"]
    dots = np.searchsorted(times, settings["dots"])
    for axis, rule in zip(axes.flat, rules, strict=True):
        _plane(axis, settings, np.array(results[rule]["field"]))
        for s in np.array(results[rule]["path"]):
            axis.plot(*s.T, "r-", linewidth=1.6)
            axis.plot(*s[0], "ro", markersize=3)
            axis.plot(*s[dots].T, "ro", markersize=3.5)
        if rule in FIG3:
            other = rule.removesuffix("-d")
            for k, s in enumerate(np.array(results[other]["path"])):
                label = f"{NAMES.get(other, other)}, at equal times" if k == 0 else None
                axis.plot(*s.T, "-", color="tab:blue", linewidth=0.9)
                axis.plot(*s[dots].T, "o", color="tab:blue", fillstyle="none", markersize=5, label=label)
            axis.legend(fontsize=8, loc="lower right")
        axis.set(title=NAMES.get(rule, rule), xlabel=r"$\sigma_1$", xlim=(-d, d), ylim=(-d, d), aspect="equal")
    axes.flat[0].set_ylabel(r"$\sigma_2$")
    figure.savefig(path)


def _plane(axis, settings: dict, field: np.ndarray) -> None:
    """Contours of s_Delta, s_Delta = 0 in black, and the field over |s_Delta| (clipped where it explodes)."""
    fine = np.linspace(-1, 1, 201) * settings["extent"]
    a, b = np.meshgrid(fine, fine)
    axis.contour(
        a, b, a * b - settings["s_star"], np.arange(-6, 7) * 0.75, colors="0.75", linewidths=0.6, linestyles="-"
    )
    axis.contour(a, b, a * b - settings["s_star"], [0], colors="black", linewidths=1.8)
    x, y = np.moveaxis(_grid(settings), -1, 0)
    u = field / abs(x * y - settings["s_star"])
    u = u * np.minimum(1, 2.5 / (np.linalg.norm(u, axis=0) + 1e-300))
    axis.quiver(x, y, *u, color="0.45", angles="xy", scale_units="xy", scale=7, width=0.004)


# ---------------------------------------------------------------------------------------------- Fig. 2: the map in time


def huh2_parts(settings: dict) -> list[str]:
    return list(settings["p"])


def huh2_compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """Curves by the closed form; half-max times by integrating (17), from the same ratio to s_star and from one s0."""
    p, s_star = float(part), np.array(settings["s_star"])
    ratio = settings["ratio"] if p >= 1 else 0.0
    t = np.linspace(0, settings["p"][part], settings["times"])
    s0 = settings["ratio"] * s_star[0]
    small = np.array(settings["small"])
    early = np.array([1e-4, 1e-3]) * settings["p"][part]
    numbers = {
        "t": t,
        "curve": modes.solution(t, s_star[:, None], ratio * s_star[:, None], p),
        "half": [_half_max(p, s, max(ratio * s, settings["seed"])) for s in s_star],
        "half from one s0": [_half_max(p, s, s0) for s in s_star],
        "escape": [_half_max(p, 1.0, s) for s in small],
        "early": modes.solution(early, 1.0, 0.0, p),
        "early times": early,
    }
    return {name: np.asarray(value).tolist() for name, value in numbers.items()}


def _half_max(p: float, s_star: float, s0: float) -> float:
    """Where s_bar = s_star / 2, by integrating the time over ln s_bar, in which it is smooth: dt / d ln s = s / s'."""
    from scipy.integrate import solve_ivp

    def slope(u, _):
        s = math.exp(u)
        return [s / float(modes.map_velocity(s, s_star, p))]

    span = (math.log(s0), math.log(s_star / 2))
    return float(solve_ivp(slope, span, [0.0], "DOP853", rtol=1e-12, atol=1e-14).y[0, -1])


def huh2_verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list(_huh2_verdicts(settings, results))


def _huh2_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    s_star = np.array(settings["s_star"])
    for name, r in results.items():
        p, times = float(name), np.array(r["half"])
        error = float(abs(times * s_star**p / HALF_MAX[name] - 1).max())
        crossings = [_crossing(r["t"], curve, s / 2) for curve, s in zip(r["curve"], s_star, strict=True)]
        miss = float(abs(np.array(crossings) / times - 1).max())
        yield (
            f"p = {name}: s_bar is half of s_star at {HALF_MAX[name]:.10f} / s_star^{name}: off by {error:.1e} by "
            f"integration (limit 1e-9), by {miss:.1e} on the curve drawn (limit 1e-3)",
            error < 1e-9 and miss < 1e-3,
        )
    powers = {name: _power(s_star, r["half from one s0"]) for name, r in results.items()}
    listed = ", ".join(f"{value:.2f} at p = {name}" for name, value in powers.items())
    yield (
        f"the scale s_star^-p holds at a fixed s0 / s_star only: from s0 = {settings['ratio'] * s_star[0]:g} for all, "
        f"the times to half fall with the power {listed} (needed: 0.1 off p for p >= 1)",
        all(abs(value - float(name)) > 0.1 for name, value in powers.items() if float(name) >= 1),
    )
    yield from _saddle_verdicts(settings, results)


def _saddle_verdicts(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    for name, exponent in (("0", 1), ("0.5", 2)):
        measured = _power(results[name]["early times"], 1 / np.array(results[name]["early"]))
        yield (
            f"p = {name}: from zero s_bar grows at once, as t^{exponent}: measured {measured:.4f} (limit 0.002)",
            abs(measured - exponent) < 0.002,
        )
    small = np.array(settings["small"])
    escape = np.array(results["1"]["escape"])
    slope = float((escape[-1] - escape[0]) / math.log(small[0] / small[-1]))
    yield (
        f"p = 1: the escape time diverges as -ln s0: by {slope:.6f} a unit of -ln s0 (expected 1, limit 0.01)",
        abs(slope - 1) < 0.01,
    )
    measured = _power(small[-2:], results["2"]["escape"][-2:])
    yield (
        f"p = 2: the escape time diverges as 1 / s0^(p-1): the power is {measured:.4f} (expected 1, limit 0.02)",
        abs(measured - 1) < 0.02,
    )
    share = {name: _early_share(settings, r) for name, r in results.items()}
    yield (
        "long plateaus and rapid transitions for p >= 1: half-way to the first half-max the loss has fallen by "
        + ", ".join(f"{value:.2%} (p = {name})" for name, value in share.items())
        + " (limit 15 % for p >= 1, at least 40 % for p = 0)",
        max(share["1"], share["2"]) < 0.15 and share["0"] > 0.4,
    )


def _power(x, times) -> float:
    """-d ln time / d ln x between the first and the last."""
    return float(math.log(times[0] / times[-1]) / math.log(x[-1] / x[0]))


def _crossing(t, curve, level: float) -> float:
    """Where an increasing curve, interpolated, has the level."""
    return float(np.interp(level, curve, t))


def _loss(settings: dict, r: dict) -> np.ndarray:
    return ((np.array(r["curve"]) - np.array(settings["s_star"])[:, None]) ** 2).sum(0) / 2


def _early_share(settings: dict, r: dict) -> float:
    loss = _loss(settings, r)
    return float(1 - np.interp(min(r["half"]) / 2, r["t"], loss) / loss[0])


def huh2_draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    rows = {"sharex": "col", "sharey": "row", "height_ratios": [3, 2]}
    figure, axes = subplots(2, len(results), figsize=(2.9 * len(results), 4.6), **rows)
    for (top, bottom), (name, r) in zip(axes.T, results.items(), strict=True):
        for k, (s_star, curve, half) in enumerate(zip(settings["s_star"], r["curve"], r["half"], strict=True)):
            top.axhline(s_star, color=f"C{k}", linestyle="--", linewidth=0.8)
            top.plot(r["t"], curve, color=f"C{k}")
            top.plot(half, s_star / 2, "ko", markersize=4)
        bottom.plot(r["t"], _loss(settings, r), "k-")
        top.set(title=f"p = {name}", xlim=(0, r["t"][-1]))
        bottom.set(xlabel=r"$\bar\eta t$", ylim=(0, None))
    axes[0, 0].set_ylabel(r"map strength $\bar\sigma$")
    axes[1, 0].set_ylabel("loss")
    figure.savefig(path)


PLANE = {"s_star": 1.0, "t": 20.0, "times": 401, "grid": 16, "extent": 2.2, "dots": [0.25, 0.5, 1, 2]}
HUH1 = PLANE | {
    "rules": FIG1,
    "panels": FIG1,
    "starts": [[0.02, 0.01], [0.9, 0.05], [0.1, 1.4], [-0.5, -0.1], [-1.6, 0.8], [1.9, 1.6], [-1.5, -2.1]],
    "saddle": 0.5,
}
HUH3 = PLANE | {
    "rules": ["NGD", "sqrt-NGD", *FIG3],
    "panels": FIG3,
    "starts": [[0.02, 0.005], [0.02, 0.01], [0.3, 1.2], [-0.9, -0.25], [1.9, 1.4], [-1.5, -2.1]],
}
HUH2 = {
    "s_star": [1.0, 2.0, 3.0, 4.0],
    "ratio": 0.01,
    "seed": 1e-24,  # instead of 0, where the flow would stay
    "small": [1e-2, 1e-4, 1e-6],
    "times": 2001,
    "p": {"0": 4.0, "0.5": 6.0, "1": 8.0, "2": 130.0},  # and the time drawn
}
FIGURES = {
    "huh-1": Figure(
        "Huh Fig. 1: two layers under SGD, sqrt-NGD and NGD: the field over |s_Delta|, integrated paths",
        {"small": HUH1, "paper": HUH1},
        planes_parts,
        planes_compute,
        planes_verdicts,
        planes_draw,
    ),
    "huh-2": Figure(
        "Huh Fig. 2: learning curves of the map for the exponents p, points of half-max, and the loss below",
        {"small": HUH2, "paper": HUH2},
        huh2_parts,
        huh2_compute,
        huh2_verdicts,
        huh2_draw,
    ),
    "huh-3": Figure(
        "Huh Fig. 3: two layers under block-diagonal NGD-d and sqrt-NGD-d, against NGD and sqrt-NGD",
        {"small": HUH3, "paper": HUH3},
        planes_parts,
        planes_compute,
        planes_verdicts,
        planes_draw,
    ),
}
