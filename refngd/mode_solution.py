"""The product s_bar(t) of balanced layers of a mode, as a function of time: the solution of Huh (17).

    s_bar' = -eta_bar (s_bar - s_star) |s_bar|^p,   0 <= p <= 2

With x = s_bar / s_star and T = eta_bar s_star^p t it is x' = (1 - x) x^p. For p = 0, 1/2, 1, 2 `closed_form` is
explicit. For any p, from below, 0 < x < 1, the time is the integral of 1 / ((1 - x) x^p), by the geometric series

    T = G(x) - G(x_0),   G(x) = sum_{n>=0} x^{n+a} / (n+a),   a = 1 - p

From above, y = 1 / x < 1 obeys y' = -x' / x^2 = (1 - y) y^{1-p}: the same, with a = p. So all is written for y and a in
[-1, 2]. The first two terms of the sum hold all that is singular, at a = 0 and a = -1 where the limits are logarithms;
their differences are taken without cancellation, and the rest, from n = 2 on, is an incomplete beta function.

From a negative s_bar, u = -x > 0 sinks to the saddle by u' = -(1 + u) u^p, in which the signs of the series alternate:

    T = H_a(u_0) - H_a(u),   H_a(u) = sum_{n>=0} (-1)^n u^{n+a} / (n+a)   for u < 1;   for u > 1, 1 / u and a = p

For p < 1 it arrives in time, and goes on as from 0. Without a target, s_star = 0, s_bar' = -eta_bar s_bar |s_bar|^p.

`time_to` is this T. `solution` inverts it by Newton steps in the log-odds z = ln(y / (1 - y)), in which

    dT/dz = y^a

is smooth from end to end: both y near 0, where the mode leaves the saddle, and y near 1, where it ends, are far out.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from .arrays import array_module
from .checks import checked_values

LEAST = float(np.finfo(float).tiny)  # smaller numbers have fewer digits
# Newton's method
FAR = (
    40.0  # |z|: e^-40 < eps / 50, so that above y is 1, and below the solution of the saddle, which leaves y out, is y
)
STEPS = 128  # at most: each halves the last step or the bracket, which is 2 FAR wide, and 60 halvings are rounding
CONVERGED = 1e-15  # of a step in z, relative to 1 + |z|: a few eps
CORRECTION = 1e-6  # of ln y, the largest that is taken for the rounding of z or of ln y, and not for a failure
# The incomplete beta function
TERMS = 50  # of the series in m <= 1/2: the next is below 2^-50 / 50 < eps


def map_velocity(s_bar: ArrayLike, s_star: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0) -> np.ndarray:
    """s_bar' of balanced layers, Huh (17); of any layers, (16), it is (jacobian(s) * velocity(s, ..)).sum(0).

    Arguments and errors of `solution`; FloatingPointError also if it overflows.
    """
    s_bar, s_star, p, eta_bar = _checked(s_bar=s_bar, s_star=s_star, p=p, eta_bar=eta_bar)
    with np.errstate(over="ignore"):  # reported below
        speed = -eta_bar * (s_bar - s_star) * abs(s_bar) ** p
    _require(np.isfinite(speed), "s_bar' overflows")
    return speed[()]


def closed_form(
    t: ArrayLike, s_star: ArrayLike, s0: ArrayLike, p: float, eta_bar: ArrayLike = 1.0
) -> np.ndarray | np.float64:
    """s_bar(t) for p = 0, 1/2, 1 or 2 and s0 < s_star, to read; `solution` is for all p and s0. Huh, below (17).

    Arguments and errors of `solution`; ValueError also for any other p, and unless s0 < s_star or s_star = 0.
    """
    s0, s_star, _, eta_bar, t = _checked(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar, t=t)
    if p not in (0, 0.5, 1, 2):
        raise ValueError(f"p is {p}; expected 0, 1/2, 1 or 2, or call solution")
    if not ((s0 < s_star) | (s_star == 0)).all():
        raise ValueError("s0 is not below s_star; expected s0 < s_star or s_star = 0, or call solution")
    formula = {0: _closed_0, 0.5: _closed_half, 1: _closed_1, 2: _closed_2}[p]
    with np.errstate(all="ignore"):  # of branches not taken
        x0, T = s0 / s_star, eta_bar * s_star**p * t
        free = s0 * np.exp(-eta_bar * t) if p == 0 else s0 * (1 + p * eta_bar * abs(s0) ** p * t) ** (-1 / p)
        return np.where(s_star == 0, free, s_star * formula(x0, T))[()]


def _closed_0(x0, T):
    return 1 - (1 - x0) * np.exp(-T)


def _closed_half(x0, T):
    """tan^2 from below 0, as u^{1/2}' = -(1 + u) / 2, and from 0 on tanh^2, as x^{1/2}' = (1 - x) / 2."""
    phase = T / 2 - np.arctan(abs(x0) ** 0.5)
    below = np.where(phase < 0, -(np.tan(phase) ** 2), np.tanh(phase) ** 2)
    return np.where(x0 < 0, below, np.tanh(T / 2 + np.arctanh(abs(x0) ** 0.5)) ** 2)


def _closed_1(x0, T):
    """Logistic in x; and u / (1 + u) = e^{-T} u_0 / (1 + u_0)."""
    return np.where(x0 < 0, -1 / (np.expm1(T) - np.exp(T) / x0), x0 / (x0 + (1 - x0) * np.exp(-T)))


def _closed_2(x0, T):
    """y = 1/x - 1 has y + ln y = y_0 + ln y_0 - T, and w = 1/u + 1 has w - ln w = w_0 - ln w_0 + T.

    So y = W_0(y_0 e^{y_0 - T}) and w = -W_{-1}(-w_0 e^{-w_0 - T}), W(z) e^{W(z)} = z, here in logarithms.
    """
    from scipy.special import wrightomega

    y0, w0 = 1 / x0 - 1, 1 - 1 / x0
    branches = [-wrightomega(np.log(w0) - w0 - T + side * 1j * math.pi).real for side in (-1, 1)]
    w = np.maximum(*branches)  # it is above 1; on the cut SciPy may give either
    above = 1 / (1 + wrightomega(y0 + np.log(y0) - T))
    return np.where(x0 < 0, 1 / (1 - w), np.where(x0 == 0, 0, above))


@np.errstate(all="ignore")  # of branches not taken, 1 / 0 at t = 0 or s0 = 0, and times beyond float64
def solution(
    t: ArrayLike, s_star: ArrayLike, s0: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0
) -> np.ndarray | np.float64:
    """s_bar(t) of Huh (17), on either side of s_star, to a few rounding errors of each argument.

    t: times, >= 0. All arguments are numbers or NumPy arrays, in float64, and broadcast.
    s_star: targets, >= 0.
    s0: s_bar(0). From 0 it leaves at once if p < 1, which is one of many solutions (to stay for any time is another),
        and stays if p >= 1. From below it takes all of the time to 0 if p >= 1, and for p < 1 passes it.
    p: exponents in [0, 2], see `modes.exponent`.
    eta_bar: rates > 0, see `modes.calibrated_rate`.

    Raises ValueError for other numbers, and shapes that do not fit, and FloatingPointError where s0 / s_star or its
    inverse, or eta_bar s_star^p t, is out of the range of float64.
    """
    s0, s_star, p, eta_bar, t = _checked(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar, t=t)
    free, below = s_star == 0, (s0 < 0) & (p > 0)
    unit = np.where(free, np.where(s0 == 0, 1, abs(s0)), s_star)
    root = unit ** (p / 2)  # s_star^p may be out of range where T is not
    T = (eta_bar * root) * (root * t)
    _require(
        (T >= LEAST) | (t == 0) | (p == 0) | (abs(s0) <= s_star) & ((s0 != 0) | (p >= 1)),
        "eta_bar s_star^p t underflows",
    )
    up = np.where(below, np.maximum(T - _time_below(unit, s0, p), 0), T)  # the time since 0
    y = _advance(up, *_below_one(unit, np.where(below, 0, s0), p))
    s = np.where(s0 > s_star, unit / y, unit * y)
    if below.any():
        _below_one(unit, s0, p)  # refuses what is out of range
        s = np.where(up == 0, -_sinking(T, 1 - p, abs(s0) / unit, unit), s)
    s = np.where(p == 0, s0 * np.exp(-T) - s_star * np.expm1(-T), s)
    s = np.where(free & (p > 0), s0 * np.exp(-np.log1p(p * T) / np.where(p > 0, p, 1)), s)
    return np.where((T == 0) | (s0 == s_star) | ((s0 == 0) & (p >= 1)), s0, s)[()]


@np.errstate(all="ignore")  # as in `solution`
def time_to(
    fraction: ArrayLike, s_star: ArrayLike, s0: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0
) -> np.ndarray | np.float64:
    """The time t >= 0 at which `solution` is fraction * s_star, inf if it never is.

    fraction: finite numbers.
    s_star: targets, > 0.
    s0, p, eta_bar: those of `solution`.

    Every fraction strictly between s0 / s_star and 1 is reached, but for s0 = 0 with p >= 1, and for p >= 1 none across
    0. Raises as `solution`, and ValueError for s_star = 0.
    """
    s0, s_star, p, eta_bar, x = _checked_target(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar, fraction=fraction)
    x0, above, below = s0 / s_star, s0 > s_star, (s0 < 0) & (p > 0)
    start, end = np.where(below, 0, s0), np.where(below, np.maximum(x, 0), x)
    T = _elapsed(*_below_one(s_star, start, p), np.where(above, 1 / end, end), abs(1 - end) / np.maximum(end, 1))
    through = _time_below(s_star, s0, p) + np.where(x > 0, T, 0)  # by way of 0
    T = np.where(below, np.where(x < 0, _sunk(1 - p, -x0, -x), through), T)
    T = np.where(p == 0, np.log1p((x - x0) / (1 - x)), T)
    reached = np.where(above, (x > 1) & (x < x0), (x > x0) & (x < 1))
    return _time(np.where(x == x0, 0, np.where(reached, T, math.inf)), s_star, p, eta_bar)


@np.errstate(all="ignore")  # as in `solution`
def escape_time(s_star: ArrayLike, s0: ArrayLike, p: ArrayLike, eta_bar: ArrayLike = 1.0) -> np.ndarray | np.float64:
    """The time that s_bar' = eta_bar s_star s_bar^p, linear in s_Delta at the saddle, takes from s0 to s_star.

    s_star^{-p} (1 - (s0/s_star)^{1-p}) / (1-p) / eta_bar, -ln(s0/s_star) / s_star at p = 1; inf at s0 = 0 if p >= 1.
    It is the leading term of `time_to` as s0 -> 0: Huh 4.2. Arguments and errors of `solution`; ValueError also for
    s_star = 0, and for s0 < 0 with p > 0.
    """
    s0, s_star, p, eta_bar = _checked_target(s0=s0, s_star=s_star, p=p, eta_bar=eta_bar)
    if ((s0 < 0) & (p > 0)).any():
        raise ValueError(f"s0 is {s0.min():g} where p > 0; expected numbers >= 0")
    _below_one(s_star, s0, p)  # refuses what is out of range
    return _time(_power_difference(1 - p, s0 / s_star, 1.0), s_star, p, eta_bar)


def _time(T: np.ndarray, s_star: np.ndarray, p: np.ndarray, eta_bar: np.ndarray) -> np.ndarray | np.float64:
    """t of T = eta_bar s_star^p t."""
    root = s_star ** (p / 2)
    return (T / root / eta_bar / root)[()]


def _below_one(s_star: np.ndarray, s0: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, y0 and 1 - y0, with y = x and a = 1 - p for s0 < s_star, y = 1 / x and a = p for s0 > s_star."""
    low, high = np.minimum(s0, s_star), np.maximum(s0, s_star)
    ratio = abs(s0) / s_star
    apart = (s0 != 0) & ~((ratio >= LEAST) & (ratio <= 1 / LEAST))
    _require(~apart, "s0 and s_star are too far apart: their ratio is out of range")
    return np.where(s0 > s_star, p, 1 - p), low / high, (high - low) / high


