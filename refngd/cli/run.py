"""`refngd run`: train a network by every approximation and print theory beside it."""

import argparse
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from .. import activations, datasets, fisher
from ..arrays import to_device
from ..checks import checked_damping, checked_frozen, checked_whole
from ..experiments import Comparison, compare
from ..losses import MSE, CrossEntropy
from ..network import Network
from ..preprocess import forster, unit_norm
from .output import checked_count, finished, reserved, subplots, write

FISHERS: dict[str, Callable[[], fisher.Fisher]] = {
    "Identity": fisher.Identity,
    "Exact": fisher.Exact,
    "BlockDiagonal": fisher.BlockDiagonal,
    "BlockTridiagonal": fisher.BlockTridiagonal,
    "KFAC": fisher.KFAC,
    "Unitwise": fisher.Unitwise,
    "Entrywise": fisher.Entrywise,
    "QuasiDiagonal": fisher.QuasiDiagonal,
    "KFAC-gram": lambda: fisher.KFAC(last="gram"),
    "KFAC-separate": lambda: fisher.KFAC(bias="separate"),
}
PUBLISHED = {"mnist": (datasets.mnist, [0, 7]), "cifar10": (datasets.cifar10, [0, 1])}  # and their default classes
TWO_PARTS = ("mnist-sample", *PUBLISHED)  # data with a part to train on and one to test on
N_HELP = (
    "training samples (100); to test: up to 1000 of the test part of mnist-sample, mnist and cifar10, else the rest"
)
UNITWISE_RHO = 1e-10  # at rho = 0 the unit-wise step is heavy-tailed, as 1 / delta


def _frozen(text: str) -> int | list[int | str]:
    """An integer, or a list of what stands between commas; a comma at the end makes a list of one."""
    items = [int(item) if item.isdecimal() else item for item in text.removesuffix(",").split(",")]
    return items[0] if isinstance(items[0], int) and "," not in text else items


OPTIONS = {
    "--data": dict(
        default="mnist-sample",
        metavar="NAME",
        help="mnist-sample (default), digits, mnist, cifar10, gaussian, or a .npz with x and labels",
    ),
    "--data-dir": dict(type=Path, metavar="DIR", help="with the files of mnist or cifar10 (default: fetch them)"),
    "--classes": dict(
        type=int,
        nargs="+",
        metavar="K",
        help="defaults: mnist-sample, digits and mnist 0 7; cifar10 and gaussian 0 1; a file: all",
    ),
    "--inputs": dict(type=int, metavar="M_0", help="dimension of the gaussian data (784)"),
    "-N": dict(type=int, default=100, help=N_HELP),
    "--depth": dict(type=int, default=3, metavar="L", help="layers of weights (3)"),
    "--width": dict(type=int, default=512, metavar="M", help="units of each hidden layer (512)"),
    "--activation": dict(default="relu", metavar="PHI", help="relu (default), tanh, erf, linear, shifted_relu:S"),
    "--sigma-w": dict(type=float, default=2**0.5, metavar="S", help="K&O's sigma_w, not squared (1.41421..)"),
    "--sigma-b": dict(type=float, default=0.0, metavar="S", help="K&O's sigma_b, not squared (0: no biases)"),
    "--parameterization": dict(choices=("ntk", "standard"), default="ntk", help="ntk (default) or standard"),
    "--fisher": dict(nargs="+", choices=FISHERS, default=list(FISHERS)[:8], metavar="G", help=", ".join(FISHERS)),
    "--loss": dict(choices=("mse", "cross-entropy"), default="mse", help="mse (default) or cross-entropy"),
    "--loss-rho": dict(
        type=float, default=1e-3, metavar="RHO", help="damping of the cross-entropy's output Hessian (0.001)"
    ),
    "--frozen": dict(
        type=_frozen,
        default=0,
        metavar="K",
        help="what is not trained: the first K layers (0), or layers and the bias of the last: 1,3 or 2,output-bias",
    ),
    "--forster": dict(action="store_true", help="Forster transform of the inputs, for K-FAC with N > M_0"),
    "--rho": dict(type=float, help=f"damping (0, but {UNITWISE_RHO:g} for Unitwise)"),
    "-q": dict(type=float, default=1.0, help="power (1): the step is G^{-1/q} grad L, so inf is gradient descent"),
    "--factor": dict(type=float, default=1.0, metavar="F", help="learning rate in units of the optimal one (1)"),
    "--steps": dict(type=int, default=5, metavar="T", help="updates (5)"),
    "--seed": dict(type=int, default=0, help="of the data and the weights (0)"),
    "--dtype": dict(choices=("float32", "float64"), default="float64", help="float64 (default) or float32"),
    "--device": dict(choices=("cpu", "gpu"), default="cpu", help="cpu (default) or gpu"),
    "--out": dict(type=Path, default=Path("refngd-run"), metavar="DIR", help="for run.json, pictures (refngd-run)"),
}

FILES = ("run.json", "loss.png", "spectra.png")


