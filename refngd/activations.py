"""Activations phi with derivative phi', and the two Gaussian averages that the theory needs of each.

    q -> E[phi(u)^2]            mean_square, u ~ N(0, q): the recursion of the order parameters q_l (S.138)
    q -> P(phi'(u) != 0)        gamma, the fraction of live units in (S.141)

ReLU is the shifted ReLU phi_s(u) = max(u, -s) at s = 0, so one formula serves both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import arrays
from .arrays import Array, array_module


@dataclass(frozen=True)
class Activation:
    """phi and phi' act entry by entry on arrays of any shape and keep dtype and device; the averages act on floats."""

    name: str
    phi: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    mean_square: Callable[[float], float]
    gamma: Callable[[float], float] = lambda q: 1.0

    def __repr__(self) -> str:
        return self.name


def shifted_relu(s: float) -> Activation:
    """phi_s(u) = max(u, -s), with phi'(-s) = 0.  K&O C.3.3; gamma = Phi(s / sqrt(q)) as in (S.157)."""
    if not math.isfinite(s):
        raise ValueError(f"shifted_relu: s is {s}; expected a finite number")
    s = float(s)
    floor = 0.0 - s  # not -s, which is -0.0 at s = 0

    def cdf_and_pdf(q: float) -> tuple[float, float]:
        k = s / math.sqrt(q)
        return math.erfc(-k / math.sqrt(2)) / 2, math.exp(-k * k / 2) / math.sqrt(2 * math.pi)

    def mean_square(q: float) -> float:
        cdf, pdf = cdf_and_pdf(q)
        return q * cdf - s * math.sqrt(q) * pdf + s * s * (1 - cdf)

    return Activation(
        name=f"shifted_relu({s:g})" if s else "relu",
        phi=lambda u: array_module(u).maximum(u, floor),
        derivative=lambda u: (u > floor).astype(u.dtype),
        mean_square=mean_square,
        gamma=lambda q: cdf_and_pdf(q)[0],
    )


def _quadrature(f: Callable[[Array], Array]) -> Callable[[float], float]:
    """E[f(sqrt(q) z)^2] for smooth f by the trapezoid rule, which converges geometrically on a Gaussian weight."""
    z = np.linspace(-9, 9, 193)
    weight = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    return lambda q: float(weight @ f(math.sqrt(q) * z) ** 2)


def _tanh(u: Array) -> Array:
    return array_module(u).tanh(u)


relu = shifted_relu(0.0)
tanh = Activation("tanh", _tanh, lambda u: 1 - _tanh(u) ** 2, _quadrature(np.tanh))
erf = Activation(
    "erf",
    arrays.erf,
    lambda u: 2 / math.sqrt(math.pi) * array_module(u).exp(-u * u),
    lambda q: 2 / math.pi * math.asin(2 * q / (1 + 2 * q)),
)
linear = Activation("linear", lambda u: u, lambda u: array_module(u).ones_like(u), lambda q: q)


def named(name: str) -> Activation:
    """The activation called `name`: relu, tanh, erf, linear, or shifted_relu:S. Raises ValueError for another name."""
    known = {a.name: a for a in (relu, tanh, erf, linear)}
    kind, _, s = name.partition(":")
    if kind == "shifted_relu":
        try:
            return shifted_relu(float(s))
        except ValueError:
            pass
    if name not in known:
        raise ValueError(f"activation is {name!r}; expected {', '.join(known)} or shifted_relu:S with a number S")
    return known[name]