def _elapsed(a, y0, m0, y, m):
    """T = sum_n (y^{n+a} - y0^{n+a}) / (n+a), with m = 1 - y, m0 = 1 - y0."""
    singular = _power_difference(a, y0, y) + _power_difference(a + 1, y0, y)
    return singular + _rest(a + 2, y, m) - _rest(a + 2, y0, m0)


def _power_difference(a, y0, y):
    """(y^a - y0^a) / a, ln(y / y0) at a = 0, without cancellation for y near y0 or a near 0."""
    L = np.log(y / y0)
    near = np.where(a == 0, L, y0**a * np.expm1(a * L) / a)
    return np.where((a == 0) | (abs(a * L) < 1), near, (y**a - y0**a) / a)


def _rest(b, y, m):
    """sum_{n>=0} y^{n+b} / (n+b) for 1 <= b <= 4, 0 <= y = 1 - m < 1: the incomplete beta function B(y; b, 0).

    For y > 1/2 the series -ln m - psi(b) - gamma - sum_k (1-b)_k m^k / (k! k): SciPy's hyp2f1 may be wrong by more than
    its value near y = 1, where (b+1) - 1 - b is not 0 in rounding, as for b = 5/3.
    """
    from scipy.special import digamma, hyp2f1

    low = y**b / b * hyp2f1(b, 1, b + 1, np.minimum(y, 0.5))
    m_high, series, term = np.minimum(m, 0.5), 0, 1
    for k in range(1, TERMS):
        term = term * (k - b) / k * m_high
        series = series + term / k
    return np.where(y < 0.5, low, -np.log(m) - digamma(b) - np.euler_gamma - series)


