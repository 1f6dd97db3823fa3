"""Activations phi with derivative phi', and the two Gaussian averages that the theory needs of each.

    mean_square(q) = E[phi(u)^2],       u ~ N(0, q)     the recursion of the order parameters q_l (S.138)
    gamma(q)       = P(phi'(u) != 0)                    the share of live units in (S.141)

ReLU is the shifted ReLU phi_s(u) = max(u, -s) at s = 0, so one formula serves both.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from . import arrays
from .arrays import Array, array_module


class Activation(ABC):
    """phi and phi' act entry by entry on arrays of any shape and keep dtype and device; the averages act on floats."""

    @abstractmethod
    def phi(self, u: Array) -> Array:
        """phi(u)."""

    @abstractmethod
    def derivative(self, u: Array) -> Array:
        """phi'(u)."""

    @abstractmethod
    def mean_square(self, q: float) -> float:
        """E[phi(u)^2] for u ~ N(0, q), q > 0."""

    def gamma(self, q: float) -> float:
        """P(phi'(u) != 0) for u ~ N(0, q), q > 0."""
        return 1.0

    def __str__(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class ShiftedReLU(Activation):
    """phi_s(u) = max(u, -s), with phi'(-s) = 0.  K&O C.3.3; gamma = Phi(s / sqrt(q)) as in (S.157)."""

    s: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.s):
            raise ValueError(f"s is {self.s}; expected a finite number")
        object.__setattr__(self, "s", float(self.s))  # a NumPy float would promote float32

    def phi(self, u: Array) -> Array:
        return array_module(u).maximum(u, 0.0 - self.s)  # not -s, which is -0.0 at s = 0

    def derivative(self, u: Array) -> Array:
        return (u > -self.s).astype(u.dtype)

    def mean_square(self, q: float) -> float:
        s, cdf = self.s, self.gamma(q)
        pdf = math.exp(-s * s / (2 * q)) / math.sqrt(2 * math.pi)
        return q * cdf - s * math.sqrt(q) * pdf + s * s * (1 - cdf)

    def gamma(self, q: float) -> float:
        return math.erfc(-self.s / math.sqrt(2 * q)) / 2

    def __str__(self) -> str:
        return f"shifted_relu({self.s:g})" if self.s else "relu"


@dataclass(frozen=True)
class Tanh(Activation):
    """phi(u) = tanh(u)."""

    def phi(self, u: Array) -> Array:
        return array_module(u).tanh(u)

    def derivative(self, u: Array) -> Array:
        decay = array_module(u).exp(-2 * abs(u))
        return 4 * decay / (1 + decay) ** 2  # 1 - tanh^2 would cancel where units saturate, and units divide by it

    def mean_square(self, q: float) -> float:
        # the trapezoid rule converges geometrically; tanh(sqrt(q) z) steepens with q
        z, step = np.linspace(-9, 9, 192 * math.ceil(max(1, math.sqrt(q) / 3)) + 1, retstep=True)
        return float(np.exp(-z * z / 2) @ np.tanh(math.sqrt(q) * z) ** 2 * step / math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class Erf(Activation):
    """phi(u) = erf(u), the integral of 2 exp(-u^2) / sqrt(pi)."""

    def phi(self, u: Array) -> Array:
        return arrays.erf(u)

    def derivative(self, u: Array) -> Array:
        return 2 / math.sqrt(math.pi) * array_module(u).exp(-u * u)

    def mean_square(self, q: float) -> float:
        return 2 / math.pi * math.asin(2 * q / (1 + 2 * q))


@dataclass(frozen=True)
class Linear(Activation):
    """phi(u) = u: deep linear networks."""

    def phi(self, u: Array) -> Array:
        return u

    def derivative(self, u: Array) -> Array:
        return array_module(u).ones_like(u)

    def mean_square(self, q: float) -> float:
        return q


shifted_relu = ShiftedReLU
relu, tanh, erf, linear = ShiftedReLU(0.0), Tanh(), Erf(), Linear()


def named(name: str) -> Activation:
    """The activation called `name`: relu, tanh, erf, linear, or shifted_relu:S. Raises ValueError for another name."""
    known = {str(a): a for a in (relu, tanh, erf, linear)}
    kind, _, s = name.partition(":")
    if kind == "shifted_relu":
        try:
            return shifted_relu(float(s))
        except ValueError:
            pass
    if name not in known:
        raise ValueError(f"activation is {name!r}; expected {', '.join(known)} or shifted_relu:S with a number S")
    return known[name]