def run(args: argparse.Namespace) -> None:
    """`refngd run`: compare `args.fisher`, print the table, write run.json and the pictures into `args.out`.

    Ctrl-C keeps the approximations that have run.
    """
    net, W, data = _problem(args)
    names, notes = _defined(args, net)
    loss = MSE() if args.loss == "mse" else CrossEntropy(args.loss_rho)

    def compared(name: str) -> Comparison | None:
        settings = (args.steps, args.factor, _rho(args, name), args.q, loss, args.frozen)
        try:
            return compare(net, W, data, FISHERS[name](), *settings)
        except (ValueError, ArithmeticError) as error:
            notes.append(f"{name} left out: {error}")

    with reserved(args.out, [args.out / name for name in FILES]) as staging:
        print(f"{args.data}: {_in_words(net, data)}\n", flush=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results, interrupt = finished(names, compared)
        if not results:
            raise ValueError("; ".join(notes))
        notes += [f"warning: {message}" for message in dict.fromkeys(str(w.message) for w in caught)]
        args.q = str(args.q)  # JSON has no inf
        pictures = {"loss.png": partial(draw_loss, results), "spectra.png": partial(draw_spectra, results)}
        try:
            print("\n".join([*table(results, args.steps), "", *notes]), flush=True)
        finally:  # the table is first, since disks are full more often than screens; the files come all the same
            written = write(args, staging, results, {"widths": net.widths, "notes": notes}, pictures)
        print("theory is that of the network linearised at t = 0; a loss of 1e-28 or so is zero up to rounding")
        print(f"written to {args.out}: {written}", flush=True)
    if interrupt:
        raise interrupt


def _in_words(net: Network, data: datasets.Data) -> str:
    return (
        f"N = {len(data.x)} to train, {len(data.x_test)} to test; widths {net.widths}, {net.activation}, "
        f"sigma_w^2 = {net.sigma_w**2:.4g}, sigma_b^2 = {net.sigma_b**2:.4g}, {net.parameterization}"
    )


def table(results: dict[str, Comparison], steps: int) -> Iterator[str]:
    """The lines of the table: each approximation's constants, then one line a step."""
    row = "{:16} {:>9} {:>9} {:>7} {:>15} {:>3} {:>11} | {:8} {:>10} | {:>6}".format
    head = ["approximation", "rho", "eta", "alpha", "cond(Theta_bar)"]
    yield row(*head, "t", "train loss", "theory", "test acc.", "theory")
    for name, r in results.items():
        alpha = "-" if r.alpha is None else f"{r.alpha:.6g}"
        head = [name, f"{r.rho:.3g}", f"{r.eta:.3g}", alpha, f"{r.isotropy.condition:.5g}"]
        for t in range(steps + 1):
            losses = (f"{v[t]:.2e}" if t < len(v) else "stopped" for v in (r.loss, r.theory_loss))
            accuracies = (f"{v[t]:.3f}" if t < len(v) else "-" for v in (r.accuracy, r.theory_accuracy))
            yield row(*head, t, *losses, *accuracies)
            head = [""] * 5


def draw_loss(results: dict[str, Comparison], path: Path) -> None:
    """Training loss over steps, a panel an approximation: circles measured, line theory, as K&O Fig. 1; GD in grey."""
    columns = min(4, len(results))
    rows = math.ceil(len(results) / columns)
    figure, axes = subplots(rows, columns, sharex=True, sharey=True, figsize=(2.6 * columns, 2.3 * rows + 0.5))
    top = max(r.loss[0] for r in results.values())
    gd = results.get("Identity")
    for axis, (name, r) in zip(axes.flat, results.items(), strict=False):
        if gd and r is not gd:
            axis.plot(_clipped(gd.loss, top), "o", color="0.75", fillstyle="none", markersize=4)
            axis.plot(_clipped(gd.theory_loss, top), color="0.75")
        axis.plot(_clipped(r.theory_loss, top), color="C0", label="theory")
        axis.plot(_clipped(r.loss, top), "o", color="C3", fillstyle="none", label="measured")
        axis.set_title(f"{name}, $\\eta$ = {r.eta:.3g}" + (" (stopped)" if r.stopped else ""), fontsize=9)
    for axis in axes.flat[len(results) :]:
        axis.set_axis_off()
    axes.flat[0].set(yscale="log", ylim=(top * 1e-15, top * 1e2))
    axes.flat[0].xaxis.get_major_locator().set_params(integer=True)
    axes.flat[0].legend(fontsize=8, loc="lower left")
    figure.supxlabel("step")
    figure.supylabel("training loss (down to rounding)")
    figure.savefig(path)


def draw_spectra(results: dict[str, Comparison], path: Path) -> None:
    """Eigenvalues of Theta_bar over the largest: a flat line is the isotropic condition K&O (12)."""
    figure, axes = subplots(1, 1, figsize=(6.4, 4))
    for marker, (name, r) in zip(cycle("osv^<>Dpx+"), results.items(), strict=False):
        w = r.isotropy.eigenvalues[::-1] / r.isotropy.eigenvalues[-1]
        axes.flat[0].plot(
            range(1, len(w) + 1), np.where(w > 0, w, np.nan), marker + "-", markersize=4, fillstyle="none", label=name
        )
    axes.flat[0].set(yscale="log", xlabel="index", ylabel=r"eigenvalue of $\bar\Theta$ / the largest")
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path)


