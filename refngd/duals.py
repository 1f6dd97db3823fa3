"""The Gaussian averages that the theory of infinite width needs of an activation phi.

    mean_square(q)            = E[phi(u)^2],     u ~ N(0, q)    the recursion of the variances q_l (S.138)
    mean_square_derivative(q) = E[phi'(u)^2]                    the diagonal of Xi_l
    gamma(q)                  = P(phi'(u) != 0)                 the share of live units in (S.141)
    dual(r, a, b)             = E[phi(u) phi(v)], E[phi'(u) phi'(v)]      the kernels A_l (S.171) and Xi_l (S.173)

In `dual`, u and v have the standard deviations a and b and the correlation r = cos theta. A smooth activation has a
bounded derivative of these averages in r. A kink makes them functions of the angle theta, which r near 1 holds to half
of its digits only: for this reason `dual` takes c = sin theta beside r, from whoever knows it better than r does.
"""

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
from scipy.special import erf, ndtr

from .arrays import Array, array_module, to_device


class Averages(ABC):
    """The averages above. They are right to 100 units of rounding, or raise ArithmeticError; see each class."""

    @abstractmethod
    def mean_square(self, q: float) -> float:
        """E[phi(u)^2] for u ~ N(0, q), q > 0."""

    @abstractmethod
    def mean_square_derivative(self, q: float) -> float:
        """E[phi'(u)^2] for u ~ N(0, q), q > 0."""

    def gamma(self, q: float) -> float:
        """P(phi'(u) != 0) for u ~ N(0, q), q > 0."""
        return 1.0

    def features(self, scale: np.ndarray) -> np.ndarray:
        """What `dual` needs to know of n standard deviations (n,), on the host: (n, k); the first column is `scale`."""
        return scale[:, None]

    @abstractmethod
    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)], both (N', N).

        r: the correlations (N', N), in [-1, 1].
        a: `features` of the standard deviations of u (N', k), on the device of r; (1, k) where all are the same.
        b: those of v (N, k) or (1, k).
        c: sqrt(1 - r^2) (N', N); by default computed from r.
        """

    def gap(self, r: Array, c: Array, a: Array, b: Array) -> Array | None:
        """1 - E[phi(u) phi(v)] / sqrt(E[phi(u)^2] E[phi(v)^2]) (n,) of n pairs with r near 1, without cancellation.

        The arguments are as in `dual`, but (n,) and (n, k), pair by pair. None says that nothing needs it so precisely.
        """
        return None


def sine(r: Array) -> Array:
    """sqrt(1 - r^2), without cancellation."""
    return array_module(r).sqrt((1 - r) * (1 + r))


def _one_minus(r: Array, c: Array) -> Array:
    """1 - r, where c = sqrt(1 - r^2) knows it better than r."""
    positive = r > 0
    return array_module(r).where(positive, c * c / (1 + positive * r), 1 - r)


class LinearAverages(Averages):
    """phi(u) = u."""

    def mean_square(self, q: float) -> float:
        return q

    def mean_square_derivative(self, q: float) -> float:
        return 1.0

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        return r * (a * b.T), array_module(r).ones_like(r)


class ErfAverages(Averages):
    """phi = erf, in closed form: with R = r 2 a b / sqrt((1 + 2 a^2) (1 + 2 b^2)),

        E[phi phi] = 2/pi arcsin(R),    E[phi' phi'] = 4/pi / sqrt((1 + 2 a^2) (1 + 2 b^2) (1 - R^2))

    With k_a^2 = 1 / (1 + 2 a^2) and s_a^2 = 2 a^2 k_a^2 = 1 - k_a^2, nothing cancels in R = s_a s_b r and
    1 - R^2 = k_a^2 + s_a^2 k_b^2 + s_a^2 s_b^2 c^2.
    """

    def mean_square(self, q: float) -> float:
        return 2 / math.pi * math.atan2(2 * q, math.sqrt(1 + 4 * q))

    def mean_square_derivative(self, q: float) -> float:
        return 4 / math.pi / math.sqrt(1 + 4 * q)

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 3): a, s_a, k_a."""
        k = 1 / np.hypot(1, math.sqrt(2) * scale)
        return np.stack([scale, math.sqrt(2) * scale * k, k], axis=1)

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        xp = array_module(r)
        c = sine(r) if c is None else c
        s_a, k_a, s_b, k_b = a[:, 1:2], a[:, 2:], b[:, 1], b[:, 2]
        R, S = s_a * s_b * r, xp.sqrt(k_a * k_a + (s_a * k_b) ** 2 + (s_a * s_b * c) ** 2)
        return 2 / math.pi * xp.arctan2(R, S), 4 / math.pi * (k_a * k_b) / S


class ShiftedReLUAverages(Averages):
    """phi_s(u) = max(u, -s), with the attribute s. For ReLU, s = 0, with psi = pi - theta (S.177):

        E[phi phi] = a b (sin psi - psi cos psi) / (2 pi),    E[phi' phi'] = psi / (2 pi)

    For s > 0, phi_s(u) = u + (-s - u)_+, and for s < 0, phi_s(u) = |s| + (u - |s|)_+. So all rests on the corner z > k,
    z' > m of two normal variables of correlation r, with k = |s| / a, m = |s| / b, on its probability L and on
    K = E[(z - k)_+ (z' - m)_+]. With Q(k) = P(z > k) and e(k) = E[(z - k)_+],

        s > 0:  E[phi phi] = a b (r (1 - Q(k) - Q(m)) + K),             E[phi' phi'] = 1 - Q(k) - Q(m) + L
        s < 0:  E[phi phi] = s^2 + |s| (a e(k) + b e(m)) + a b K,       E[phi' phi'] = L

    This is (S.178) without its differences of large terms. Near r = 1, for k >= m, the integral from r to 1 replaces that
    from -1 to r: L = Q(k) - L~ and K = E[(z - k)_+ (z - m)_+] - (1 - r) Q(k) + K~, where L~ and K~ are small.
    """

    s: float

    def mean_square(self, q: float) -> float:
        x = [float(v) for v in self.features(np.array([q**0.5]))[0]]
        return float(self._parallel(x, x)[0]) if self.s else q / 2

    def gamma(self, q: float) -> float:
        """Phi(s / sqrt(q)), as in (S.157)."""
        return math.erfc(-self.s / math.sqrt(q) / math.sqrt(2)) / 2

    def mean_square_derivative(self, q: float) -> float:
        return self.gamma(q)

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 5): a, k, Q(k), e(k), 1 - 2 Q(k); of ReLU, which needs no more, (n, 1): a."""
        if not self.s:
            return scale[:, None]
        k = np.minimum(abs(self.s) / scale, 100)  # where Q and e are 0, and squares do not overflow
        Q = ndtr(-k)
        e = np.exp(-k * k / 2) / math.sqrt(2 * math.pi) - k * Q
        return np.stack([scale, k, Q, e, erf(k / math.sqrt(2))], axis=1)

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        c = sine(r) if c is None else c
        return self._shifted(r, c, a.T[:, :, None], b.T)[:2] if self.s else _relu_dual(r, c, a * b.T)

    def gap(self, r: Array, c: Array, a: Array, b: Array) -> Array:
        xp, x, y = array_module(r), a.T, b.T
        if not self.s:
            return xp.maximum(_one_minus(r, c) - (c - r * xp.arctan2(c, r)) / math.pi, 0)
        size = xp.sqrt(self._parallel(x, x)[0]) * xp.sqrt(self._parallel(y, y)[0])
        return xp.maximum(size - self._parallel(x, y)[0] + self._shifted(r, c, x, y)[2], 0) / size

    def _shifted(self, r: Array, c: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """The averages, and how much the first is below its value at r = 1; x and y are the columns of the features."""
        (a, k, _, e_a, E_a), (b, m, _, e_b, E_b) = x, y
        xp, s, ab, E = array_module(r), abs(self.s), a * b, (E_a + E_b) / 2
        t, p, n = c / (1 + abs(r)), k + m, abs(k - m)  # t is the tangent of half of the acute angle
        near = (r > 0) & (t < 0.8) & ((p * t < 2) | (p * t * t < n))  # the exponent is largest at the end, and L~ < Q
        T = xp.where(near | (r < 0), t, 1 / xp.maximum(t, 0.01))
        L, K = _corner(T, xp.where(near, n, p), xp.where(near, p, n))
        A_1, Xi_1 = self._parallel(x, y)
        drop = ab * (_one_minus(r, c) * Xi_1 - K)
        A, Xi = (ab * (E * r + K), E + L) if self.s > 0 else (s * s + s * (a * e_a + b * e_b) + ab * K, L)
        return xp.where(near, A_1 - drop, A), xp.where(near, Xi_1 - L, Xi), xp.where(near, drop, A_1 - A)

    def _parallel(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The averages at r = 1, for k and m in either order; x and y are the columns of the features."""
        (a, k, Q_a, e_a, _), (b, m, Q_b, e_b, _) = x, y
        xp, s = array_module(a), abs(self.s)
        if self.s > 0:
            Xi = 1 - xp.maximum(Q_a, Q_b)
            return a * b * (Xi - xp.minimum(k, m) * xp.minimum(e_a, e_b)), Xi
        Xi = xp.minimum(Q_a, Q_b)
        return s * s + s * xp.maximum(a, b) * xp.maximum(e_a, e_b) + a * b * Xi, Xi


def _relu_dual(r: Array, c: Array, ab: Array) -> tuple[Array, Array]:
    xp = array_module(r)
    psi = xp.arctan2(c, -r)
    A = r * psi
    A += c
    opposite = psi < 0.5
    if opposite.any():  # sin psi - psi cos psi = sum_n (-1)^{n+1} 2n psi^{2n+1} / (2n+1)!, which would cancel
        series, square = 0 * psi, psi * psi
        for n in range(7, 0, -1):
            series = 2 * n / math.factorial(2 * n + 1) - square * series
        A = xp.where(opposite, psi * square * series, A)
    A *= ab / (2 * math.pi)
    psi /= 2 * math.pi
    return A, psi


def _corner(T: Array, p: Array, n: Array) -> tuple[Array, Array]:
    """L = P(z > k, z' > m) and K = E[(z - k)_+ (z' - m)_+] for T = tan(psi / 2), p = k + m, n = |k - m|, psi = pi - theta.

    From r = -1, where both are 0, dK/dr = L, and dL/dr is the joint density at (k, m) (Plackett, Price). With
    r = -cos t and h = tan(t / 2), all terms are positive:

        L = 1/pi             int_0^T exp(-(p^2 + n^2 + p^2 / h^2 + n^2 h^2) / 8) / (1 + h^2) dh
        K = 2/pi / (1 + T^2) int_0^T exp(-(p^2 + n^2 + p^2 / h^2 + n^2 h^2) / 8) (T^2 - h^2) / (1 + h^2)^2 dh

    For T -> 1 / T and p <-> n these are L~ and K~. The exponent is largest at h = sqrt(p / n), which has to be beyond T, or
    else p and n T small. In log(T / h), Gauss's rule then takes all sizes of p, up to where the terms are below rounding.
    """
    xp, eps = array_module(T), float(np.finfo(T.dtype).eps)
    end = 1 - math.log(eps)
    alpha, beta = xp.clip((p / xp.maximum(T, 1e-12)) ** 2 / 8, 1e-30, 1e4), (n * T) ** 2 / 8
    d = alpha - beta - end  # g = (T / h)^2 - 1 is such that g (alpha - beta / (1 + g)) = end
    root = xp.sqrt(d * d + 4 * end * alpha)
    Y = xp.minimum(xp.log1p(xp.where(d > 0, 2 * end / (root + abs(d)), (root - d) / (2 * alpha))) / 2, end)
    L, K = 0 * (Y + T), 0 * (Y + T)
    for x, weight in zip(*_gauss(64 if eps < 1e-10 else 32), strict=True):
        y = Y * (x * x)
        g = xp.expm1(2 * y)
        share = g / (1 + g)  # 1 - (h / T)^2
        lorentz = 1 / (1 + T * T * (1 - share))
        term = xp.exp(-y - g * alpha + share * beta) * lorentz * (2 * x * weight)
        L += term
        K += term * share * lorentz
    L *= xp.exp(-(p * p + n * n) / 8 - alpha - beta) * Y * T / math.pi
    K *= xp.exp(-(p * p + n * n) / 8 - alpha - beta) * Y * T / math.pi * 2 * T * T / (1 + T * T)
    return L, K


@lru_cache
def _gauss(n: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of Gauss's rule on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(n)
    return ((x + 1) / 2).tolist(), (w / 2).tolist()


class SeriesAverages(Averages):
    """The averages of any smooth phi with `phi` and `derivative`, right to 100 units of rounding of their values at r = 1.

    With d_n, e_n the coefficients of z -> phi'(a z), phi'(b z) in the polynomials orthonormal under N(0, 1), and z normal,

        E[phi' phi'] = sum_n d_n e_n r^n                                                        (Mehler)
        E[phi phi]   = E[phi(a z)] E[phi(b z)] + a b sum_n d_n e_n r^{n+1} / (n + 1)            (Price)

    ArithmeticError says where phi has a kink, or a is too large; that is beyond 4 or so for tanh.
    """

    def mean_square(self, q: float) -> float:
        return self._square(self.phi, math.sqrt(q))

    def mean_square_derivative(self, q: float) -> float:
        return self._square(self.derivative, math.sqrt(q))

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 2002): a, E[phi(a z)], d_0, d_1, .."""
        z, root_pdf, psi = _hermite_functions()
        with np.errstate(all="ignore"):  # reported below
            phi, derivative = (f(z[:, None] * scale) * root_pdf[:, None] for f in (self.phi, self.derivative))
            d, mean = psi @ derivative, psi[0] @ phi
            square = (d * d).sum(0)
            tail = abs(d[-20:]).max(0) ** 2 / square
            ends = abs(derivative[[0, -1]]).max(0) ** 2 / square
        resolved = np.isfinite(mean) & (np.maximum(tail, ends) < 1e-20)
        if not resolved.all():
            raise ArithmeticError(
                f"2000 polynomials do not resolve {self}(a z) for a = {scale[~resolved].max():.3g}: "
                "a kink, or a is too large"
            )
        return np.column_stack([scale, mean, d.T])

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        size = to_device(abs(a[:, 2:]).max(0) * abs(b[:, 2:]).max(0), "cpu")
        last = int(np.flatnonzero(size > 1e-19 * size.max()).max(initial=0))  # the others are below rounding
        A, Xi = 0 * r, 0 * r
        for n in range(last, -1, -1):  # Horner's rule
            term = a[:, n + 2, None] * b[:, n + 2]
            Xi *= r
            Xi += term
            A *= r
            A += term / (n + 1)
        A *= r
        A *= a[:, :1] * b[:, 0]
        A += a[:, 1:2] * b[:, 1]
        return A, Xi

    def _square(self, f, scale: float) -> float:
        """E[f(scale z)^2]. Raises ArithmeticError where the quadrature does not resolve it."""
        z, root_pdf, _ = _hermite_functions()
        with np.errstate(all="ignore"):  # reported below
            values = (f(scale * z) * root_pdf) ** 2 / 32
            fine, coarse = float(values.sum()), 2 * float(values[::2].sum())
        if not abs(fine - coarse) <= 1e-9 * fine:  # whose square, or so, is the error of the finer rule
            raise ArithmeticError(f"{len(z)} points do not resolve {self}(a z) for a = {scale:.3g}")
        return fine


@lru_cache(1)
def _hermite_functions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z (m,), the root of the normal density there (m,), and the weights (2000, m) of the first 2000 coefficients.

    The trapezoid rule converges geometrically, and its step of 1 / 32 resolves the waves of all these polynomials.
    """
    z = np.linspace(-20, 20, 1281)
    root_pdf = np.exp(-z * z / 4) / (2 * math.pi) ** 0.25
    psi = [root_pdf, z * root_pdf]  # the polynomials times root_pdf
    for n in range(1, 1999):
        psi.append((z * psi[n] - math.sqrt(n) * psi[n - 1]) / math.sqrt(n + 1))
    return z, root_pdf, np.array(psi) / 32
