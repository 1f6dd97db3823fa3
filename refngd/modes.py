"""Deep linear networks, a singular mode at a time: its layers s_1 .. s_d and their product under curvature correction.

    s_bar    = s_1 .. s_d,   s_Delta = s_bar - s_star,   j_i = prod_{k != i} s_k
    s_i'     = -eta s_Delta j_i / ||j||^{2/q}               Huh (12); NGD q = 1 (10), sqrt-NGD q = 2, SGD q = inf (5)
    s_i'     = -eta s_Delta j_i / (d^{1/2} |j_i|)^{2/q}     block-diagonal; NGD-d q = 1 (20), sqrt-NGD-d q = 2 (21)
    s_bar'   = sum_i j_i s_i' = -eta s_Delta ||j||^{2(1-1/q)}                                   (16)
             = -eta_bar s_Delta s_bar^p  if balanced, p = 2(d-1)(q-1)/(dq), eta_bar = eta d^{1-1/q}     (17)
    d_eff    = dq / (d+q-1)                                 (18)

With x = s_bar / s_star and T = eta_bar s_star^p t, (17) is x' = (1 - x) x^p. For p = 0, 1/2, 1, 2 `closed_form` is
explicit; `solution` and `time_to` solve it for any p, to rounding, from

    T        = G(x) - G(x_0),  G(x) = sum_{n>=0} x^{n+a} / (n+a),  a = 1 - p,  0 < x < 1

As y = 1 / x obeys y' = (1 - y) y^{1-p}, x > 1 is the same with a = p. The first two terms of the sum hold all that is
singular, at p = 1 and p = 2; their differences have no cancellation, and the limits there are logarithms.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, array_module
from .checks import checked_damping, checked_rate

# ----------------------------------------------------------------------------------------------- the layers, s (d, ..)


def jacobian(s: Array) -> Array:
    """j (d, ..) of s (d, ..): products of the other layers, without division, so that zeros are no exception."""
    xp = array_module(_checked_s(s))
    one = xp.ones_like(s[:1])
    before, after = (xp.cumprod(xp.concatenate([one, others]), axis=0) for others in (s[:-1], s[:0:-1]))
    return before * after[::-1]


def velocity(s: Array, s_star: Array | float, q: float = 1, block: bool = False, eta: float = 1.0) -> Array:
    """s' (d, ..) of layers s (d, ..) with targets s_star, a number or (..): Huh (5), (10), (12); block: (20), (21).

    NumPy or CuPy. A layer with j_i = 0 stays, and all do where j = 0, the saddle: as the pseudo-inverse has it. Neither
    over- nor underflows on the way to what can be represented. Raises ValueError for bad shapes, non-finite input,
    s_star < 0, q < 1, eta <= 0.
    """
    u, n, _ = _polar(s, _checked_q(q), block)
    return -checked_rate(eta) * _displacement(s, s_star) * u * n


def speed(s: Array, s_star: Array | float, q: float = 1, eta: float = 1.0) -> Array:
    """||s'|| = eta |s_Delta| ||j||^{1-2/q} (..) of the full rules, Huh (7), (11), (13), (14); 0 at the saddle j = 0.

    Arguments and errors of `velocity`.
    """
    _, n, _ = _polar(s, _checked_q(q), False)
    return checked_rate(eta) * abs(_displacement(s, s_star)) * n


def regularised(s: Array, s_star: Array | float, eps: float, eta: float = 1.0) -> Array:
    """s' (d, ..) of damped NGD, -eta (eps+1) s_Delta j / (eps + ||j||^2): Huh (S.I.16) with a ||j|| for eps.

    a = eps / ||j|| = 1 is sqrt-NGD. Arguments and errors of `velocity`; ValueError also for eps < 0.
    """
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps is {eps}; expected a finite number >= 0")
    eps = float(eps)
    if eps == 0:
        return velocity(s, s_star, 1, eta=eta)
    u, _, norm = _polar(s, math.inf, False)
    return -checked_rate(eta) * _displacement(s, s_star) * u * ((eps + 1) * norm / (eps + norm * norm))


def invariants(s: Array, q: float = 1, block: bool = False) -> Array:
    """What the flow conserves, (d-1, ..): s_i^2 - s_{i+1}^2 for all full rules, Huh (6).

    Block rules: |s_i|^{2(1-1/q)} - |s_{i+1}|^{2(1-1/q)}, Huh's footnote 4 with absolute values; its limit
    ln|s_i| - ln|s_{i+1}| at q = 1. Raises ValueError for bad shapes, non-finite input, q < 1, a zero under a logarithm.
    """
    xp, q = array_module(_checked_s(s)), _checked_q(q)
    if block and q == 1:
        if (s == 0).any():
            raise ValueError("s has a zero; expected none, since ln|s_i| - ln|s_{i+1}| is conserved at q = 1")
        g = xp.log(abs(s))
    else:
        g = abs(s) ** (2 * (1 - 1 / q) if block else 2)
    return g[:-1] - g[1:]


def _polar(s: Array, q: float, block: bool) -> tuple[Array, Array, Array]:
    """u = j / n (d, ..), n^{1-2/q} and n, with n = ||j|| (..), or n = d^{1/2} |j_i| (d, ..); 0, 0 and 0 where n is.

    j = size^{d-1} j(s / size) and the norm of j over its largest entry keep 1e-150 to the power d out of the way.
    """
    xp, power, depth = array_module(s), 1 - 2 / q, len(_checked_s(s)) - 1
    size = abs(s).max(0)
    size = xp.where(size > 0, size, 1)
    j = jacobian(s / size)
    top = abs(j) if block else abs(j).max(0)
    live = top > 0
    top = xp.where(live, top, 1)
    norm = top * (len(s) ** 0.5 if block else ((j / top) ** 2).sum(0) ** 0.5)
    norm = xp.where(live, norm, 1)
    return j / norm, live * norm**power * size ** (depth * power), live * norm * size**depth


def _displacement(s: Array, s_star: Array | float) -> Array:
    """s_Delta (..)."""
    xp = array_module(s)
    s_star = xp.asarray(s_star, dtype=s.dtype)
    if s_star.shape not in ((), s.shape[1:]):
        raise ValueError(f"s_star has shape {s_star.shape}; expected a number or {s.shape[1:]}")
    if not (xp.isfinite(s_star) & (s_star >= 0)).all():
        raise ValueError("s_star has an entry that is negative or not finite; expected finite numbers >= 0")
    return s[0] * jacobian(s)[0] - s_star


def _checked_s(s: Array) -> Array:
    if not getattr(s, "ndim", 0) or not len(s) or s.dtype.kind != "f":
        raise ValueError(f"s has shape {getattr(s, 'shape', None)}; expected floats (d, ..), d >= 1 layers")
    if not array_module(s).isfinite(s).all():
        raise ValueError("s has non-finite entries; expected finite numbers")
    return s


def _checked_q(q: float) -> float:
    return checked_damping(0.0, q)[1]


# ---------------------------------------------------------------------------------- their product if balanced, s_bar(t)


def exponent(d: float, q: float) -> float:
    """p = 2 (1 - 1/d) (1 - 1/q) of depth d and power q, 1 .. inf each: Huh (17), Table 1. ValueError for d, q < 1."""
    return 2 * (1 - 1 / _checked_d(d)) * (1 - 1 / _checked_q(q))


def effective_depth(d: float, q: float) -> float:
    """d_eff = dq / (d + q - 1), 1 .. inf each: the depth at which SGD has the p of d and q, (18). Raises as above."""
    inverse = 1 / _checked_d(d) + (1 - 1 / d) / _checked_q(q)
    return 1 / inverse if inverse else math.inf


def calibrated_rate(eta: float, d: float, q: float) -> float:
    """eta_bar = eta d^{1-1/q}, below Huh (17). Raises ValueError for eta <= 0 and as above."""
    return checked_rate(eta) * _checked_d(d) ** (1 - 1 / _checked_q(q))


def map_velocity(s_bar: ArrayLike, s_star: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0) -> np.ndarray:
    """s_bar' of balanced layers, Huh (17); of any layers, (16), it is (jacobian(s) * velocity(s, ..)).sum(0).

    Raises as `solution`.
    """
    s_bar, s_star, p, eta_bar = _checked(s_bar=s_bar, s_star=s_star, p=p, eta_bar=eta_bar)
    return -eta_bar * (s_bar - s_star) * s_bar**p


def closed_form(
    t: ArrayLike, s_star: ArrayLike, s0: ArrayLike, p: float, eta_bar: ArrayLike = 1.0
) -> np.ndarray | np.float64:
    """s_bar(t) for p = 0, 1/2, 1 or 2 and 0 < s0 < s_star, to read; `solution` is for all p and s0. Huh, below (17).

    Raises as `solution`, and for any other p or s0.
    """
    from scipy.special import wrightomega

    s0, s_star, _, eta_bar, t = _checked(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar, t=t)
    if p not in (0, 0.5, 1, 2):
        raise ValueError(f"p is {p}; expected 0, 1/2, 1 or 2, or call solution")
    if not ((s0 > 0) & (s0 < s_star)).all():
        raise ValueError("s0 is not between 0 and s_star; expected 0 < s0 < s_star, or call solution")
    x0, T = s0 / s_star, eta_bar * s_star**p * t
    y0 = 1 / x0 - 1
    if p == 0:
        return s_star * (1 - (1 - x0) * np.exp(-T))
    if p == 0.5:
        return s_star * np.tanh(T / 2 + np.arctanh(x0**0.5)) ** 2
    if p == 1:
        return s_star / (1 + y0 * np.exp(-T))
    return s_star / (1 + wrightomega(y0 + np.log(y0) - T))  # W(y0 e^{y0 - T}), W(z) e^{W(z)} = z, in logarithms


@np.errstate(all="ignore")  # of branches not taken, 1 / 0 at t = 0 or s0 = 0, and times beyond float64
def solution(
    t: ArrayLike, s_star: ArrayLike, s0: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0
) -> np.ndarray | np.float64:
    """s_bar(t) of Huh (17) from s_bar(0) = s0 >= 0 on either side of s_star, for 0 <= p <= 2; arguments broadcast.

    From s0 = 0 it leaves at once if p < 1, which is one of many solutions (to stay for any time is another), and stays
    if p >= 1. p = 0 allows s0 < 0. NumPy, float64, to a few rounding errors of each argument. Raises ValueError for
    t < 0, s_star <= 0, p outside [0, 2], s0 < 0 with p > 0, eta_bar <= 0, non-finite input and shapes that do not fit.
    """
    s0, s_star, p, eta_bar, t = _checked(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar, t=t)
    T = eta_bar * s_star**p * t
    y = _advance(T, *_below_one(s_star, s0, p))
    s = np.where(s0 > s_star, s_star / y, s_star * y)
    s = np.where(p == 0, s0 * np.exp(-T) - s_star * np.expm1(-T), s)
    return np.where((T == 0) | (s0 == s_star) | ((s0 == 0) & (p >= 1)), s0, s)[()]


@np.errstate(all="ignore")  # as above
def time_to(
    fraction: ArrayLike, s_star: ArrayLike, s0: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0
) -> np.ndarray | np.float64:
    """The time t >= 0 at which `solution` is fraction * s_star, inf if it never is; arguments broadcast.

    Every fraction strictly between s0 / s_star and 1 is reached, but for s0 = 0 with p >= 1. Raises as `solution`.
    """
    s0, s_star, p, eta_bar, x = _checked(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar, fraction=fraction)
    x0, above = s0 / s_star, s0 > s_star
    T = _elapsed(*_below_one(s_star, s0, p), np.where(above, 1 / x, x), abs(1 - x) / np.maximum(x, 1))
    T = np.where(p == 0, np.log1p((x - x0) / (1 - x)), T)
    reached = np.where(above, (x > 1) & (x < x0), (x > x0) & (x < 1))
    return (np.where(x == x0, 0, np.where(reached, T, math.inf)) / (eta_bar * s_star**p))[()]


@np.errstate(all="ignore")  # as above
def escape_time(s_star: ArrayLike, s0: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0) -> np.ndarray | np.float64:
    """The time that s_bar' = eta_bar s_star s_bar^p, linear in s_Delta at the saddle, takes from s0 to s_star.

    s_star^{-p} (1 - (s0/s_star)^{1-p}) / (1-p) / eta_bar, -ln(s0/s_star) / s_star at p = 1; inf at s0 = 0 if p >= 1.
    It is the leading term of `time_to` as s0 -> 0: Huh 4.2. Arguments broadcast; raises as `solution`.
    """
    s0, s_star, p, eta_bar = _checked(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar)
    return (_power_difference(1 - p, s0 / s_star, 1.0) / (eta_bar * s_star**p))[()]


def _below_one(s_star, s0, p):
    """a, y0 and 1 - y0, with y = x and a = 1 - p for s0 < s_star, y = 1 / x and a = p for s0 > s_star."""
    low, high = np.minimum(s0, s_star), np.maximum(s0, s_star)
    return np.where(s0 > s_star, p, 1 - p), low / high, (high - low) / high


def _elapsed(a, y0, m0, y, m):
    """T = sum_n (y^{n+a} - y0^{n+a}) / (n+a), with m = 1 - y, m0 = 1 - y0."""
    singular = _power_difference(a, y0, y) + _power_difference(a + 1, y0, y)
    return singular + _tail(a + 2, y, m) - _tail(a + 2, y0, m0)


def _power_difference(a, y0, y):
    """(y^a - y0^a) / a, ln(y / y0) at a = 0, without cancellation for y near y0 or a near 0."""
    L = np.log(y / y0)
    near = np.where(a == 0, L, y0**a * np.expm1(a * L) / a)
    return np.where((a == 0) | (abs(a * L) < 1), near, (y**a - y0**a) / a)


def _tail(b, y, m):
    """sum_{n>=0} y^{n+b} / (n+b) for 1 <= b <= 4, 0 <= y = 1 - m < 1: the incomplete beta function B(y; b, 0).

    For y > 1/2 the series -ln m - psi(b) - gamma - sum_k (1-b)_k m^k / (k! k): SciPy's hyp2f1 may be wrong by more than
    its value near y = 1, where (b+1) - 1 - b is not 0 in rounding, as for b = 5/3.
    """
    from scipy.special import digamma, hyp2f1

    low = y**b / b * hyp2f1(b, 1, b + 1, np.minimum(y, 0.5))
    m_high, series, term = np.minimum(m, 0.5), 0, 1
    for k in range(1, 50):
        term = term * (k - b) / k * m_high
        series = series + term / k
    return np.where(y < 0.5, low, -np.log(m) - digamma(b) - np.euler_gamma - series)


def _advance(T, a, y0, m0):
    """y(T) from y0 = 1 - m0: solves `_elapsed` = T in z = ln(y / m), dT/dz = y^a, by Newton steps within a bracket.

    y' <= y^{1-a} bounds y by that of the saddle; odds y / m are above it if a > 0, and dz/dT <= 1 if a < 0.
    """
    from scipy.special import expit

    saddle = _log_saddle(T, a, y0)
    z0 = np.log(y0 / m0)
    low = np.where(a > 0, np.maximum(z0, saddle - 1), z0)  # 1: for rounding
    low, high = np.clip(low, -745, 700), np.minimum(np.maximum(z0, 0) + 4 * T, 700)  # y = 1 there
    z, step = low, high - low
    for _ in range(128):
        y = expit(z)
        excess = _elapsed(a, y0, m0, y, expit(-z)) - T
        low, high = np.where(excess < 0, z, low), np.where(excess > 0, z, high)
        newton = z - excess / y**a
        slow = ~((low <= newton) & (newton <= high) & (abs(newton - z) <= abs(step) / 2))
        z, last = np.where(slow, (low + high) / 2, newton), z
        step = z - last
        if not (abs(step) > 1e-15 * (1 + abs(z))).any():
            break
    y, m = np.where(saddle < -40, [np.exp(saddle), np.ones_like(z)], [expit(z), expit(-z)])
    correction = (_elapsed(a, y0, m0, y, m) - T) * m * y**-a  # of ln y: z = -700 gives y to 700 eps only
    return y * (1 - np.where((y < 0.5) & (abs(correction) < 1e-6), correction, 0))


def _log_saddle(T, a, y0):
    """ln y for the solution of y' = y^{1-a}, (y0^a + a T)^{1/a}, y0 e^T at a = 0; inf where it has blown up."""
    growth = a * T * y0**-a
    near = np.log(y0) + np.where(a == 0, T, np.log1p(growth) / a)
    return np.where(growth <= -1, math.inf, np.where((growth < 1) | (a == 0), near, np.log(y0**a + a * T) / a))


