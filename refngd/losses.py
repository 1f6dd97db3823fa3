"""Losses L = (1/N) sum_n loss(f_n, y_n), in the form in which every Fisher approximation takes them.

With the output Hessian H_n = R_n^T R_n (C, C) of a loss, the Fisher matrix is J^T H J / N, and the gradient J^T g / N.
So `whiten` hands over delta' = R delta and e = R^{-T} g, with which they are J'^T J' / N and J'^T e / N:

    mean squared error    g = f - y,   H_n = I                                         K&O (3)
    cross-entropy         g = p - y,   H_n = Lambda_n + rho I,   p = softmax(f)        (S.158), (S.159)
                          Lambda_n = diag(p_n) - p_n p_n^T
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from .arrays import Array, array_module
from .checks import checked_array, checked_damping, checked_number
from .network import Signals, checked_signals
from .spectral import eigen_power


class Loss(ABC):
    """A loss of outputs f (N, C) and targets y (N, C). Raises ValueError unless these are finite and of one kind."""

    @property
    def is_regular(self) -> bool:
        """Whether every H_n is."""
        return True

    @abstractmethod
    def value(self, f: Array, y: Array) -> float:
        """The loss; inf where it overflows."""

    @abstractmethod
    def residual(self, f: Array, y: Array) -> Array:
        """g (N, C): N times the derivative of the loss with respect to f."""

    def whiten(self, s: Signals, y: Array) -> tuple[Signals, Array]:
        """The signals and the residual e (N, C) to hand to a Fisher approximation."""
        return s, self.residual(checked_signals("s", s).f, y)

    def check(self, y: Array) -> None:
        """Raise ValueError unless y (N, C) can be a target."""
        checked_array("y", y, ("N", "C"))

    def check_pair(self, f: Array, y: Array) -> None:
        """Raise ValueError unless f (N, C) and y are alike, and y can be a target."""
        checked_array("y", y, checked_array("f", f, ("N", "C")).shape, f)
        self.check(y)


@dataclass(frozen=True)
class MSE(Loss):
    """||f - y||^2 / (2N), K&O (3)."""

    def value(self, f: Array, y: Array) -> float:
        self.check_pair(f, y)
        with np.errstate(over="ignore"):  # inf is for the caller to judge
            return float(((f - y) ** 2).sum()) / (2 * len(f))

    def residual(self, f: Array, y: Array) -> Array:
        self.check_pair(f, y)
        return f - y


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-(1/N) sum y log softmax(f), for C >= 2 classes and one-hot y.  K&O, section D of the supplement.

    rho: the damping of Lambda, rho~ in (S.159); Lambda is singular, since its rows sum to 0, and rho = 0 means its
    pseudo-inverse, which loses nothing of p - y unless p is 0 and 1 to rounding. Raises ValueError if rho is not a
    finite number >= 0.
    """

    rho: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", checked_damping(self.rho, 1)[0])

    @property
    def is_regular(self) -> bool:
        return self.rho > 0

    def value(self, f: Array, y: Array) -> float:
        self.check_pair(f, y)
        xp = array_module(f)
        f = f - f.max(1, keepdims=True)
        return float((xp.log(xp.exp(f).sum(1)) - (f * y).sum(1)).mean())

    def residual(self, f: Array, y: Array) -> Array:
        self.check_pair(f, y)
        others = softmax(f) * (1 - y)
        return others - y * others.sum(1, keepdims=True)  # p - y would cancel where p is near 1

    def whiten(self, s: Signals, y: Array) -> tuple[Signals, Array]:
        xp = array_module(checked_signals("s", s).f)
        V, inverse_root = eigen_power(output_hessian(s.f), self.rho, 2, None)
        live = inverse_root > 0
        root = live / xp.where(live, inverse_root, 1)
        g = self.residual(s.f, y)[:, :, None]
        # R_n = root V^T: what H_n does not see is a row of zeros, which every approximation leaves out
        return replace(s, delta=[root.mT * (V.mT @ d) for d in s.delta]), (inverse_root.mT * (V.mT @ g))[:, :, 0]

    def velocity(self, f: Array, y: Array, alpha: float = 1.0) -> Array:
        """dp/dt (N, C) for eta = 1: alpha Lambda (Lambda + rho I)^{-1} (y - p), where Theta_bar = alpha I (S.168)."""
        self.check_pair(f, y)
        alpha = checked_number("alpha", alpha, "a finite number", math.isfinite)
        Lambda = output_hessian(f)
        V, inverse = eigen_power(Lambda, self.rho, 1, None)
        return -alpha * (Lambda @ ((V * inverse) @ (V.mT @ self.residual(f, y)[:, :, None])))[:, :, 0]

    def check(self, y: Array) -> None:
        super().check(y)
        one_hot = y.shape[1] >= 2 and bool((((y == 0) | (y == 1)).all(1) & (y.sum(1) == 1)).all())
        if not one_hot:
            raise ValueError(f"y is not one-hot with C = {y.shape[1]}; expected one 1 in each row, else 0, and C >= 2")


mse, cross_entropy = MSE(), CrossEntropy()


def softmax(f: Array) -> Array:
    """p (N, C), rows of which sum to 1."""
    p = array_module(f).exp(f - f.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def output_hessian(f: Array) -> Array:
    """Lambda_n (N, C, C) of the cross-entropy."""
    p = softmax(f)
    Lambda, i = -p[:, :, None] * p[:, None], array_module(f).arange(p.shape[1])
    Lambda[:, i, i] = 0
    Lambda[:, i, i] = -Lambda.sum(2)  # p (1 - p) would cancel where p is near 1, and leave negative eigenvalues
    return Lambda
