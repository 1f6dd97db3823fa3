"""The training loop, theta <- theta - eta G^{-1/q} grad L, K&O (4), (7), Huh (19), (21); and its theory beside it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from .arrays import Array, array_module
from .checks import (
    checked_array,
    checked_damping,
    checked_frozen,
    checked_instance,
    checked_rate,
    checked_rng,
    checked_whole,
    shown,
)
from .fisher import Fisher
from .jacobian import push
from .losses import Loss, mse
from .network import Network, Signals, checked_signals


@dataclass(frozen=True)
class Step:
    """Weights after t updates; outputs (N, C) and loss, at these weights, on the training set.

    In mini-batches f and loss are those of the batch that update t + 1 takes, before it does.
    """

    t: int
    W: list[Array]
    f: Array
    loss: float


def train(
    net: Network,
    W: list[Array],
    x: Array,
    y: Array,
    fisher: Fisher,
    eta: float,
    steps: int,
    rho: float = 0.0,
    q: float = 1,
    loss: Loss = mse,
    frozen: int = 0,
    batch: int | None = None,
    rng: int | np.random.Generator = 0,
) -> Iterator[Step]:
    """Steps t = 0 (the initial state), 1, .., `steps`; W is not changed. x (N, M_0), y (N, C).

    frozen: the first layers W_1, .., W_frozen that are kept fixed (see `Signals.above`); Step.W has all L.
    batch: samples in an update, whose Fisher matrix and gradient are means over them; None for all N. `steps` counts
    updates. Every ceil(N / batch) of them take the samples in a new random order, drawn by rng on the host; the last
    of these batches is smaller if `batch` does not divide N.
    eta multiplies `fisher.direction`; its optimum is 1 / alpha where there is one, 1 / lambda_max(NTK) for `Identity`.
    Raises ValueError for bad arguments, at once; FloatingPointError if the loss stops being finite, on the way.
    """
    eta, steps, (rho, q) = checked_rate(eta), checked_whole("steps", steps, 0), checked_damping(rho, q)
    checked_instance("net", net, Network, "a Network")
    frozen = checked_frozen(frozen, len(net.shapes))
    _checked_method(fisher, loss).require(len(net.shapes) - frozen, net.sigma_b > 0, q)
    net.check(W, x)
    loss.check(checked_array("y", y, (len(x), net.widths[-1]), x))
    rng = checked_rng(rng)
    if batch is not None and checked_whole("batch", batch, 1) > len(x):
        raise ValueError(f"batch is {batch}; expected None or an integer <= N = {len(x)}")
    samples = repeat((x, y)) if batch is None else _batches(x, y, int(batch), rng)
    return _steps(net, W, samples, fisher, eta, steps, rho, q, loss, frozen)


def _checked_method(fisher: Fisher, loss: Loss) -> Fisher:
    checked_instance("loss", loss, Loss, "a Loss such as refngd.mse")
    return checked_instance("fisher", fisher, Fisher, "a Fisher such as refngd.Exact()")


def _batches(x: Array, y: Array, batch: int, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Endlessly: rows of x and y, `batch` at a time, each epoch in a new order."""
    while True:
        order = array_module(x).asarray(rng.permutation(len(x)))
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            yield x[rows], y[rows]


def _steps(net, W, samples, fisher, eta, steps, rho, q, loss, frozen) -> Iterator[Step]:
    for t, (x, y) in zip(range(steps + 1), samples, strict=False):
        try:
            s = net.signals(W, x).above(frozen)
        except (FloatingPointError, ValueError) as error:
            if t == 0:
                raise
            raise FloatingPointError(f"training diverged at t = {t}: {error}; lower eta = {eta:.3g}") from error
        value = loss.value(s.f, y)
        if not math.isfinite(value):
            raise FloatingPointError(f"training diverged at t = {t}: the loss is {value}; lower eta = {eta:.3g}")
        yield Step(t, W, s.f, value)
        if t < steps:
            dW = fisher.direction(*loss.whiten(s, y), rho, q)
            for w, dw in zip(W[frozen:], dW, strict=True):  # in place: W and dW are the memory of a step
                dw *= -eta
                dw += w
            W = [*W[:frozen], *dW]


def linearized_training(
    s: list[Signals], y: Array, fisher: Fisher, eta: float, rho: float = 0.0, q: float = 1, loss: Loss = mse
) -> Iterator[list[Array]]:
    """Outputs at t = 0, 1, .. of the network linearised at s[0], of the training samples, and at s[1:], of others.

    Literally (S.24), for any loss: J stays what it is, e and the output Hessian follow the outputs. y (N, C).
    Raises ValueError for bad arguments, at once; FloatingPointError once outputs are not finite, on the way.
    """
    if not (isinstance(s, (list, tuple)) and s):
        raise ValueError(f"s is {shown(s)}; expected a list of Signals")
    for k, signals in enumerate(s):
        if checked_signals(f"s[{k}]", signals).shapes != s[0].shapes:
            raise ValueError(f"s[{k}] belongs to weights {signals.shapes}; expected {s[0].shapes} as s[0]")
    eta, (rho, q) = checked_rate(eta), checked_damping(rho, q)
    _checked_method(fisher, loss).require(len(s[0].h), bool(s[0].bias), q)
    loss.check_pair(s[0].f, y)
    return _linearized_steps(s, y, fisher, eta, rho, q, loss)


def _linearized_steps(s, y, fisher, eta, rho, q, loss) -> Iterator[list[Array]]:
    f = [signals.f for signals in s]
    while True:
        yield f
        dW = fisher.direction(*loss.whiten(replace(s[0], f=f[0]), y), rho, q)
        with np.errstate(all="ignore"):  # reported below
            f = [f_k - eta * push(signals, dW) for f_k, signals in zip(f, s, strict=True)]
        if not all(array_module(f_k).isfinite(f_k).all() for f_k in f):
            raise FloatingPointError("the linearised training diverges")
