"""`refngd linear`: the teacher-student experiment of Huh, section 6, its table and Figs. 4 and 5."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..arrays import to_device
from ..deep_linear import Rule, Statistics
from ..experiments import RULES, RULES_RAW, Trajectory, teacher_student_problem, trajectory
from .output import MOST, checked_count, finished, reserved, subplots, write

OPTIONS = {
    "--width": dict(type=int, default=16, metavar="M", help="inputs, outputs, and units of each hidden layer (16)"),
    "-N": dict(type=int, help="training samples (the width)"),
    "--depth": dict(type=int, default=4, metavar="D", help="layers of weights (4)"),
    "--teacher": dict(type=float, nargs="+", default=[4, 3, 2], metavar="S", help="its singular values (4 3 2)"),
    "--noise": dict(type=float, default=0.3, metavar="Z", help="standard deviation of each target's noise (0.3)"),
    "--raw": dict(action="store_true", help="Gaussian inputs as they come, not whitened (Fig. S.I.1)"),
    "--sigma-w": dict(type=float, default=0.2, metavar="S", help="initial weights are N(0, S^2 / M) (0.2)"),
    "--rules": dict(nargs="+", choices=RULES, default=list(RULES), metavar="RULE", help=", ".join(RULES)),
    "--eta": dict(type=float, help="learning rate (0.02; with --raw 0.005 for SGD)"),
    "--rho": dict(type=float, default=1e-5, help="Levenberg-Marquardt damping of NGD and NGD-d (1e-5)"),
    "--clip": dict(type=float, default=10.0, metavar="U", help="largest update of NGD and NGD-d, before eta (10)"),
    "--duration": dict(type=float, default=1.0, metavar="F", help="factor of the number of steps (1)"),
    "--seed": dict(type=int, default=0, help="of the data and the weights (0)"),
    "--device": dict(choices=("cpu", "gpu"), default="cpu", help="cpu (default) or gpu"),
    "--out": dict(type=Path, default=Path("refngd-linear"), metavar="DIR", help="for the results (refngd-linear)"),
}

FILES = ("linear.json", "fig4.png", "fig5.png")


def run(args: argparse.Namespace) -> None:
    """Train by `args.rules`, print the table, write linear.json, fig4.png and fig5.png into `args.out`.

    Ctrl-C keeps the rules that have run.
    """
    for option, value in (("--width", args.width), ("--depth", args.depth), ("-N", args.N or args.width)):
        checked_count(option, value, 1)
    options = (args.seed, args.width, args.depth, args.N, args.teacher, args.noise, not args.raw, args.sigma_w)
    w, data, teacher = teacher_student_problem(*options)
    chosen = list(dict.fromkeys(args.rules))
    settings = {name: setting(name, args.raw, args.eta, args.duration, args.rho, args.clip) for name in chosen}
    *w, teacher, w_star = to_device([*w, teacher, data.w_star], args.device)
    on_device = Statistics(w_star, data.S if data.S is None else to_device(data.S, args.device), data.const)
    with reserved(args.out, [args.out / name for name in FILES]) as staging:
        print(
            f"{'raw' if args.raw else 'white'} inputs, width {args.width}, N = {args.N or args.width}, depth "
            f"{args.depth}; teacher of rank {len(args.teacher)}, noise {args.noise:g}: no test loss is below "
            f"{args.width * args.noise**2 / 2:.4g}\n",
            flush=True,
        )
        results, interrupt = finished(chosen, lambda name: trajectory(w, on_device, teacher, *settings[name]))
        etas = {name: settings[name][1] for name in results}
        pictures = {
            "fig4.png": partial(draw_map, data.w_star, len(args.teacher), etas, results),
            "fig5.png": partial(draw_weights, etas, results) if args.depth >= 3 else None,  # there is a w_3
        }
        try:
            print("\n".join(table(settings, results)), flush=True)
        finally:
            written = write(args, staging, results, {"w_star": data.w_star, "etas": etas}, pictures)
        print("excess: test loss beyond the teacher's own, ||w_bar - teacher||^2 / 2; least where early stopping would")
        print("end, at step t and time t eta")
        print(f"written to {args.out}: {written}", flush=True)
    if interrupt:
        raise interrupt


def setting(
    name: str, raw: bool = False, eta: float | None = None, duration: float = 1.0, rho: float = 1e-5, clip: float = 10.0
) -> tuple[Rule, float, int]:
    """The rule, its eta and its number of steps. Raises ValueError for bad arguments."""
    rule, rate, steps = (RULES_RAW if raw else RULES)[name]
    if not 0 <= duration * steps <= MOST:
        raise ValueError(f"--duration is {duration}; expected a number >= 0, and {steps} times it <= 10^9 steps")
    rule = replace(rule, rho=rho, clip=clip) if rule.rho else rule
    return rule, rate if eta is None else eta, round(duration * steps)


def table(settings: dict[str, tuple], results: dict[str, Trajectory]) -> Iterator[str]:
    """A line a rule: early stopping, the end, the norm of c_2, which full rules conserve, Huh (15); of c_1 if d = 2."""
    row = "{:11} {:>6} {:>6} | {:>10} | {:>10} {:>6} {:>7} {:>10} | {:>9} {:>10}".format
    i = min(2, len(next(iter(results.values())).conserved[0]))  # 0: a single layer has none
    yield row("", "", "", "train loss", "excess test loss", "", "", "", f"||c_{i}||" if i else "", "").rstrip()
    yield row("rule", "eta", "steps", "at the end", "least", "at t", "time", "at the end", "at t = 0", "at the end")
    for name, r in results.items():
        eta, c = settings[name][1], [f"{r.conserved[k][i - 1]:.4g}" if i else "-" for k in (0, -1)]
        ends = (f"{r.loss[-1]:.3e}", f"{r.best_excess:.4g}", r.best, f"{r.best * eta:.4g}", f"{r.excess[-1]:.4g}")
        yield row(name, f"{eta:g}", r.t[-1], *ends, *c) + (f" stopped: {r.stopped}" if r.stopped else "")


def draw_map(w_star: np.ndarray, signal: int, etas: dict[str, float], results: dict[str, Trajectory], path: Path):
    """Huh Fig. 4: singular values of w_star; training loss, excess test loss and modes of w_bar by rule, over time."""
    s = np.linalg.svd(w_star, compute_uv=False)
    figure, axes = subplots(3, len(results) + 1, figsize=(2.3 * len(results) + 2.3, 6.4), sharey="row")
    _draw_singular_values(axes[:, 0], s, signal)
    for column, (name, r) in zip(axes[:, 1:].T, results.items(), strict=True):
        times, modes = np.array(r.t) * etas[name], np.clip(r.modes, -2 * s[0], 2 * s[0])
        for axis, values in ((column[0], r.loss), (column[1], r.excess)):
            axis.plot(times, np.minimum(values, 100 * values[0]), color="C0")  # more than that is divergence
        column[2].plot(times, modes[:, signal:], color="0.6", linewidth=0.8)
        column[2].plot(times, modes[:, :signal], color="C3")
        column[2].hlines(s[:signal], 0, times[-1], color="0.3", linestyle=":", linewidth=0.8)
        column[0].set_title(name, fontsize=9)
        _over_time(column, name, times)
        for axis in column:
            axis.axvline(r.best * etas[name], color="0.4", linestyle="--", linewidth=0.8)
    for axis, label in zip(axes[:2, 1], ("training loss", "excess test loss"), strict=True):
        axis.set(yscale="log", ylabel=label)
        axis.tick_params(labelleft=True, which="both")
    figure.savefig(path)


def _draw_singular_values(column: np.ndarray, s: np.ndarray, signal: int) -> None:
    for axis in column[:2]:
        axis.set_axis_off()
    column[2].plot(range(1, signal + 1), s[:signal], "o", color="C3", markersize=4, label="signal")
    column[2].plot(range(signal + 1, len(s) + 1), s[signal:], "o", color="0.6", markersize=4, label="noise")
    column[2].set(xlabel="index", ylabel="modes of the map")
    column[2].set_title("wanted: singular values", fontsize=9)
    column[2].legend(fontsize=8)


def draw_weights(etas: dict[str, float], results: dict[str, Trajectory], path: Path) -> None:
    """Huh Fig. 5: entries of w_2, w_3 and c_2 by rule, over time."""
    labels = {"w_2": "$w_2$", "w_3": "$w_3$", "c_2": "$c_2 = w_2 w_2^T - w_3^T w_3$"}
    figure, axes = subplots(3, len(results), figsize=(2.3 * len(results) + 0.6, 6.4), sharey="row")
    for column, (name, r) in zip(axes.T, results.items(), strict=True):
        for axis, entries in zip(column, (r.entries[key] for key in labels), strict=True):
            axis.plot(np.array(r.t) * etas[name], np.clip(entries, -1e3, 1e3), linewidth=0.8)
        column[0].set_title(name, fontsize=9)
        _over_time(column, name, np.array(r.t) * etas[name])
    for axis, label in zip(axes[:, 0], labels.values(), strict=True):
        axis.set_ylabel(label)
    figure.savefig(path)


def _over_time(column: np.ndarray, name: str, times: np.ndarray) -> None:
    column[-1].set_xlabel("time")
    if name == "SGD" and len(times) > 2:
        for axis in column:
            axis.set(xscale="log", xlim=(times[-1] / 1000, times[-1]))  # a plateau, before
