"""Deep linear networks, a singular mode at a time: its layers s_1 .. s_d and their product under curvature correction.

    s_bar    = s_1 .. s_d,   s_Delta = s_bar - s_star,   j_i = prod_{k != i} s_k
    s_i'     = -eta s_Delta j_i / ||j||^{2/q}               Huh (12); NGD q = 1 (10), sqrt-NGD q = 2, SGD q = inf (5)
    s_i'     = -eta s_Delta j_i / (d^{1/2} |j_i|)^{2/q}     block-diagonal; NGD-d q = 1 (20), sqrt-NGD-d q = 2 (21)
    s_bar'   = sum_i j_i s_i' = -eta s_Delta ||j||^{2(1-1/q)}                                   (16)
             = -eta_bar s_Delta s_bar^p  if balanced, p = 2(d-1)(q-1)/(dq), eta_bar = eta d^{1-1/q}     (17)
    d_eff    = dq / (d+q-1)                                 (18)

`mode_solution` solves (17) in time; what it offers is to be had from here as well. `unbalanced` solves (12) for d = 2.
"""

import math

import numpy as np

from .arrays import Array, array_module
from .checks import checked_array, checked_flag, checked_number, checked_positive, checked_power, checked_values
from .mode_solution import closed_form, escape_time, map_velocity, solution, time_to  # noqa: F401


def jacobian(s: Array) -> Array:
    """j (d, ..) of s (d, ..): products of the other layers, without division, so that zeros are no exception."""
    xp, d = array_module(_checked_layers(s)), len(s)
    before, after = [xp.ones_like(s[0])] * d, [xp.ones_like(s[0])] * d
    for i in range(1, d):
        before[i] = before[i - 1] * s[i - 1]
    for i in range(d - 1, 0, -1):
        after[i - 1] = after[i] * s[i]
    return xp.stack(before) * xp.stack(after)


def velocity(s: Array, s_star: Array | float, q: float = 1, block: bool = False, eta: float = 1.0) -> Array:
    """s' (d, ..) of the layers, -eta s_Delta j_i / ||j||^{2/q}: Huh (5), (10), (12); of block rules (20), (21).

    s: (d, ..), the layers, floats of NumPy or CuPy.
    s_star: a number or (..), the targets, >= 0.
    q: the power, in [1, inf].
    block: d^{1/2} |j_i| in place of ||j||.
    eta: the learning rate.

    A layer with j_i = 0 stays, and all do where j = 0, the saddle: as the pseudo-inverse has it. Raises ValueError for
    other arguments, and FloatingPointError where s' itself is out of range.
    """
    q, (j, e), (Delta, x) = checked_power("q", q), _scaled_jacobian(s), _scaled_displacement(s, s_star)
    power, k = _scaled_power(*_scaled_norm(j, e, checked_flag("block", block)), q)
    return _unscaled(-checked_positive("eta", eta) * Delta * j * power, x + e + k)


def speed(s: Array, s_star: Array | float, q: float = 1, eta: float = 1.0) -> Array:
    """||s'|| = eta |s_Delta| ||j||^{1-2/q} (..) of the full rules, Huh (7), (11), (13), (14); 0 at the saddle j = 0.

    Arguments and errors of `velocity`.
    """
    q, (j, e), (Delta, x) = checked_power("q", q), _scaled_jacobian(s), _scaled_displacement(s, s_star)
    power, k = _scaled_power(*_scaled_norm(j, e), q, 1)
    return _unscaled(checked_positive("eta", eta) * abs(Delta) * (j != 0).any(0) * power, x + k)


def regularised(s: Array, s_star: Array | float, eps: float, eta: float = 1.0) -> Array:
    """s' (d, ..) of damped NGD, -eta (eps+1) s_Delta j / (eps + ||j||^2): Huh (S.I.16) with a ||j|| for eps.

    s, s_star, eta: those of `velocity`.
    eps: the damping, >= 0.

    a = eps / ||j|| = 1 is sqrt-NGD. Raises as `velocity`, and ValueError for eps < 0.
    """
    eps = checked_number("eps", eps, "a finite number >= 0", lambda v: 0 <= v < math.inf)
    (j, e), (Delta, x) = _scaled_jacobian(s), _scaled_displacement(s, s_star)
    norm, k = _scaled_norm(j, e)
    xp, (damping, y), (gain, z) = array_module(s), math.frexp(eps), math.frexp(eps + 1)
    top = xp.maximum(2 * k, y) if eps else 2 * k
    H = xp.ldexp(damping * xp.ones_like(norm), y - top) + xp.ldexp(norm * norm, 2 * k - top)  # (eps + ||j||^2) / 2^top
    return _unscaled(-checked_positive("eta", eta) * gain * Delta * j / H, x + e + z - top)


