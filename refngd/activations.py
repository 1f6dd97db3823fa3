"""Activations phi with derivative phi', and the Gaussian averages that the theory needs of each.

    mean_square(q)  = E[phi(u)^2],           u ~ N(0, q)        the recursion of the order parameters q_l (S.138)
    gamma(q)        = P(phi'(u) != 0)                           the share of live units in (S.141)
    dual(r, a, b)   = E[phi(u) phi(v)], E[phi'(u) phi'(v)]      the kernels A_l and Xi_l (S.171), (S.173)

In `dual`, u and v are Gaussian with correlation r, and a, b are the `features` of their standard deviations: these
alone where there is a closed form. A smooth activation needs no more than phi and phi': with the coefficients a_n of
z -> phi(a z), and likewise b_n, in the polynomials orthonormal under N(0, 1) (Mehler, Price)

    E[phi(u) phi(v)] = sum_n a_n b_n r^n,    E[phi'(u) phi'(v)] = sum_n n a_n b_n r^{n-1} / (a b)

ReLU is the shifted ReLU phi_s(u) = max(u, -s) at s = 0.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from . import arrays
from .arrays import Array, array_module, to_device


class Activation(ABC):
    """phi and phi' act entry by entry on arrays of any shape and keep dtype and device; the averages are as above."""

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

    def features(self, scale: np.ndarray) -> np.ndarray:
        """What `dual` wants to know of n standard deviations (n,): (n, 1), these."""
        return scale[:, None]

    @abstractmethod
    def dual(self, r: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] (N', N) for r (N', N) in [-1, 1].

        a (N', k), b (N, k): `features` on the device of r; one row serves where all are the same.
        """

    def __str__(self) -> str:
        return type(self).__name__.lower()


class Smooth(Activation):
    """The averages of any smooth phi, to 1e-12 or better, by the series above: of tanh up to q = 10."""

    def mean_square(self, q: float) -> float:
        """E[phi(u)^2]. Raises ArithmeticError where the quadrature does not resolve phi(sqrt(q) z)."""
        z, step = np.linspace(-13, 13, 801, retstep=True)  # the trapezoid rule converges geometrically
        values = self.phi(math.sqrt(q) * z) ** 2 * np.exp(-z * z / 2) * step / math.sqrt(2 * math.pi)
        fine, coarse = float(values.sum()), 2 * float(values[::2].sum())
        if abs(fine - coarse) > 1e-9 * fine:  # whose square, or so, is the error of the finer rule
            raise ArithmeticError(f"801 points do not resolve {self}(a z) for a = {math.sqrt(q):.3g}")
        return fine

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 2001): the standard deviation a and a_0, a_1, ..

        Raises ArithmeticError if they are too few: phi has a kink, or a is too large.
        """
        z, step = np.linspace(-13, 13, 801, retstep=True)  # the trapezoid rule resolves the waves of these polynomials
        root_pdf = np.exp(-z * z / 4) / (2 * math.pi) ** 0.25
        psi = [root_pdf, z * root_pdf]  # the polynomials times root_pdf
        for n in range(1, 1999):
            psi.append((z * psi[n] - math.sqrt(n) * psi[n - 1]) / math.sqrt(n + 1))
        coefficients = np.array(psi) @ (self.phi(z[:, None] * scale) * (step * root_pdf)[:, None])
        size = np.arange(2000) * (coefficients**2).max(1)
        if size[-20:].max() > 1e-17 * size.max():
            raise ArithmeticError(
                f"2000 polynomials do not resolve {self}(a z) for a = {scale.max():.3g}: a kink, or a is too large"
            )
        return np.column_stack([scale, coefficients.T])

    def dual(self, r: Array, a: Array, b: Array) -> tuple[Array, Array]:
        size = np.arange(2000) * to_device(abs(a).max(0) * abs(b).max(0), "cpu")[1:]
        last = int(np.flatnonzero(size > 1e-19 * size.max()).max(initial=0))  # the others are below rounding
        A, Xi = 0 * r, 0 * r
        for n in range(last, -1, -1):  # Horner's rule
            term = a[:, n + 1, None] * b[:, n + 1]
            A *= r
            A += term
            if n:
                Xi *= r
                Xi += n * term
        Xi /= a[:, :1] * b[:, 0]
        return A, Xi


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

    def dual(self, r: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """In closed form, (S.177) and (S.178); if s != 0 by Owen's T function, with NumPy arrays only."""
        xp, b = array_module(r), b.T
        c = xp.sqrt((1 - r) * (1 + r))
        if self.s:
            return self._shifted_dual(r, c, a, b)
        angle = xp.arcsin(r)
        angle += math.pi / 2
        A = r * angle
        A += c
        A *= a * b / (2 * math.pi)
        angle /= 2 * math.pi
        return A, angle

    def _shifted_dual(
        self, r: np.ndarray, c: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if array_module(r) is not np:
            raise ValueError(f"{self}: r is on the GPU; expected a NumPy array, for SciPy's Owen T function")
        from scipy.special import ndtr, owens_t

        s, k, m = self.s, self.s / a, self.s / b
        c_min = float(np.finfo(r.dtype).tiny) ** 0.25  # at r = 1 the slopes are 0 or infinite
        slope_k, slope_m = (a / b - r) / np.maximum(c, c_min), (b / a - r) / np.maximum(c, c_min)
        pdf_k, pdf_m = (np.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (k, m))
        Xi = (ndtr(k) + ndtr(m)) / 2 - owens_t(k, slope_k) - owens_t(m, slope_m)
        # E[(z + k)_+ (z' + m)_+]; m slope_m = (k - r m) / c, and the last term is c^2 times the joint density
        product = (r + k * m) * Xi + k * pdf_m * ndtr(m * slope_m) + m * pdf_k * ndtr(k * slope_k)
        product += c * np.exp(-((m * slope_m) ** 2 + m * m) / 2) / (2 * math.pi)
        mean_k, mean_m = a * (k * ndtr(k) + pdf_k), b * (m * ndtr(m) + pdf_m)
        A = a * b * product - s * (mean_k + mean_m) + s * s
        return A.astype(r.dtype), Xi.astype(r.dtype)

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
class Erf(Activation):
    """phi(u) = erf(u), the integral of 2 exp(-u^2) / sqrt(pi)."""

    def phi(self, u: Array) -> Array:
        return arrays.erf(u)

    def derivative(self, u: Array) -> Array:
        return 2 / math.sqrt(math.pi) * array_module(u).exp(-u * u)

    def mean_square(self, q: float) -> float:
        return 2 / math.pi * math.asin(2 * q / (1 + 2 * q))

    def dual(self, r: Array, a: Array, b: Array) -> tuple[Array, Array]:
        xp, b = array_module(r), b.T
        covariance, variances = 2 * a * b * r, (1 + 2 * a * a) * (1 + 2 * b * b)
        A = 2 / math.pi * xp.arcsin(covariance / variances**0.5)
        return A, 4 / math.pi / xp.sqrt(variances - covariance * covariance)


@dataclass(frozen=True)
class Linear(Activation):
    """phi(u) = u: deep linear networks."""

    def phi(self, u: Array) -> Array:
        return u

    def derivative(self, u: Array) -> Array:
        return array_module(u).ones_like(u)

    def mean_square(self, q: float) -> float:
        return q

    def dual(self, r: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return a * b.T * r, array_module(r).ones_like(r)


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
