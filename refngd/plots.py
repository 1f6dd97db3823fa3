"""The pictures of `refngd run`; needs matplotlib (pip install 'refngd[plot]')."""

import math
from itertools import cycle
from pathlib import Path

from .experiment import Comparison


def draw_loss(results: dict[str, Comparison], path: Path) -> None:
    """Training loss over steps, a panel an approximation: circles measured, line theory, as K&O Fig. 1; GD in grey."""
    columns = min(4, len(results))
    rows = math.ceil(len(results) / columns)
    figure, axes = _subplots(rows, columns, sharex=True, sharey=True, figsize=(2.6 * columns, 2.3 * rows + 0.5))
    top = max(r.loss[0] for r in results.values())
    gd = results.get("Identity")
    for axis, (name, r) in zip(axes.flat, results.items(), strict=False):
        if gd and r is not gd:
            axis.plot(_clipped(gd.loss, top), "o", color="0.75", fillstyle="none", markersize=4)
            axis.plot(_clipped(gd.theory_loss, top), color="0.75")
        axis.plot(_clipped(r.theory_loss, top), color="C0", label="theory")
        axis.plot(_clipped(r.loss, top), "o", color="C3", fillstyle="none", label="measured")
        axis.set_title(f"{name}, $\\eta$ = {r.eta:.3g}" + (" (diverged)" if r.diverged else ""), fontsize=9)
    for axis in axes.flat[len(results) :]:
        axis.set_axis_off()
    axes.flat[0].set(yscale="log", ylim=(top * 1e-15, top * 1e2))
    axes.flat[0].xaxis.get_major_locator().set_params(integer=True)
    axes.flat[0].legend(fontsize=8, loc="lower left")
    figure.supxlabel("step")
    figure.supylabel("training loss")
    figure.savefig(path)


def draw_spectra(results: dict[str, Comparison], path: Path) -> None:
    """Eigenvalues of Theta_bar over the largest: a flat line is the isotropic condition K&O (12)."""
    figure, axes = _subplots(1, 1, figsize=(6.4, 4))
    for marker, (name, r) in zip(cycle("osv^<>Dpx+"), results.items(), strict=False):
        w = [v / r.spectrum[-1] if v > 0 else math.nan for v in reversed(r.spectrum)]
        axes.flat[0].plot(range(1, len(w) + 1), w, marker + "-", markersize=4, fillstyle="none", label=name)
    axes.flat[0].set(yscale="log", xlabel="index", ylabel=r"eigenvalue of $\bar\Theta$ / the largest")
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path)


def _clipped(losses: list[float], top: float) -> list[float]:
    """Losses near overflow, which a logarithmic axis cannot take, stay just above the panel."""
    return [min(loss, top * 1e4) for loss in losses]


def _subplots(rows: int, columns: int, **options):
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    figure = Figure(layout="constrained", dpi=120, figsize=options.pop("figsize"))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