@np.errstate(all="ignore")  # `_in_range` reports it
def invariants(s: Array, q: float = 1, block: bool = False) -> Array:
    """What the flow conserves, (d-1, ..): s_i^2 - s_{i+1}^2 for all full rules, Huh (6).

    Block rules: |s_i|^{2(1-1/q)} - |s_{i+1}|^{2(1-1/q)}, Huh's footnote 4 with absolute values; its limit
    ln|s_i| - ln|s_{i+1}| at q = 1. Raises ValueError for bad shapes, non-finite input, q < 1, a zero under a logarithm,
    and FloatingPointError where it is out of range.
    """
    xp, q = array_module(_checked_layers(s)), checked_power("q", q)
    if checked_flag("block", block) and q == 1:
        if (s == 0).any():
            raise ValueError("s has a zero; expected none, since ln|s_i| - ln|s_{i+1}| is conserved at q = 1")
        g = xp.log(abs(s))
    else:
        g = abs(s) ** (2 * (1 - 1 / q) if block else 2)
    return _in_range(g[:-1] - g[1:])


@np.errstate(all="ignore")  # `_in_range` reports it
def unbalanced(t: Array, s: Array, s_star: Array | float, q: float = math.inf, eta: float = 1.0) -> Array:
    """s(t) (2, ..) of two layers from s at t = 0, balanced or not, under SGD, q = inf, or NGD, q = 1: Huh (5), (10).

    With A = s_1 + s_2, B = s_1 - s_2, which keep their signs, and c = A B = s_1^2 - s_2^2, which is conserved,

        SGD:  (A^2)' = -eta/2 (A^2 - r - 2 s_star)(A^2 + r - 2 s_star),   r = (4 s_star^2 + c^2)^{1/2}
              (B^2)' = -eta/2 (B^2 - r + 2 s_star)(B^2 + r + 2 s_star)
        NGD:  s_bar  = s_star + (s_bar(0) - s_star) e^{-eta t},   A^2, B^2 = (4 s_bar^2 + c^2)^{1/2} +- 2 s_bar

    t: times >= 0, (..) of s or a number.
    s: (2, ..), the layers at t = 0.
    s_star, eta: those of `velocity`.
    q: inf or 1.

    Under NGD a mode with A = 0 and s_bar < 0 would meet the saddle, where s' is infinite. Raises ValueError for this
    and for other arguments, and FloatingPointError where the result is out of range.
    """
    xp, Delta = array_module(_checked_layers(s)), _unscaled(*_scaled_displacement(s, s_star))
    if len(s) != 2 or checked_power("q", q) not in (1, math.inf):
        raise ValueError(f"s has {len(s)} layers and q is {q}; expected 2 layers, and 1 or inf")
    t = checked_values("t", t)
    if not (xp.isfinite(xp.asarray(t)) & (xp.asarray(t) >= 0)).all():
        raise ValueError("t has an entry that is negative or not finite; expected finite numbers >= 0")
    A, B, s_star, time = s[0] + s[1], s[0] - s[1], s[0] * s[1] - Delta, checked_positive("eta", eta) * xp.asarray(t)
    if q == 1:
        if ((A == 0) & (B != 0) & (Delta < 0)).any():
            raise ValueError("s has s_1 = -s_2, with which NGD runs into the saddle; expected another start")
        s_bar = s_star + Delta * xp.exp(-time)
        A2, B2 = _squares(2 * s_bar, A * B)
    else:
        high, low = _squares(2 * s_star, A * B)
        A2, B2 = _riccati(A * A, high, low, time), _riccati(B * B, low, high, time)
    A, B = (xp.where(a < 0, -1, 1) * a2**0.5 for a, a2 in ((A, A2), (B, B2)))
    return _in_range(xp.stack([A + B, A - B]) / 2)


def _squares(a: Array, c: Array) -> tuple[Array, Array]:
    """(a^2 + c^2)^{1/2} + a and - a, whose product is c^2, without cancellation."""
    xp, size = array_module(a), array_module(a).hypot(a, c) + abs(a)
    other = xp.where(size > 0, c * (c / xp.where(size > 0, size, 1)), 0)
    return xp.where(a > 0, size, other), xp.where(a > 0, other, size)


