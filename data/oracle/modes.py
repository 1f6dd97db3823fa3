"""Singular modes, THEORY 9: velocities and invariants from their formulas, Huh (17) by quadrature and inversion.

With x = s_bar / s_star and z = ln(x / (1 - x)), (17) is dT = x^{1-p} dz for T = eta_bar s_star^p t: an integrand
without singularities. For s0 > s_star, y = s_star / s_bar has dT = y^p dz in z = ln(y / (1 - y)). From below 0,
u = -x has dT = -u^{1-p} / (1 + u) dz in z = ln(u). Without a target, |s_bar|^{-p} grows by p eta_bar t.
"""

from itertools import pairwise

from mpmath import mp

from . import linalg as la
from .arrays import flatten, like
from .linear import integrated


def mode_velocity(inputs, attrs, full):
    """Huh (5), (10), (12), (20), (21), or the damped (S.I.16), for every mode on its own."""
    s, eta = inputs["s"], mp.mpf(attrs.get("eta", 1))
    modes = list(zip(*map(flatten, s), strict=True))
    stars = flatten(inputs["s_star"])
    stars = stars * len(modes) if len(stars) == 1 else stars
    values = [velocity(mode, star, attrs, eta) for mode, star in zip(modes, stars, strict=True)]
    velocities = [v for layer in zip(*values, strict=True) for v in layer]
    kept = [v for layer in zip(*[invariants(mode, attrs) for mode in modes], strict=True) for v in layer]
    return {"velocity": like(s, iter(velocities)), "invariants": like(s[1:], iter(kept))}, {}


def velocity(s, star, attrs, eta):
    d, error = len(s), mp.fprod(s) - star
    j = [mp.fprod(s[:i] + s[i + 1 :]) for i in range(d)]
    size = mp.sqrt(mp.fsum(a * a for a in j))
    if "eps" in attrs:
        eps = mp.mpf(attrs["eps"])
        return [-eta * (eps + 1) * error * a / (eps + size**2) for a in j]
    q = mp.mpf(attrs.get("q", 1))
    if attrs.get("block", False):
        return [-eta * error * a / (mp.sqrt(d) * abs(a)) ** (2 / q) if a else mp.mpf(0) for a in j]
    return [-eta * error * a / size ** (2 / q) if size else mp.mpf(0) for a in j]


def invariants(s, attrs):
    """s_i^2 - s_{i+1}^2, Huh (6); block rules: footnote 4, its limit ln|s_i| - ln|s_{i+1}| at q = 1."""
    q = mp.mpf(attrs.get("q", 1))
    if not attrs.get("block", False):
        values = [a * a for a in s]
    elif q == 1:
        values = [mp.log(abs(a)) for a in s]
    else:
        values = [abs(a) ** (2 * (1 - 1 / q)) for a in s]
    return [a - b for a, b in pairwise(values)]


def fraction_of(z):
    """x = 1 / (1 + e^-z)."""
    return 1 / (1 + mp.exp(-z))


def elapsed(a, z0, z1):
    """T = int x(z)^a dz from z0 (-inf if a > 0) to z1, in pieces of the length on which x^a varies.

    Near x = 0, in x^a = x_1^a v, it is x_1^a / a times the integral of dv / (1 - x_1 v^{1/a}).
    """
    start = mp.mpf(0)
    if z0 == -mp.inf:
        z0 = min(z1, mp.mpf(-1))
        top = fraction_of(z0)
        start = top**a * mp.quad(lambda v: 1 / (1 - top * v ** (1 / a)), [0, 1]) / a
    return start + in_pieces(lambda z: fraction_of(z) ** a, z0, z1)


def in_pieces(function, z0, z1, length=4):
    """The integral of a function that varies on such a length, scaled, since quadratures know no relative error."""
    pieces = max(1, int(mp.ceil(abs(z1 - z0) / length)))
    nodes = [z0 + (z1 - z0) * k / pieces for k in range(pieces + 1)]
    pairs = [(a, b, max(abs(function(a)), abs(function(b)))) for a, b in pairwise(nodes)]
    return mp.fsum(top * mp.quadgl(lambda z, top=top: function(z) / top, (a, b)) for a, b, top in pairs)


def logit(x):
    return mp.log(x / (1 - x))


def exponent_and_start(star, s0, p):
    """a and x0 of the problem below 1: s0 / s_star, or its inverse."""
    return (1 - p, s0 / star) if s0 < star else (p, star / s0)


