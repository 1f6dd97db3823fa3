"""The training loop, theta <- theta - eta G^{-1/q} grad L, K&O (4), (7), Huh (19), (21); and its theory beside it."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from .arrays import Array, array_module
from .checks import (
    checked_array,
    checked_damping,
    checked_instance,
    checked_positive,
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
    """The state of training after t updates.

    t: the number of updates.
    W: the weights, all L layers.
    f: (N, C), the outputs at these weights on the training set; in mini-batches on the batch of update t + 1.
    loss: of those outputs.
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
    frozen: int | Collection = 0,
    batch: int | None = None,
    rng: int | np.random.Generator = 0,
) -> Iterator[Step]:
    """The states t = 0 (the initial one), 1, .., `steps` of training, K&O (4), (7).

    net: the network.
    W: its initial weights, which are not changed.
    x: (N, M_0), the training samples.
    y: (N, C), their targets.
    fisher: the approximation of the Fisher matrix.
    eta: the learning rate, which multiplies `fisher.direction`. Its optimum is 1 / alpha where there is one, and
        1 / lambda_max(NTK) for `Identity`.
    steps: the number of updates.
    rho: the damping; 0 is the pseudo-inverse.
    q: the power: G^{-1/q}.
    loss: the loss.
    frozen: what is kept fixed, the first k layers or a list of layers and "output-bias" (see `Signals.above`);
        Step.W has all L.
    batch: the samples in an update, whose Fisher matrix and gradient are means over them; None for all N. Every
        ceil(N / batch) updates take the samples in a new random order; the last of these batches is smaller if `batch`
        does not divide N.
    rng: draws that order, on the host.

    Raises ValueError for bad arguments, at once; FloatingPointError if the loss stops being finite, on the way.
    """
    eta, steps, (rho, q) = checked_positive("eta", eta), checked_whole("steps", steps, 0), checked_damping(rho, q)
    checked_instance("net", net, Network, "a Network")
    checked_method(fisher, loss).require(net.trained(frozen), q)
    net.check(W, x)
    loss.check(checked_array("y", y, (len(x), net.widths[-1]), x))
    rng = checked_rng(rng)
    if batch is not None and checked_whole("batch", batch, 1) > len(x):
        raise ValueError(f"batch is {batch}; expected None or an integer <= N = {len(x)}")
    samples = repeat((x, y)) if batch is None else _batches(x, y, int(batch), rng)
    return _steps(net, W, samples, fisher, eta, steps, rho, q, loss, frozen)


def checked_method(fisher: Fisher, loss: Loss) -> Fisher:
    """`fisher`, if it is a Fisher and `loss` a Loss."""
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
            W = _moved(s, W, dW, eta)


def _moved(s: Signals, W: list[Array], dW: list[Array], eta: float) -> list[Array]:
    """W - eta dW where it is trained."""
    W, old = list(W), s.weights(W)
    for l, w, dw in zip(s.trained.layers, old, dW, strict=True):  # in place: W and dW are the memory of a step
        dw *= -eta
        dw += w
        fixed = W[l - 1][:, w.shape[1] :]  # the output bias, or nothing
        W[l - 1] = array_module(w).concatenate([dw, fixed], axis=1) if fixed.size else dw
    return W


def linearized_training(
    s: list[Signals], y: Array, fisher: Fisher, eta: float, rho: float = 0.0, q: float = 1, loss: Loss = mse
) -> Iterator[list[Array]]:
    """Outputs at t = 0, 1, .. of the network linearised at its initial weights, for every set of samples in s.

    Literally (S.24), for any loss: J stays what it is, e and the output Hessian follow the outputs.

    s: the signals of the training samples, then those of any other samples.
    y: (N, C), the targets of the training samples.
    fisher, eta, rho, q, loss: those of `train`.

    Raises ValueError for bad arguments, at once; FloatingPointError once outputs are not finite, on the way.
    """
    if not (isinstance(s, (list, tuple)) and s):
        raise ValueError(f"s is {shown(s)}; expected a list of Signals")
    for k, signals in enumerate(s):
        if checked_signals(f"s[{k}]", signals).shapes != s[0].shapes or signals.trained != s[0].trained:
            raise ValueError(f"s[{k}] belongs to weights {signals.shapes}; expected {s[0].shapes} as s[0]")
    eta, (rho, q) = checked_positive("eta", eta), checked_damping(rho, q)
    checked_method(fisher, loss).require(s[0].trained, q)
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
