"""The Gaussian averages that the theory of infinite width needs of an activation phi: E[phi phi], E[phi' phi'].

    mean_square(q)            = E[phi(u)^2],     u ~ N(0, q)    the recursion of the variances q_l (S.138)
    mean_square_derivative(q) = E[phi'(u)^2]                    the diagonal of Xi_l
    gamma(q)                  = P(phi'(u) != 0)                 the share of live units in (S.141)
    dual(r, a, b)             = E[phi(u) phi(v)], E[phi'(u) phi'(v)]      the kernels A_l (S.171) and Xi_l (S.173)

In `dual`, u and v have the standard deviations a and b and the correlation r = cos theta. With a kink in phi, or with a
step, which erf is to large inputs, the averages depend on the angle theta, of which r near 1 and -1 holds half of the
digits only. So `dual` takes c = sin theta beside r, from whoever knows it better than r does, and `gap` gives the sine
between phi(u) and phi(v), which the next layer asks for. `gap` is the second half of this file: leave it out at first.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .arrays import Array, array_module, to_device
from .checks import checked_array, checked_positive


class Averages(ABC):
    """The averages above, right to 100 units of rounding of their values; or else ArithmeticError says why not."""

    @abstractmethod
    def mean_square(self, q: float) -> float:
        """E[phi(u)^2] for u ~ N(0, q), q > 0."""

    @abstractmethod
    def mean_square_derivative(self, q: float) -> float:
        """E[phi'(u)^2] for u ~ N(0, q), q > 0."""

    def gamma(self, q: float) -> float:
        """P(phi'(u) != 0) for u ~ N(0, q), q > 0."""
        checked_positive("q", q)
        return 1.0

    def features(self, scale: np.ndarray) -> np.ndarray:
        """What `dual` needs to know of n standard deviations (n,), on the host: (n, k); the first column is `scale`."""
        return checked_array("scale", scale, ("n",))[:, None]

    @abstractmethod
    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)], both (N', N).

        r: the correlations (N', N), in [-1, 1].
        a: `features` of the standard deviations of u (N', k), on the device of r; (1, k) where all are the same.
        b: those of v (N, k) or (1, k).
        c: sqrt(1 - r^2) (N', N); by default computed from r.
        """

    def gap(self, r: Array, c: Array, a: Array, b: Array) -> tuple[Array, Array] | None:
        """1 - rho and 1 - rho^2 (n,) for rho = E[phi(u) phi(v)] / sqrt(E[phi(u)^2] E[phi(v)^2]), as precise near 1.

        r and c are (n,), a and b (n, k) or (1, k): n pairs. None says that no average asks for more than rho itself.
        """
        return None


def sine(r: Array) -> Array:
    """sqrt(1 - r^2), without cancellation."""
    return array_module(r).sqrt((1 - r) * (1 + r))


class LinearAverages(Averages):
    """phi(u) = u."""

    def mean_square(self, q: float) -> float:
        return checked_positive("q", q)

    def mean_square_derivative(self, q: float) -> float:
        return self.gamma(q)

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        return r * (a * b.T), array_module(r).ones_like(r)


class ErfAverages(Averages):
    """phi = erf, in closed form: with R = r 2 a b / sqrt((1 + 2 a^2) (1 + 2 b^2)),

        E[phi phi] = 2/pi arcsin(R),    E[phi' phi'] = 4/pi / sqrt((1 + 2 a^2) (1 + 2 b^2) (1 - R^2))

    With k_a^2 = 1 / (1 + 2 a^2) and s_a^2 = 2 a^2 k_a^2 = 1 - k_a^2, nothing cancels in R = s_a s_b r and
    S^2 = 1 - R^2 = k_a^2 + s_a^2 k_b^2 + s_a^2 s_b^2 c^2.
    """

    def mean_square(self, q: float) -> float:
        q = checked_positive("q", q)
        return 2 / math.pi * math.atan2(2 * q, math.sqrt(1 + 4 * q))

    def mean_square_derivative(self, q: float) -> float:
        return 4 / math.pi / math.sqrt(1 + 4 * checked_positive("q", q))

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 3): a, s_a, k_a."""
        k = 1 / np.hypot(1, math.sqrt(2) * checked_array("scale", scale, ("n",)))
        return np.stack([scale, math.sqrt(2) * scale * k, k], axis=1)

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        R, S = _erf_sides(r, sine(r) if c is None else c, a.T[:, :, None], b.T)
        return 2 / math.pi * array_module(r).arctan2(R, S), 4 / math.pi * (a[:, 2:] * b[:, 2]) / S

    def gap(self, r: Array, c: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return _erf_gap(r, c, a.T, b.T)


class ShiftedReLUAverages(Averages):
    """phi_s(u) = max(u, -s), with the attribute s. For ReLU, s = 0, with psi = pi - theta (S.177):

        E[phi phi] = a b (sin psi - psi cos psi) / (2 pi),    E[phi' phi'] = psi / (2 pi)

    For s > 0, phi_s(u) = u + (-s - u)_+, and for s < 0, phi_s(u) = |s| + (u - |s|)_+. So all rests on the corner z > k,
    z' > m of two normal variables of correlation r, with k = |s| / a and m = |s| / b: on L = P(z > k, z' > m) and
    K = E[(z - k)_+ (z' - m)_+], which `_corner` integrates. With Q(k) = P(z > k) and e(k) = E[(z - k)_+],

        s > 0:  E[phi phi] = a b (r (1 - Q(k) - Q(m)) + K),             E[phi' phi'] = 1 - Q(k) - Q(m) + L
        s < 0:  E[phi phi] = s^2 + |s| (a e(k) + b e(m)) + a b K,       E[phi' phi'] = L

    These are (S.178) without its differences of large terms. Where the two terms of the first have opposite signs, the
    rounding is that of the larger.
    """

    s: float

    def mean_square(self, q: float) -> float:
        x = self.features(np.array([math.sqrt(checked_positive("q", q))]))[0]
        return float(_shifted_parallel(self.s, x, x)[0]) if self.s else float(q) / 2

    def mean_square_derivative(self, q: float) -> float:
        return self.gamma(q)

    def gamma(self, q: float) -> float:
        """Phi(s / sqrt(q)), as in (S.157)."""
        return math.erfc(-self.s / math.sqrt(checked_positive("q", q)) / math.sqrt(2)) / 2

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 5): a, k, Q(k), e(k), 1 - 2 Q(k); of ReLU, which needs no more, (n, 1): a."""
        if not self.s:
            return super().features(scale)
        from scipy.special import erf, ndtr

        k = np.minimum(abs(self.s) / super().features(scale)[:, 0], 100)  # where Q and e are 0; squares do not overflow

        Q = ndtr(-k)
        e = np.exp(-k * k / 2) / math.sqrt(2 * math.pi) - k * Q
        return np.stack([scale, k, Q, e, erf(k / math.sqrt(2))], axis=1)

    def dual(self, r: Array, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Array]:
        c = sine(r) if c is None else c
        return _shifted_dual(self.s, r, c, a.T[:, :, None], b.T)[:2] if self.s else _relu_dual(r, c, a * b.T)

    def gap(self, r: Array, c: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return _shifted_gap(self.s, r, c, a.T, b.T) if self.s else _relu_gap(r, c)


class SeriesAverages(Averages):
    """Any smooth phi with `phi` and `derivative`; right to 100 units of rounding of the values at r = 1.

    With d_n, e_n the coefficients of z -> phi'(a z), phi'(b z) in the polynomials orthonormal under N(0, 1), z normal,

        E[phi' phi'] = sum_n d_n e_n r^n                                                        (Mehler)
        E[phi phi]   = E[phi(a z)] E[phi(b z)] + a b sum_n d_n e_n r^{n+1} / (n + 1)            (Price)

    ArithmeticError says that they converge too slowly: phi has a kink, or a is too large, above 3.5 for tanh.
    """

    def mean_square(self, q: float) -> float:
        return self._square(self.phi, math.sqrt(checked_positive("q", q)))

    def mean_square_derivative(self, q: float) -> float:
        return self._square(self.derivative, math.sqrt(checked_positive("q", q)))

    def _square(self, f: Callable[[np.ndarray], np.ndarray], scale: float) -> float:
        z, root_pdf, _ = _hermite_functions()
        with np.errstate(all="ignore"):  # reported below
            values = (f(scale * z) * root_pdf) ** 2 / 32
            fine, coarse = float(values.sum()), 2 * float(values[::2].sum())
        if not abs(fine - coarse) <= 1e-9 * fine:  # whose square, or so, is the error of the finer rule
            raise ArithmeticError(f"{len(z)} points do not resolve {self}(a z) for a = {scale:.3g}")
        return fine

    def features(self, scale: np.ndarray) -> np.ndarray:
        """(n, 2002): a, E[phi(a z)], d_0, d_1, .."""
        scale, (z, root_pdf, psi) = checked_array("scale", scale, ("n",)), _hermite_functions()
        with np.errstate(all="ignore"):  # reported below
            phi, derivative = (f(z[:, None] * scale) * root_pdf[:, None] for f in (self.phi, self.derivative))
            mean, d = psi[0] @ phi / 32, psi @ derivative / 32
            rest = np.maximum(abs(d[-20:]).max(0), abs(derivative[[0, -1]]).max(0)) ** 2 / (d * d).sum(0)
        resolved = np.isfinite(mean) & (rest < 1e-16)
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
            A *= r
            A += term / (n + 1)
            Xi *= r
            Xi += term
        A *= r
        A *= a[:, :1] * b[:, 0]
        A += a[:, 1:2] * b[:, 1]
        return A, Xi


@lru_cache(1)
def _hermite_functions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z (m,), the root of the normal density there (m,), and the first 2000 orthonormal polynomials times it (2000, m).

    The step, 1 / 32, resolves the waves of all of them, and the trapezoid rule converges geometrically.
    """
    z = np.linspace(-20, 20, 1281)
    root_pdf = np.exp(-z * z / 4) / (2 * math.pi) ** 0.25
    psi = [root_pdf, z * root_pdf]
    for n in range(1, 1999):
        psi.append((z * psi[n] - math.sqrt(n) * psi[n - 1]) / math.sqrt(n + 1))
    return z, root_pdf, np.array(psi)


# ------------------------------------------------------------------------------------ the averages of (shifted) ReLU


def _relu_dual(r: Array, c: Array, ab: Array) -> tuple[Array, Array]:
    psi = array_module(r).arctan2(c, -r)
    A = _segment(psi, c, -r)
    A *= ab / (2 * math.pi)
    psi /= 2 * math.pi
    return A, psi


def _segment(t: Array, sine: Array, cosine: Array) -> Array:
    """sin t - t cos t for 0 <= t <= pi, to all digits: sum_n (-1)^{n+1} 2n t^{2n+1} / (2n+1)! where it would cancel."""
    xp = array_module(t)
    A = t * -cosine
    A += sine
    small = t < 0.5
    if small.any():
        series, square = 0 * t, t * t
        for n in range(7, 0, -1):
            series = 2 * n / math.factorial(2 * n + 1) - square * series
        A = xp.where(small, t * square * series, A)
    return A


def _shifted_dual(s: float, r: Array, c: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """The averages, and by how much the first is below its value at r = 1; x and y are the columns of the features.

    Near r = 1 the integral from r to 1 replaces that from -1 to r. With L~ and K~ for it, and the values at r = 1,

        E[phi phi] = (E[phi phi])_1 - a b ((1 - r) (E[phi' phi'])_1 - K~),      E[phi' phi'] = (E[phi' phi'])_1 - L~
    """
    (a, k, Q_a, e_a, E_a), (b, m, Q_b, e_b, E_b) = x, y
    xp, ab, E = array_module(r), a * b, (E_a + E_b) / 2
    t, p, n = c / (1 + abs(r)), k + m, abs(k - m)  # t is the tangent of half of the acute angle
    near = (r > 0) & (t < 0.8) & ((p * t < 2) | (p * t * t < n))  # there L~ < L, and `_corner` is good at L~
    T = xp.where(near | (r < 0), t, 1 / xp.maximum(t, 0.01))
    L, K = _corner(T, xp.where(near, n, p), xp.where(near, p, n))
    A_1, Xi_1 = _shifted_parallel(s, x, y)
    drop = ab * (_one_minus(r, c) * Xi_1 - K)
    if s > 0:
        A, Xi = ab * (E * r + K), E + L
        far = ab * (E * _one_minus(r, c) + xp.minimum(Q_a, Q_b) - xp.minimum(k, m) * xp.minimum(e_a, e_b) - K)
    else:
        A, Xi = s * s - s * (a * e_a + b * e_b) + ab * K, L
        far = ab * (Xi_1 - K) + s * xp.minimum(a, b) * xp.minimum(e_a, e_b)
    return xp.where(near, A_1 - drop, A), xp.where(near, Xi_1 - L, Xi), xp.where(near, drop, far)


def _shifted_parallel(s: float, x: Array, y: Array) -> tuple[Array, Array]:
    """The averages at r = 1, whichever of a and b is the larger."""
    (a, k, Q_a, e_a, _), (b, m, Q_b, e_b, _), xp = x, y, array_module(x[0])
    if s > 0:
        Xi = 1 - xp.maximum(Q_a, Q_b)
        return a * b * (Xi - xp.minimum(k, m) * xp.minimum(e_a, e_b)), Xi
    Xi = xp.minimum(Q_a, Q_b)
    return s * s - s * xp.maximum(a, b) * xp.maximum(e_a, e_b) + a * b * Xi, Xi


def _corner(T: Array, p: Array, n: Array) -> tuple[Array, Array]:
    """L = P(z > k, z' > m) and K = E[(z - k)_+ (z' - m)_+], from T = tan(psi / 2), p = k + m, n = |k - m|.

    Both are 0 at r = -1, dK/dr = L, and dL/dr is the joint density at (k, m) (Price, Plackett). With r = -cos t and
    h = tan(t / 2), nothing cancels in

        L = 1/pi             int_0^T exp(-(p^2 + n^2 + p^2 / h^2 + n^2 h^2) / 8) / (1 + h^2) dh
        K = 2/pi / (1 + T^2) int_0^T exp(-(p^2 + n^2 + p^2 / h^2 + n^2 h^2) / 8) (T^2 - h^2) / (1 + h^2)^2 dh

    The same from r to 1 has 1 / T for T, and exchanges p and n. The exponent is largest at h = (p / n)^{1/2}: this has
    to lie beyond T, or p and n T to be small. Gauss's rule in the root of y = log(T / h), between T and where the terms
    are below rounding, then serves all sizes of p and n. The latter is where g = (T / h)^2 - 1 has
    g (alpha - beta / (1 + g)) = `end`, with alpha and beta the parts of the exponent at h = T.
    """
    xp, eps = array_module(T), float(np.finfo(T.dtype).eps)
    end = 1 - math.log(eps)
    alpha, beta = xp.clip((p / xp.maximum(T, 1e-12)) ** 2 / 8, 1e-30, 1e4), (n * T) ** 2 / 8
    d = alpha - beta - end
    Y = xp.minimum(xp.log1p((xp.sqrt(d * d + 4 * end * alpha) - d) / (2 * alpha)) / 2, end)
    L, K = 0 * (Y + T), 0 * (Y + T)
    for x, weight in zip(*_gauss(64 if eps < 1e-10 else 32), strict=True):
        y = Y * (x * x)
        g = xp.expm1(2 * y)
        share = g / (1 + g)  # 1 - (h / T)^2
        fraction = 1 / (1 + T * T * (1 - share))  # 1 / (1 + h^2)
        term = xp.exp(-y - g * alpha + share * beta) * fraction * (2 * x * weight)
        L += term
        K += term * share * fraction
    size = xp.exp(-(p * p + n * n) / 8 - alpha - beta) * Y * T / math.pi
    return size * L, 2 * size * T * T / (1 + T * T) * K


@lru_cache
def _gauss(n: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of Gauss's rule on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(n)
    return ((x + 1) / 2).tolist(), (w / 2).tolist()


# ------------------------------------------------------------------------------- angles between phi(u) and phi(v)


def _one_minus(r: Array, c: Array) -> Array:
    """1 - r, where c = sqrt(1 - r^2) knows it better than r."""
    positive = r > 0
    return array_module(r).where(positive, c * c / (1 + positive * r), 1 - r)


def _relu_gap(r: Array, c: Array) -> tuple[Array, Array]:
    """1 - (sin theta + (pi - theta) cos theta) / pi = 1 - cos theta - (sin theta - theta cos theta) / pi."""
    gap = _one_minus(r, c) - _segment(array_module(r).arctan2(c, r), c, r) / math.pi
    return gap, gap * (2 - gap)


def _shifted_gap(s: float, r: Array, c: Array, x: Array, y: Array) -> tuple[Array, Array]:
    xp, (drop, spread) = array_module(r), (_shifted_dual(s, r, c, x, y)[2], _shifted_spread(s, x, y))
    size = xp.sqrt(_shifted_parallel(s, x, x)[0]) * xp.sqrt(_shifted_parallel(s, y, y)[0])
    gap = xp.maximum(spread + drop / size, 0)
    return gap, gap * (2 - gap)


def _shifted_spread(s: float, x: Array, y: Array) -> Array:
    """1 - E[f g] = E[(f - g)^2] / 2 for f and g = phi(a z) and phi(b z), divided by the roots of their mean squares.

    Let k belong to f and m to g, k > m. For s > 0, f - g is linear where z > -m and constant where z < -k; in between
    f is linear and g constant. For s < 0 it is constant where z < m and linear where z > k; in between g is linear.
    """
    xp, swap = array_module(x[0]), x[1] < y[1]
    x, y = ([xp.where(swap, u, v) for u, v in zip(*pair, strict=True)] for pair in ((y, x), (x, y)))
    (a, k, Q_k, e_k, _), (b, m, Q_m, e_m, _) = x, y
    root_a, root_b = (xp.sqrt(_shifted_parallel(s, v, v)[0]) for v in (x, y))
    f, g, f_0, g_0 = a / root_a, b / root_b, abs(s) / root_a, abs(s) / root_b
    if s > 0:  # E[z^2] where both are linear, P(both are constant)
        square, share = 1 - Q_m - m * (e_m + m * Q_m), Q_k
    else:
        square, share = Q_k + k * (e_k + k * Q_k), 1 - Q_m
    total, width = (f - g) ** 2 * square + (f_0 - g_0) ** 2 * share, xp.minimum(k - m, 12)
    for t, weight in zip(*_gauss(32), strict=True):
        z = m + width * t
        pdf = width * xp.exp(-z * z / 2) * (weight / math.sqrt(2 * math.pi))
        total = total + pdf * (f * z - g_0 if s > 0 else g * z - f_0) ** 2
    return total / 2


def _erf_sides(r: Array, c: Array, x: Array, y: Array) -> tuple[Array, Array]:
    (_, s_a, k_a), (_, s_b, k_b) = x, y
    R = s_a * s_b
    return R * r, array_module(r).sqrt(k_a * k_a + (s_a * k_b) ** 2 + (R * c) ** 2)


def _erf_gap(r: Array, c: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """With the angles arcsin(R), where R is |R|, x_1 at r = 1, and x_a and x_b of u and of v alone.

    (x_a x_b)^{1/2} - arcsin(R) is made of their differences, each of which comes from its sine and cosine.
    """
    xp, one, zero = array_module(r), 0 * r + 1, 0 * r
    (a, s_a, k_a), (b, s_b, k_b) = x, y
    R, S = _erf_sides(abs(r), c, x, y)
    (R_1, S_1), (R_a, S_a), (R_b, S_b) = (_erf_sides(one, zero, *pair) for pair in ((x, y), (x, x), (y, y)))
    drop = xp.arctan2(R_1 * c * c / (S + abs(r) * S_1), S * S_1 + R * R_1)  # x_1 - arcsin(R)
    square = 2 * ((a - b) * k_a) * ((a + b) * k_b) * (k_a * k_b)  # s_a^2 - s_b^2
    p = xp.arctan2(s_a * square / (s_a * S_1 + s_b * S_a), S_a * S_1 + R_a * R_1)  # x_a - x_1
    q = xp.arctan2(-s_b * square / (s_b * S_1 + s_a * S_b), S_b * S_1 + R_b * R_1)  # x_b - x_1
    root_a, root_b = xp.sqrt(xp.arctan2(R_a, S_a)), xp.sqrt(xp.arctan2(R_b, S_b))
    gap = xp.maximum((p + q - ((p - q) / (root_a + root_b)) ** 2) / 2 + drop, 0) / (root_a * root_b)
    return xp.where(r < 0, 2 - gap, gap), gap * (2 - gap)