def sunk(a, z0, z1):
    """T = int u^a / (1 + u) dz from z1, which may be -inf, to z0, u = e^z: the time from u_0 down to u_1.

    Near 0, in u^a = u_1^a v, it is u_1^a / a times the integral of dv / (1 + u_1 v^{1/a}).
    """
    start = mp.mpf(0)
    if z1 == -mp.inf:
        z1 = min(z0, mp.mpf(0))
        start = mp.exp(a * z1) * mp.quad(lambda v: 1 / (1 + mp.exp(z1) * v ** (1 / a)), [0, 1]) / a
    return start + in_pieces(lambda z: mp.exp(a * z) / (1 + mp.exp(z)), z1, z0)


def sinking(T, a, z0):
    """z at which T has passed, before u is 0, by bisection and Newton steps."""
    low, high, z = z0 - 1, z0, z0
    while sunk(a, z0, low) < T:
        low -= z0 - low
    for _ in range(1000):
        excess = sunk(a, z0, z) - T
        low, high = (z, high) if excess > 0 else (low, z)
        new = z + excess * (1 + mp.exp(z)) / mp.exp(a * z)
        if not low <= new <= high:
            new = (low + high) / 2
        if abs(new - z) < mp.mpf(10) ** (5 - mp.dps) * max(1, abs(z)):
            return new
        z = new
    raise ArithmeticError("the way down to 0 has not been inverted")


def solved(t, star, s0, p, eta_bar):
    """s_bar(t) of (17)."""
    if star == 0:
        return s0 * mp.exp(-eta_bar * t) if p == 0 else decayed(t, s0, p, eta_bar)
    T = eta_bar * star**p * t
    if T == 0 or s0 == star:
        return s0
    if p == 0:
        return star + (s0 - star) * mp.exp(-T)
    if s0 < 0:
        z0 = mp.log(-s0 / star)
        down = sunk(1 - p, z0, -mp.inf) if p < 1 else mp.inf
        if down > T:
            return -star * mp.exp(sinking(T, 1 - p, z0))
        return solved((T - down) / (eta_bar * star**p), star, mp.mpf(0), p, eta_bar)
    if s0 == 0 and p >= 1:
        return s0
    a, x0 = exponent_and_start(star, s0, p)
    z = advance(T, a, x0)
    return star * fraction_of(z) if s0 < star else star * (1 + mp.exp(-z))


def decayed(t, s0, p, eta_bar):
    """s_bar' = -eta_bar s_bar |s_bar|^p."""
    return mp.sign(s0) * (abs(s0) ** -p + p * eta_bar * t) ** (-1 / p) if s0 else s0


def advance(T, a, x0):
    """z at which T has passed, by Newton steps z <- z + (T - elapsed) / x^a within a bracket."""
    z0 = logit(x0) if x0 else -mp.inf
    low = z0 if x0 else mp.log((a * T) ** (1 / a)) - 10
    high = max(z0, mp.mpf(0)) + 3 * T + 10
    z, at, passed = low, z0, mp.mpf(0)
    for _ in range(1000):
        passed = passed + elapsed(a, at, z) if at != z else passed
        at, excess = z, passed - T
        low, high = (z, high) if excess < 0 else (low, z)
        new = z - excess / fraction_of(z) ** a
        if not low <= new <= high:
            new = (low + high) / 2
        if abs(new - z) < mp.mpf(10) ** (5 - mp.dps) * max(1, abs(z)):
            return new
        z = new
    raise ArithmeticError("(17) has not been inverted")


def broadcast(inputs, names):
    """The shape giver, and rows of scalars, one an entry."""
    arrays = [flatten(inputs[name]) for name in names]
    n = max(map(len, arrays))
    giver = next(inputs[name] for name, array in zip(names, arrays, strict=True) if len(array) == n)
    return giver, list(zip(*[array * n if len(array) == 1 else array for array in arrays], strict=True))


def mode_solution(inputs, attrs, full):
    giver, rows = broadcast(inputs, ("t", "s_star", "s0"))
    p, eta_bar = mp.mpf(attrs["p"]), mp.mpf(attrs.get("eta_bar", 1))
    return {"s_bar": like(giver, iter([solved(*row, p, eta_bar) for row in rows]))}, {}