def _checked_d(d: float) -> float:
    if not d >= 1:
        raise ValueError(f"d is {d}; expected a number in [1, inf]")
    return float(d)


_EXPECTED = {
    "s_star": (lambda x: x > 0, "> 0"),
    "eta_bar": (lambda x: x > 0, "> 0"),
    "t": (lambda x: x >= 0, ">= 0"),
    "p": (lambda x: (x >= 0) & (x <= 2), "in [0, 2]"),
}


def _checked(**arguments: ArrayLike) -> list[np.ndarray]:
    """The arguments as float64, broadcast, or ValueError; the first may be negative only where p is 0."""
    arrays = {}
    for name, value in arguments.items():
        if array_module(value) is not np:
            raise ValueError(f"{name} is on the GPU; expected a number or a NumPy array")
        arrays[name] = x = np.asarray(value, dtype=float)
        holds, expected = _EXPECTED.get(name, (np.isfinite, ""))
        wrong = ~(np.isfinite(x) & holds(x))
        if wrong.any():
            raise ValueError(f"{name} is {x[wrong][0]:g}; expected finite numbers {expected}".rstrip())
    try:
        values = np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
        raise ValueError(f"the shapes are {shapes}; expected shapes that broadcast") from None
    if ((values[0] < 0) & (values[list(arrays).index("p")] > 0)).any():
        raise ValueError(f"{next(iter(arrays))} is {values[0].min():g} where p > 0; expected numbers >= 0")
    return values