def _advance(T, a, y0, m0):
    """y(T) from y0 = 1 - m0: solves `_elapsed` = T in z by Newton steps within a bracket, by bisection where they fail.

    y' <= y^{1-a} bounds y by that of the saddle; the odds y / m are above it if a > 0, and dz/dT <= 1 if a < 0.
    """
    from scipy.special import expit

    def excess(z):
        return _elapsed(a, y0, m0, expit(z), expit(-z)) - T

    saddle, z0 = _log_saddle(T, a, y0), np.log(y0 / m0)
    low = np.clip(np.where(a > 0, np.maximum(z0, saddle - 1), z0), -FAR - 1, FAR)  # 1 is more than rounding
    high = np.minimum(np.maximum(z0, 0) + 4 * T, FAR)
    z = _root(excess, lambda z: expit(z) ** a, low, high)
    y, m = np.where(saddle < -FAR, [np.exp(saddle), np.ones_like(z)], [expit(z), expit(-z)])
    return np.where(y < 0.5, _corrected(y, (T - _elapsed(a, y0, m0, y, m)) * m * y**-a), y)


def _corrected(y, change):
    """y by this change of ln y, which is |ln y| eps off."""
    return y * (1 + np.where(abs(change) < CORRECTION, change, 0))


def _root(excess, slope, low, high):
    """Where an increasing function `excess` of that `slope` is 0, from `low` on: by Newton steps, and bisection."""
    z, step = low, high - low
    for _ in range(STEPS):
        value = excess(z)
        low, high = np.where(value < 0, z, low), np.where(value > 0, z, high)
        newton = z - value / slope(z)
        slow = ~((low <= newton) & (newton <= high) & (abs(newton - z) <= abs(step) / 2))
        z, last = np.where(slow, (low + high) / 2, newton), z
        step = z - last
        if not (abs(step) > CONVERGED * (1 + abs(z))).any():
            break
    return z


