"""The command line: `refngd run` trains a network by every approximation and prints theory beside it."""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from . import __version__, activations, datasets, fisher, plots
from .arrays import to_device
from .experiment import Comparison, compare
from .network import Network

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
UNITWISE_RHO = 1e-8  # at rho = 0 the unit-wise step is heavy-tailed, as 1 / delta


def main(argv: list[str] | None = None) -> None:
    """Entry point of `refngd` and `python -m refngd`; exits with status 2 and one line where an argument is bad."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        run(args)
    except (ValueError, MemoryError, OSError) as error:
        parser.exit(2, f"refngd {args.command}: error: {error}\n")


def run(args: argparse.Namespace) -> None:
    """`refngd run`: compare `args.fisher`, print the table, write run.json and the pictures into `args.out`."""
    net, W, data = _problem(args)
    args.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{args.data}: N = {len(data.x)} to train, {len(data.x_test)} to test; widths {net.widths}, {net.activation},"
        f" sigma_w^2 = {net.sigma_w**2:.4g}, sigma_b^2 = {net.sigma_b**2:.4g}, {net.parameterization}\n"
    )
    results, left_out = {}, {}
    for name in _progress(args.fisher):
        try:
            results[name] = compare(net, W, data, FISHERS[name](), args.steps, args.factor, _rho(args, name), args.q)
        except ValueError as error:  # a power that this approximation does not have
            left_out[name] = error
    if not results:
        raise ValueError("; ".join(f"{name}: {error}" for name, error in left_out.items()))
    written = _write(args, results)
    for line in table(results, {name: _rho(args, name) for name in results}, args.steps):
        print(line)
    for name, error in left_out.items():
        print(f"{name} left out: {error}")
    print(f"\nwritten to {args.out}: {written}")


def table(results: dict[str, Comparison], rho: dict[str, float], steps: int) -> Iterator[str]:
    """The lines of the table: each approximation's constants, then one line a step."""
    row = "{:16} {:>9} {:>9} {:>7} {:>15} {:>3} {:>11} | {:8} {:>10} | {:>6}".format
    head = ["approximation", "rho", "eta", "alpha", "cond(Theta_bar)"]
    yield row(*head, "t", "train loss", "theory", "test acc.", "theory")
    for name, r in results.items():
        alpha = "-" if r.alpha is None else f"{r.alpha:.6g}"
        head = [name, f"{rho[name]:.3g}", f"{r.eta:.3g}", alpha, f"{r.isotropy.condition:.5g}"]
        for t in range(steps + 1):
            losses = (f"{v[t]:.2e}" if t < len(v) else "diverged" for v in (r.loss, r.theory_loss))
            accuracies = (f"{v[t]:.3f}" if t < len(v) else "-" for v in (r.accuracy, r.theory_accuracy))
            yield row(*head, t, *losses, *accuracies)
            head = [""] * 5


def _problem(args: argparse.Namespace) -> tuple[Network, list, datasets.Data]:
    """The network, its weights and the data of the arguments, on their device."""
    if args.depth < 1:
        raise ValueError(f"--depth is {args.depth}; expected at least 1")
    if not (math.isfinite(args.factor) and args.factor > 0):
        raise ValueError(f"--factor is {args.factor}; expected a finite number > 0")
    if args.steps < 0:
        raise ValueError(f"--steps is {args.steps}; expected at least 0")
    data_rng, weight_rng = np.random.default_rng(args.seed).spawn(2)
    data = datasets.split(*_load(args, data_rng), args.N, data_rng, args.dtype)
    widths = (data.x.shape[1], *[args.width] * (args.depth - 1), data.y.shape[1])
    net = Network(widths, activations.named(args.activation), args.sigma_w, args.sigma_b, args.parameterization)
    arrays = to_device([data.x, data.y, data.x_test, data.y_test], args.device)
    return net, to_device(net.init(weight_rng, args.dtype), args.device), datasets.Data(*arrays)