def time_to(x, star, s0, p, eta_bar):
    """The time at which s_bar = x s_star; inf if never."""
    x0 = s0 / star
    if x == x0:
        return mp.mpf(0)
    if not min(x0, 1) < x < max(x0, 1) or (s0 == 0 and p >= 1):
        return mp.inf
    if p == 0:
        return mp.log((x0 - 1) / (x - 1)) / eta_bar
    if s0 < 0:
        z0, z1 = mp.log(-x0), mp.log(-x) if x < 0 else -mp.inf
        if x >= 0 and p >= 1:
            return mp.inf
        rest = time_to(x, star, mp.mpf(0), p, eta_bar) if x > 0 else mp.mpf(0)
        return sunk(1 - p, z0, z1) / (eta_bar * star**p) + rest
    a, y0 = exponent_and_start(star, s0, p)
    y = x if s0 < star else 1 / x
    return elapsed(a, logit(y0) if y0 else -mp.inf, logit(y)) / (eta_bar * star**p)


def mode_time(inputs, attrs, full):
    giver, rows = broadcast(inputs, ("fraction", "s_star", "s0"))
    p, eta_bar = mp.mpf(attrs["p"]), mp.mpf(attrs.get("eta_bar", 1))
    return {"t": like(giver, iter([time_to(*row, p, eta_bar) for row in rows]))}, {}


def mode_escape(inputs, attrs, full):
    """The time from s0 to s_star with s_bar' = eta_bar s_star s_bar^p, Huh 4.2: the integral of its inverse."""
    giver, rows = broadcast(inputs, ("s_star", "s0"))
    p, eta_bar = mp.mpf(attrs["p"]), mp.mpf(attrs.get("eta_bar", 1))

    def time(star, s0):
        if s0 == 0:
            return mp.inf if p >= 1 else star ** (1 - p) / (1 - p) / (eta_bar * star)
        length = 4 / max(abs(1 - p), mp.mpf(1) / 1000)
        total = in_pieces(lambda z: mp.exp((1 - p) * z), mp.log(s0), mp.log(star), length)  # s = e^z
        return total / (eta_bar * star)

    return {"t": like(giver, iter([time(*row) for row in rows]))}, {}


def mode_map_velocity(inputs, attrs, full):
    """s_bar' of (17)."""
    giver, rows = broadcast(inputs, ("s_bar", "s_star"))
    p, eta_bar = mp.mpf(attrs["p"]), mp.mpf(attrs.get("eta_bar", 1))
    return {"velocity": like(giver, iter([eta_bar * (star - s) * abs(s) ** p for s, star in rows]))}, {}


def mode_unbalanced(inputs, attrs, full):
    """s(t) of two layers under (5) or (10), by extrapolation of the midpoint rule."""
    eta = mp.mpf(attrs.get("eta", 1))
    modes = list(zip(*map(flatten, inputs["s"]), strict=True))
    stars, times = (v * len(modes) if len(v) == 1 else v for v in map(flatten, (inputs["s_star"], inputs["t"])))
    after = [
        integrated(lambda s, star=star: velocity(s, star, {"q": "inf"} | attrs, eta), list(s), t)
        for s, star, t in zip(modes, stars, times, strict=True)
    ]
    return {"s": like(inputs["s"], iter([v for layer in zip(*after, strict=True) for v in layer]))}, {}


def mode_speed(inputs, attrs, full):
    """||s'|| of every mode, and s_bar' = sum_i j_i s_i', from s' itself: Huh (7), (11), (13), (14), (16)."""
    modes = list(zip(*map(flatten, inputs["s"]), strict=True))
    stars, eta = flatten(inputs["s_star"]), mp.mpf(attrs.get("eta", 1))
    stars = stars * len(modes) if len(stars) == 1 else stars
    moves = [velocity(mode, star, attrs, eta) for mode, star in zip(modes, stars, strict=True)]
    j = [[mp.fprod(s[:i] + s[i + 1 :]) for i in range(len(s))] for s in modes]
    outputs = {"speed": [la.norm(v) for v in moves], "product": [mp.fdot(*p) for p in zip(j, moves, strict=True)]}
    return outputs, {}


def mode_exponents(inputs, attrs, full):
    """p of (17), d_eff of (18), eta_bar, in the limits too where d or q is inf."""
    d, q, eta = (mp.mpf(attrs[name]) for name in ("d", "q", "eta"))
    p = 2 * (1 - 1 / d) * (1 - 1 / q)
    inverse = 1 / d + 1 / q - (1 / d) * (1 / q)
    return {"p": p, "d_eff": 1 / inverse if inverse else mp.inf, "eta_bar": eta * d ** (1 - 1 / q)}, {}