def _sinking(T, a, u0, unit):
    """unit u(T) from u0 > 0, by u' = -(1 + u) u^{1-a}, before it is 0."""
    start = np.log(np.where(u0 > 0, u0, 1))
    end = -math.log(LEAST)
    z = _root(lambda z: _sunk(a, u0, np.exp(-z)) - T, lambda z: np.exp(-a * z) / (1 + np.exp(-z)), -start, end)
    u, tail = np.exp(-z), _log_saddle(_sunk(a, u0, LEAST) - T, a, LEAST)  # ln u where u is below all numbers
    u = _corrected(u, (_sunk(a, u0, u) - T) * (1 + u) * u**-a)
    return np.where(z < end - 1e-9, unit * u, np.exp(np.log(unit) + tail))


def _time_below(s_star, s0, p):
    """T of s0 < 0 until 0, inf if p >= 1."""
    return np.where(p < 1, _sunk(1 - p, np.maximum(-s0, 0) / s_star, 0.0), math.inf)


def _sunk(a, u0, u):
    """The time T from u0 down to u."""
    low = _alternating(a, np.minimum(u, 1), np.minimum(u0, 1))
    return low + _alternating(1 - a, 1 / np.maximum(u0, 1), 1 / np.maximum(u, 1))


def _alternating(a, y0, y):
    """sum_n (-1)^n (y^{n+a} - y0^{n+a}) / (n+a) for 0 <= y0 <= y <= 1, the integral of v^{a-1} / (1 + v)."""
    from scipy.special import hyp2f1

    def rest(y):  # sum_{n>=2}, by a transformation whose terms are positive
        return y ** (a + 2) / (a + 2) * hyp2f1(1, 1, a + 3, y / (1 + y)) / (1 + y)

    return _power_difference(a, y0, y) - _power_difference(a + 1, y0, y) + rest(y) - rest(y0)