def _riccati(x: Array, high: Array, low: Array, t: Array) -> Array:
    """x(t) of x' = -(x - high)(x + low) / 2 from x >= 0, high, low >= 0, as a quotient of sums of positive terms."""
    xp, gap = array_module(x), high + low
    share, E = 1 / xp.where(gap > 0, gap, 1), xp.exp(-gap * t / 2)
    phi = xp.where(gap > 0, -xp.expm1(-gap * t / 2) * share, t / 2)
    kept, left = (xp.where(gap > 0, (a + b * E) * share, 1) for a, b in ((high, low), (low, high)))
    return (x * kept + high * low * phi) / (left + x * phi)


def exponent(d: float, q: float) -> float:
    """p = 2 (1 - 1/d) (1 - 1/q) of depth d and power q, 1 .. inf each: Huh (17), Table 1. ValueError for d, q < 1."""
    return 2 * (1 - 1 / checked_power("d", d)) * (1 - 1 / checked_power("q", q))


def effective_depth(d: float, q: float) -> float:
    """d_eff = dq / (d + q - 1), 1 .. inf each: the depth at which SGD has the p of d and q, (18).

    Raises ValueError for d, q < 1.
    """
    inverse = 1 / checked_power("d", d) + (1 - 1 / d) / checked_power("q", q)
    return 1 / inverse if inverse else math.inf


def calibrated_rate(eta: float, d: float, q: float) -> float:
    """eta_bar = eta d^{1-1/q}, below Huh (17). Raises ValueError for eta <= 0 and d, q < 1."""
    return checked_positive("eta", eta) * checked_power("d", d) ** (1 - 1 / checked_power("q", q))


# ------------------------------------------------------------------------------------------ without over- or underflow
#
# Numbers are pairs: m, an array, and k, an array of integers or reals, stand for m 2^k.


def _scaled_jacobian(s: Array) -> tuple[Array, Array]:
    """j (d, ..), from the mantissas of s: products of d of them are at least 2^-d."""
    m, k = array_module(s).frexp(_checked_layers(s))
    return jacobian(m), k.sum(0) - k


def _scaled_displacement(s: Array, s_star: Array | float) -> tuple[Array, Array]:
    """s_Delta (..)."""
    xp = array_module(s)
    s_star = xp.asarray(checked_values("s_star", s_star), dtype=s.dtype)
    if s_star.shape not in ((), s.shape[1:]):
        raise ValueError(f"s_star has shape {s_star.shape}; expected a number or {s.shape[1:]}")
    if not (xp.isfinite(s_star) & (s_star >= 0)).all():
        raise ValueError("s_star has an entry that is negative or not finite; expected finite numbers >= 0")
    (m, k), (target, x) = xp.frexp(s), xp.frexp(s_star)
    s_bar = m[0] * jacobian(m)[0]
    k = xp.where(s_bar == 0, x, k.sum(0))  # a zero has no size of its own
    top = xp.where(target == 0, k, xp.maximum(k, x))
    return xp.ldexp(s_bar, k - top) - xp.ldexp(target, x - top), top


def _scaled_norm(j: Array, e: Array, block: bool = False) -> tuple[Array, Array]:
    """||j|| (..), or d^{1/2} |j_i| (d, ..); 1 where it is 0: j is 0 there, and so is all that is made of it."""
    xp = array_module(j)
    k = e if block else xp.where(j == 0, -(2**20), e).max(0)
    norm = len(j) ** 0.5 * abs(j) if block else (xp.ldexp(j, e - k) ** 2).sum(0) ** 0.5
    return xp.where(norm == 0, 1, norm), k


def _scaled_power(m: Array, k: Array, q: float, one: int = 0) -> tuple[Array, Array]:
    """(m 2^k)^{one-2/q}; 2 k / q may be large, and is taken apart so that it loses no digits."""
    rest = array_module(m).fmod(2 * k, q)
    power = m ** (one - 2 / q) * (2.0 ** (-rest / q)).astype(m.dtype)
    return power, k * one + array_module(m).rint((rest - 2 * k) / q)


@np.errstate(all="ignore")  # `_in_range` reports it
def _unscaled(m: Array, k: Array) -> Array:
    """m 2^k."""
    return _in_range(array_module(m).ldexp(m, k.astype(int)))


def _in_range(a: Array) -> Array:
    if not array_module(a).isfinite(a).all():
        raise FloatingPointError(f"a result is beyond the range of {a.dtype}: the layers are too large, or too small")
    return a


def _checked_layers(s: Array) -> Array:
    return checked_array("s", s, ("d", *getattr(s, "shape", ())[1:]))
