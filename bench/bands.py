"""Predictions over initialisations: mean and two standard deviations at infinite width, and trained networks.

f_t(x') is Gaussian there for every Theta_bar, `Dynamics.covariance`. The inputs lie on a closed curve in 16 dimensions,
so that all of theta can be drawn; N = 6 of them have targets.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import refngd as rn
from refngd.cli.output import subplots

from .figure import Figure

METHODS = {  # and the share of 1 / lambda_max(Theta_bar) that eta is
    "gradient descent": (rn.Identity(), 1.0),
    "exact": (rn.Exact(), 0.5),
    "block-diagonal": (rn.BlockDiagonal(), 0.5),
    "block tri-diagonal": (rn.BlockTridiagonal(), 0.5),
    "K-FAC": (rn.KFAC(), 0.5),
}


def curve(theta: np.ndarray) -> np.ndarray:
    """x (n, 16) of unit norm: the first eight harmonics, the lower the larger."""
    k = np.arange(1, 9)
    x = np.concatenate([np.cos(theta[:, None] * k), np.sin(theta[:, None] * k)], axis=1) / np.tile(k, 2)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _angles(settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """Of the training and of the test inputs, which lie between."""
    train, test = (np.linspace(0, 2 * math.pi, settings[key], endpoint=False) for key in ("N", "N_test"))
    return train, test + test[1] / 2


def _problem(settings: dict, device: str, width: int) -> tuple:
    """The network; training inputs and targets; test inputs."""
    net = rn.Network((16, width, width, 1), rn.relu, 2**0.5, settings["sigma_b"])
    train, test = _angles(settings)
    y = np.sign(np.sin(1.5 * train + 0.4))[:, None]
    return net, *rn.to_device([curve(train), y, curve(test)], device)


def _parts(settings: dict) -> list[str]:
    return list(METHODS)


def _compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    """f_t(x') of every trained network; mean and covariance at infinite width at t, and the mean at t = inf."""
    fisher, share = METHODS[part]
    net, x, y, x_test = _problem(settings, device, settings["width"])
    own, cross = (rn.analytic_kernels(net, a, x) for a in (x, x_test))
    xp = rn.arrays.array_module(x)
    both = xp.concatenate([x_test, x])
    K = rn.analytic_kernels(net, both, both).A[-1]
    Theta_bar, Theta_bar_test = (fisher.kernel_coefficient(k, own) for k in (own, cross))
    dynamics = rn.Dynamics(Theta_bar, 0 * y, y, share * rn.optimal_rate(Theta_bar))
    t, zero = settings["t"], 0 * x_test[:, :1]
    f = [_trained(settings, fisher, dynamics.eta, seed, device) for seed in range(settings["seeds"])]
    numbers = {"f": f, "mean": dynamics.predict(Theta_bar_test, zero, t)[:, 0]}
    numbers |= {"deviation": dynamics.covariance(Theta_bar_test, K, t).diagonal() ** 0.5}
    numbers["limit"] = dynamics.predict(Theta_bar_test, zero, math.inf)[:, 0]
    numbers["limit deviation"] = dynamics.covariance(Theta_bar_test, K, math.inf).diagonal() ** 0.5
    return {key: np.asarray(rn.to_device(value, "cpu")).tolist() for key, value in numbers.items()}


def _trained(settings: dict, fisher: rn.Fisher, eta: float, seed: int, device: str) -> np.ndarray:
    net, x, y, x_test = _problem(settings, device, settings["width"])
    W = rn.to_device(net.init(seed), device)
    *_, last = rn.train(net, W, x, y, fisher, eta, settings["t"])
    return rn.to_device(net.forward(last.W, x_test)[:, 0], "cpu")


def _verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    return list(_claims(settings, results))


def _scores(r: dict) -> np.ndarray:
    """(f - mean) / deviation (seeds, N_test)."""
    return (np.array(r["f"]) - r["mean"]) / np.array(r["deviation"])


def _claims(settings: dict, results: dict[str, dict]) -> Iterator[tuple[str, bool]]:
    of = f"{settings['seeds']} networks of width {settings['width']} after {settings['t']} steps"
    for name, r in results.items():
        z = _scores(r)
        size, inside = float((z**2).mean() ** 0.5), float((abs(z) < 2).mean())
        # rows are independent, the points of a row are not: what each network has on the mean scatters
        error = float((z**2).mean(1).std() / 2 / len(z) ** 0.5)
        yield (
            f"{name}: {of} scatter as at infinite width: by {size:.2f} +- {error:.2f} of its standard deviation about "
            f"its mean, {inside:.1%} of the outputs within two (needed: 1 within 0.15 and two errors)",
            abs(size - 1) < 0.15 + 2 * error,
        )
    gradient, exact, block = (np.array(results[name]["limit"]) for name in list(METHODS)[:3])
    yield (
        f"exact natural gradient and gradient descent have one limit, to {abs(gradient - exact).max():.1e} (limit "
        f"1e-6); block-diagonal has another, {abs(block - exact).max():.3f} from it at most (needed 0.02)",
        abs(gradient - exact).max() < 1e-6 and abs(block - exact).max() > 0.02,
    )


def _draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, len(results), figsize=(2.9 * len(results), 3), sharey=True)
    data, theta = _angles(settings)
    for axis, (name, r) in zip(axes.flat, results.items(), strict=True):
        mean, deviation = np.array(r["mean"]), np.array(r["deviation"])
        axis.fill_between(theta, mean - 2 * deviation, mean + 2 * deviation, color="C0", alpha=0.25, linewidth=0)
        axis.plot(theta, mean, "C0")
        axis.plot(theta, np.array(r["f"])[:8].T, color="0.4", linewidth=0.5)
        axis.plot(data, np.sign(np.sin(1.5 * data + 0.4)), "ko", markersize=4)
        axis.set(title=name, xlabel=r"$\theta$", xlim=(0, 2 * math.pi))
    axes.flat[0].set_ylabel("$f_t(x')$")
    figure.savefig(path)


_SMALL = {"N": 6, "N_test": 60, "width": 512, "seeds": 20, "t": 4, "sigma_b": 0.3}
FIGURES = {
    "bands": Figure(
        "predictions over initialisations: mean and two standard deviations at infinite width, and trained networks",
        {"small": _SMALL, "paper": _SMALL | {"width": 2048, "seeds": 60}},
        _parts,
        _compute,
        _verdicts,
        _draw,
    ),
}