def _log_saddle(T, a, y0):
    """ln y for the solution of y' = y^{1-a}, (y0^a + a T)^{1/a}, y0 e^T at a = 0; inf where it has blown up."""
    growth = a * T * y0**-a
    near = np.log(y0) + np.where(a == 0, T, np.log1p(np.maximum(growth, -1)) / a)
    return np.where((growth < 1) | (a == 0), near, np.log(y0**a + a * T) / a)


def _require(holds: np.ndarray, what: str) -> None:
    if not holds.all():
        raise FloatingPointError(f"{what}; expected numbers whose results float64 can hold")


_EXPECTED = {
    "s_star": (lambda x: x >= 0, ">= 0"),
    "eta_bar": (lambda x: x > 0, "> 0"),
    "t": (lambda x: x >= 0, ">= 0"),
    "p": (lambda x: (x >= 0) & (x <= 2), "in [0, 2]"),
}


def _checked(**arguments: ArrayLike) -> list[np.ndarray]:
    """The arguments as float64, broadcast, or ValueError."""
    arrays = {}
    for name, value in arguments.items():
        if array_module(value) is not np:
            raise ValueError(f"{name} is on the GPU; expected a number or a NumPy array")
        arrays[name] = x = checked_values(name, value).astype(float)
        holds, expected = _EXPECTED.get(name, (np.isfinite, ""))
        wrong = ~(np.isfinite(x) & holds(x))
        if wrong.any():
            raise ValueError(f"{name} is {x[wrong][0]:g}; expected finite numbers {expected}".rstrip())
    try:
        return list(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
        raise ValueError(f"the shapes are {shapes}; expected shapes that broadcast") from None


def _checked_target(**arguments: ArrayLike) -> list[np.ndarray]:
    """As `_checked`, with s_star > 0."""
    values = _checked(**arguments)
    if (values[1] == 0).any():
        raise ValueError("s_star is 0; expected finite numbers > 0")
    return values
