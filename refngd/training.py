"""The training loop, full batch: theta <- theta - eta G^{-1/q} grad L, K&O (4), (7)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .arrays import Array, array_module
from .fisher import Fisher
from .fisher.base import checked_damping
from .losses import Loss, mse
from .network import Network


@dataclass(frozen=True)
class Step:
    """Weights, outputs (N, C) and loss on the training set after t updates."""

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
) -> Iterator[Step]:
    """Steps t = 0 (the initial state), 1, .., `steps`; W is not changed. x (N, M_0), y (N, C).

    eta multiplies `fisher.direction`; its optimum is 1 / alpha where there is one, 1 / lambda_max(NTK) for `Identity`.
    Raises ValueError for bad arguments, at once; FloatingPointError if the loss stops being finite, on the way.
    """
    if not (math.isfinite(eta) and eta > 0):
        raise ValueError(f"eta is {eta}; expected a finite number > 0")
    if int(steps) != steps or steps < 0:
        raise ValueError(f"steps is {steps}; expected an integer >= 0")
    rho, q = checked_damping(rho, q)
    net.check(W, x)
    expected = (len(x), net.widths[-1])
    if getattr(y, "shape", None) != expected or y.dtype != x.dtype:
        raise ValueError(
            f"y is {getattr(y, 'dtype', '')} of shape {getattr(y, 'shape', y)}; expected {x.dtype} {expected}"
        )
    if not array_module(y).isfinite(y).all():
        raise ValueError("y has non-finite entries; expected finite numbers")
    return _steps(net, W, x, y, fisher, float(eta), int(steps), rho, q, loss)


def _steps(net, W, x, y, fisher, eta, steps, rho, q, loss) -> Iterator[Step]:
    for t in range(steps + 1):
        s = net.signals(W, x)
        value = loss.value(s.f, y)
        if not math.isfinite(value):
            raise FloatingPointError(f"training diverged: the loss is {value} at t = {t}; lower eta = {eta:.3g}")
        yield Step(t, W, s.f, value)
        if t < steps:
            dW = fisher.direction(s, loss.residual(s.f, y), rho, q)
            for w, dw in zip(W, dW, strict=True):  # in place: W and dW are the memory of a step
                dw *= -eta
                dw += w
            W = dW
