"""Losses L = (1/N) sum_n loss(f_n, y_n), in the form in which every Fisher approximation takes them.

With the output Hessian H_n = R_n^T R_n (C, C) of a loss, the Fisher matrix is J^T H J / N, and the gradient J^T g / N.
So `whiten` hands over delta' = R delta and e = R^{-T} g, with which they are J'^T J' / N and J'^T e / N:

    mean squared error    g = f - y,   H_n = I                                         K&O (3)
    cross-entropy         g = p - y,   H_n = Lambda_n + rho I,   p = softmax(f)        (S.158), (S.159)
                          Lambda_n = diag(p_n) - p_n p_n^T
"""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from .arrays import Array, array_module
from .checks import checked_array, checked_damping, checked_number
from .network import Signals, checked_signals


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

    The logistic loss of one output f is that of C = 2 outputs whose difference f_1 - f_0 is f. Raises ValueError if
    rho is not a finite number >= 0.

    rho: the damping of Lambda, rho~ in (S.159). Lambda is singular, since its rows sum to 0, and rho = 0 means its
        pseudo-inverse, which loses nothing of p - y unless a probability underflows; `whiten` warns if that of a
        target does.
    """

    rho: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", checked_damping(self.rho, 1)[0])

    @property
    def is_regular(self) -> bool:
        return self.rho > 0

    def value(self, f: Array, y: Array) -> float:
        self.check_pair(f, y)
        return float(softplus(log_odds(f, y)).mean())  # -log p_y = log (1 + (1 - p_y) / p_y)

    def residual(self, f: Array, y: Array) -> Array:
        self.check_pair(f, y)
        others = softmax(f) * (1 - y)
        return others - y * others.sum(1, keepdims=True)  # p - y would cancel where p is near 1

    def whiten(self, s: Signals, y: Array) -> tuple[Signals, Array]:
        self.check_pair(checked_signals("s", s).f, y)
        R, e = hessian_root(s.f, y, self.rho)
        return replace(s, delta=[R @ d for d in s.delta]), e

    def velocity(self, f: Array, y: Array, alpha: float = 1.0) -> Array:
        """dp/dt (N, C) for eta = 1: alpha Lambda (Lambda + rho I)^{-1} (y - p), where Theta_bar = alpha I (S.168).

        With g = p - y and w = p / (p + rho) that is alpha sum_j w_i w_j (g_j - g_i) / sum_j w_j (THEORY 7).
        """
        self.check_pair(f, y)
        alpha = checked_number("alpha", alpha, "a finite number", math.isfinite)
        xp, g, a = array_module(f), self.residual(f, y), softmax(f) + self.rho
        w = xp.where(a > 0, softmax(f), 1) / xp.where(a > 0, a, 1)
        pairs = w[:, :, None] * w[:, None] * (g[:, None] - g[:, :, None])  # (N, C, C): i, j
        return alpha * pairs.sum(2) / w.sum(1, keepdims=True)

    def check(self, y: Array) -> None:
        super().check(y)
        if y.shape[1] == 1:
            raise ValueError(
                "y has C = 1 column; expected C >= 2. For the logistic loss of one output f take two, of which it is "
                "the difference f_1 - f_0, and one-hot y"
            )
        one_hot = bool((((y == 0) | (y == 1)).all(1) & (y.sum(1) == 1)).all())
        if not one_hot:
            raise ValueError(f"y is not one-hot with C = {y.shape[1]}; expected one 1 in each row, else 0")


mse, cross_entropy = MSE(), CrossEntropy()


def softmax(f: Array) -> Array:
    """p (N, C), rows of which sum to 1."""
    p = array_module(f).exp(f - f.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def softplus(v: Array) -> Array:
    """log (1 + e^v), like v of any size."""
    xp = array_module(v)
    return xp.maximum(v, 0) + xp.log1p(xp.exp(-abs(v)))


def log_odds(f: Array, y: Array) -> Array:
    """log (1 - p_y) / p_y (N, 1) of the targets, of logits of any size."""
    xp = array_module(f)
    rest = xp.where(y > 0, -math.inf, f - (f * y).sum(1, keepdims=True))  # log p_c / p_y of the others
    top = rest.max(1, keepdims=True)
    return top + xp.log(xp.exp(rest - top).sum(1, keepdims=True))


def output_hessian(f: Array) -> Array:
    """Lambda_n (N, C, C) of the cross-entropy."""
    p = softmax(f)
    Lambda, i = -p[:, :, None] * p[:, None], array_module(f).arange(p.shape[1])
    Lambda[:, i, i] = 0
    Lambda[:, i, i] = -Lambda.sum(2)  # p (1 - p) would cancel where p is near 1, and leave negative eigenvalues
    return Lambda


def centred(s: Signals) -> Signals:
    """The signals of the outputs less their mean over the classes, which is all that softmax sees of them."""
    checked_signals("s", s)
    return replace(s, f=s.f - s.f.mean(1, keepdims=True), delta=[d - d.mean(1, keepdims=True) for d in s.delta])


def hessian_root(f: Array, y: Array, rho: float) -> tuple[Array, Array]:
    """R_n (N, C, C), upper triangular, with R_n^T R_n = Lambda_n + rho I, and e_n = R_n^{-T} (p_n - y_n) (N, C).

    This is the Cholesky factor of diag(a) - p p^T, a = p + rho, in closed form (THEORY 7): with
    t_j = sum_{i<=j} rho p_i / a_i + sum_{i>j} p_i

        R_jj = (a_j t_j / t_{j-1})^{1/2},    R_ji = -R_jj p_j p_i / (a_j t_j), i > j,    e = z / diag(R)

    Sums have no negative terms, so that every entry is right to rounding, for logits of any size. At rho = 0 the last
    row of R is zero, as is that of a class whose p underflows. e is zero there, and every approximation leaves it out.
    """
    xp, p, C, tiny = array_module(f), softmax(f), f.shape[1], float(np.finfo(f.dtype).tiny)
    if rho < tiny:
        _warn_of_underflow((y > 0) & (p < tiny))
    I, i = xp.eye(C, dtype=f.dtype), xp.arange(C)
    later = (i[:, None] > i).astype(f.dtype)  # later_ij = 1 for i > j
    live = p + rho >= tiny
    a = xp.where(live, p + rho, 1)
    w = p / a
    before, after = rho * w @ later.T, p @ later  # (N, C) sums over i < j and i > j
    t, t_last = before + rho * w + after, before + p + after
    live &= t >= tiny
    t, t_last = xp.where(live, t, 1), xp.where(live, t_last, 1)
    root = live * (a / t_last) ** 0.5 * t**0.5  # a t may underflow
    R = root[:, :, None] * (I - later.T * (w / t)[:, :, None] * p[:, None])  # (N, C, C)
    share = 1 - y @ later.T + (rho * y / a) @ later.T  # 1, or behind the target rho / a of it
    z = (1 - y) * share * (p / t_last) - y * (before + after) / t_last
    return R, live * z / xp.where(live, root, 1)


def _warn_of_underflow(lost: Array) -> None:
    if lost.any():
        warnings.warn(
            f"the probability of the target underflows in {int(lost.sum())} of {len(lost)} samples, which are not "
            "trained without damping: lower the learning rate, or take CrossEntropy(rho)",
            RuntimeWarning,
            stacklevel=4,
        )
