"""Activations: phi and its derivative phi', entry by entry; their Gaussian averages come from `duals`."""

import math
from abc import abstractmethod
from dataclasses import dataclass

from . import arrays, duals
from .arrays import Array, array_module


class Activation(duals.Averages):
    """phi and phi' act entry by entry on arrays of any shape and keep dtype and device; averages are as in `duals`."""

    @abstractmethod
    def phi(self, u: Array) -> Array:
        """phi(u)."""

    @abstractmethod
    def derivative(self, u: Array) -> Array:
        """phi'(u)."""

    def __str__(self) -> str:
        return type(self).__name__.lower()


class Smooth(duals.SeriesAverages, Activation):
    """Any smooth activation of yours: define `phi` and `derivative`, and the averages follow from these by a series."""


@dataclass(frozen=True)
class ShiftedReLU(duals.ShiftedReLUAverages, Activation):
    """phi_s(u) = max(u, -s), with phi'(-s) = 0; ReLU at s = 0.  K&O C.3.3."""

    s: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.s):
            raise ValueError(f"s is {self.s}; expected a finite number")
        object.__setattr__(self, "s", float(self.s))  # a NumPy float would promote float32

    def phi(self, u: Array) -> Array:
        return array_module(u).maximum(u, 0.0 - self.s)  # not -s, which is -0.0 at s = 0

    def derivative(self, u: Array) -> Array:
        return (u > -self.s).astype(u.dtype)

    def __str__(self) -> str:
        return f"shifted_relu({self.s:g})" if self.s else "relu"


@dataclass(frozen=True)
class Tanh(Smooth):
    """phi(u) = tanh(u)."""

    def phi(self, u: Array) -> Array:
        return array_module(u).tanh(u)

    def derivative(self, u: Array) -> Array:
        decay = array_module(u).exp(-2 * abs(u))
        return 4 * decay / (1 + decay) ** 2  # 1 - tanh^2 would cancel where units saturate, and units divide by it


@dataclass(frozen=True)
class Erf(duals.ErfAverages, Activation):
    """phi(u) = erf(u), the integral of 2 exp(-u^2) / sqrt(pi)."""

    def phi(self, u: Array) -> Array:
        return arrays.erf(u)

    def derivative(self, u: Array) -> Array:
        return 2 / math.sqrt(math.pi) * array_module(u).exp(-u * u)


@dataclass(frozen=True)
class Linear(duals.LinearAverages, Activation):
    """phi(u) = u: deep linear networks."""

    def phi(self, u: Array) -> Array:
        return u

    def derivative(self, u: Array) -> Array:
        return array_module(u).ones_like(u)


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