def _load(args: argparse.Namespace, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(x, labels) of --data and --classes."""
    if args.data == "digits":
        return datasets.digits(args.classes or (0, 7))
    if args.data == "gaussian":
        x, labels = datasets.gaussian(args.N + 1000, args.inputs, 2 if args.classes is None else len(args.classes), rng)
        return x, labels
    if args.data.endswith(".npz"):
        x, labels = datasets.load_npz(args.data)
        return datasets.select(x, labels, args.classes or sorted(set(labels.tolist())))
    raise ValueError(f"--data is {args.data!r}; expected digits, gaussian or a .npz file")


def _rho(args: argparse.Namespace, name: str) -> float:
    default = UNITWISE_RHO if name == "Unitwise" else 0.0
    return default if args.rho is None else args.rho


def _progress(names: Iterable[str]) -> Iterable[str]:
    """A progress bar where standard error is a terminal and tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        return names
    return tqdm(names, disable=None, leave=False)


def _write(args: argparse.Namespace, results: dict[str, Comparison]) -> str:
    """Write run.json and the pictures; what was written, in words."""
    record = {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        "rho": {name: _rho(args, name) for name in results},
        "versions": {"refngd": __version__, "python": platform.python_version()}
        | {
            module.__name__: module.__version__
            for name in ("numpy", "scipy", "cupy")
            if (module := sys.modules.get(name))
        },
        "results": {name: asdict(r) for name, r in results.items()},
    }
    text = json.dumps(_json(record), indent=1, allow_nan=False)
    _replace(args.out / "run.json", lambda path: path.write_text(text))
    try:
        _replace(args.out / "loss.png", lambda path: plots.draw_loss(results, path))
        _replace(args.out / "spectra.png", lambda path: plots.draw_spectra(results, path))
    except ImportError as error:
        return f"run.json, but no pictures: {error} (pip install 'refngd[plot]')"
    return "run.json, loss.png, spectra.png"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    with TemporaryDirectory(dir=path.parent) as folder:
        write(Path(folder, path.name))
        os.replace(Path(folder, path.name), path)


def _json(value):
    """value with what JSON cannot hold, inf and nan, as null."""
    if isinstance(value, dict):
        return {key: _json(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="refngd", description="Natural gradient descent, theory beside training.")
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser(
        "run",
        help="train a network by every approximation, each at its optimal learning rate, and print theory beside it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = p.add_argument
    add("--data", default="digits", metavar="NAME", help="digits, gaussian, or a .npz file with x and labels")
    add(
        "--classes", type=int, nargs="+", metavar="K", help="0 7 of digits, 0 1 of gaussian, all of a file if not given"
    )
    add("--inputs", type=int, default=784, metavar="M_0", help="input dimension of the gaussian data")
    add("-N", type=int, default=32, help="training samples; the others (1000 of gaussian) test")
    add("--depth", type=int, default=3, metavar="L", help="layers of weights")
    add("--width", type=int, default=1024, metavar="M", help="units of each hidden layer")
    add("--activation", default="relu", metavar="PHI", help="relu, tanh, erf, linear or shifted_relu:S")
    add("--sigma-w", type=float, default=2**0.5, metavar="S", help="standard deviation of the weights, K&O (1)")
    add("--sigma-b", type=float, default=0.0, metavar="S", help="standard deviation of the biases; 0 means no biases")
    add("--parameterization", choices=("ntk", "standard"), default="ntk")
    add(
        "--fisher",
        nargs="+",
        choices=FISHERS,
        default=list(FISHERS)[:8],
        metavar="G",
        help=f"any of {', '.join(FISHERS)}",
    )
    add("--rho", type=float, help=f"damping; 0, and {UNITWISE_RHO:g} for Unitwise, if not given")
    add("-q", type=float, default=1.0, help="power: the update is G^{-1/q} grad L, so inf is gradient descent")
    add("--factor", type=float, default=1.0, metavar="F", help="learning rate in units of the optimal one")
    add("--steps", type=int, default=5, metavar="T")
    add("--seed", type=int, default=0)
    add("--dtype", choices=("float32", "float64"), default="float64")
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--out", type=Path, default=Path("refngd-run"), metavar="DIR", help="folder for run.json and the pictures")
    return parser