def _clipped(losses: list[float], top: float) -> list[float]:
    """What a logarithmic axis cannot take, near overflow, stays just above the panel; rounding stays on its floor."""
    return [min(max(loss, top * 1e-15), top * 1e4) for loss in losses]


def _problem(args: argparse.Namespace) -> tuple[Network, list, datasets.Data]:
    """The network, its weights and the data of the arguments, on their device."""
    for option, value, least in (("--depth", args.depth, 1), ("--width", args.width, 1), ("--steps", args.steps, 0)):
        checked_count(option, value, least)
    checked_frozen(args.frozen, args.depth, args.sigma_b > 0)
    checked_whole("--seed", args.seed, 0)
    checked_damping(args.rho or 0.0, args.q)
    if not (math.isfinite(args.loss_rho) and args.loss_rho >= 0):
        raise ValueError(f"--loss-rho is {args.loss_rho}; expected a finite number >= 0")
    if not (math.isfinite(args.factor) and args.factor > 0):
        raise ValueError(f"--factor is {args.factor}; expected a finite number > 0")
    data_rng, weight_rng = np.random.default_rng(args.seed).spawn(2)
    parts = _load(args, data_rng)
    try:
        one_hot = args.loss == "cross-entropy"
        if args.data in TWO_PARTS:
            data = datasets.draw(*parts, args.N, 1000, data_rng, args.dtype, one_hot)
        else:
            data = datasets.split(*parts, args.N, data_rng, args.dtype, one_hot)
    except ValueError as error:
        raise ValueError(f"{args.data}: {error}") from error
    if args.forster:
        N, M_0 = data.x.shape
        if N < M_0:
            raise ValueError(f"--forster has -N {N} samples of {M_0} inputs; expected no fewer samples than inputs")
        A = forster(data.x)
        data = replace(data, x=unit_norm(data.x @ A), x_test=unit_norm(data.x_test @ A))
    widths = (data.x.shape[1], *[args.width] * (args.depth - 1), data.y.shape[1])
    net = Network(widths, activations.named(args.activation), args.sigma_w, args.sigma_b, args.parameterization)
    arrays = to_device([data.x, data.y, data.x_test, data.y_test], args.device)
    return net, to_device(net.init(weight_rng, args.dtype), args.device), datasets.Data(*arrays)


def _load(args: argparse.Namespace, rng: np.random.Generator) -> tuple:
    """(x, labels) of --data, or of its training and its test part; fills in --classes and --inputs."""
    if args.data != "gaussian" and args.inputs is not None:
        raise ValueError(f"--inputs is {args.inputs}; expected only with --data gaussian, other data have their own")
    if args.data not in PUBLISHED and args.data_dir is not None:
        raise ValueError(f"--data-dir is {args.data_dir}; expected only with --data mnist or cifar10")
    if args.data in PUBLISHED:
        load, classes = PUBLISHED[args.data]
        args.classes = args.classes or classes
        return tuple(load(part, args.data_dir, args.classes) for part in ("train", "test"))
    if args.data in ("mnist-sample", "digits"):
        args.classes = args.classes or [0, 7]
        if args.data == "digits":
            return datasets.digits(args.classes)
        return tuple(datasets.mnist_sample(part, args.classes) for part in ("train", "test"))
    if args.data == "gaussian":
        args.classes, args.inputs = args.classes or [0, 1], 784 if args.inputs is None else args.inputs
        if args.classes != list(range(len(args.classes))) or len(args.classes) < 2:
            raise ValueError(f"--classes is {args.classes}; expected 0 1, 0 1 2, .. for gaussian data")
        n, M_0 = checked_count("-N", args.N, 1) + 1000, checked_count("--inputs", args.inputs, 1)
        return datasets.gaussian(n, M_0, len(args.classes), rng)
    if args.data.endswith(".npz"):
        x, labels = datasets.load_npz(args.data)
        args.classes = args.classes or sorted(set(labels.tolist()))
        return datasets.select(x, labels, args.classes)
    raise ValueError(f"--data is {args.data!r}; expected mnist-sample, digits, mnist, cifar10, gaussian or a .npz file")


def _defined(args: argparse.Namespace, net: Network) -> tuple[list[str], list[str]]:
    """The approximations asked for that have the power q, and a note on each of the others."""
    names, notes = [], []
    for name in args.fisher:
        try:
            FISHERS[name]().require(net.trained(args.frozen), args.q)
            names.append(name)
        except ValueError as error:
            notes.append(f"{name} left out: {error}")
    if not names:
        raise ValueError("; ".join(notes))
    if {"Entrywise", "QuasiDiagonal"} <= set(names) and not net.sigma_b:
        notes.append("QuasiDiagonal equals Entrywise in networks without bias")
    return names, notes


def _rho(args: argparse.Namespace, name: str) -> float:
    default = UNITWISE_RHO if name == "Unitwise" else 0.0
    return default if args.rho is None else args.rho
