"""E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of shifted ReLU with mpmath, and the table that the tests read.

    python tests/gaussian_averages.py        # writes gaussian_averages.json anew, in some minutes

Of two normal variables of correlation r, v given u is normal too, so that one-dimensional integrals are left, which are
done in both orders: a row is kept where these agree to 17 digits. Nothing here is taken from refngd.
"""

import json
from pathlib import Path

import numpy as np
from mpmath import mp

TABLE = Path(__file__).with_suffix(".json")


def Q(k):
    return mp.erfc(k / mp.sqrt(2)) / 2


def density(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def beyond(k):
    """E[(z - k)_+]."""
    return density(k) - k * Q(k)


def corner(k, m, r):
    """P(z > k, z' > m) and E[(z - k)_+ (z' - m)_+], as integrals over z > k."""
    if r == 0:
        return Q(k) * Q(m), beyond(k) * beyond(m)
    if abs(r) == 1:
        high, low = max(k, m), min(k, m)
        return (Q(high), (1 + k * m) * Q(high) - low * density(high)) if r > 0 else (mp.mpf(0), mp.mpf(0))
    c = mp.sqrt((1 - r) * (1 + r))
    if max(k, m) > 45 or (r < 0 and k * k + m * m - 2 * r * k * m > 2000 * c * c):
        return mp.mpf(0), mp.mpf(0)  # below e^-1000, and so below what float64 holds
    rate = 1 / (1 + abs(k - r * m) / c**2), 1 / (1 + k)
    cuts = {k, *(k + x for x in (5, 9, 14, 20, 24)), *(k + x * w for x in STEPS for w in rate)}
    cuts |= {m / r + sign * x * c / abs(r) for x in (0, *STEPS) for sign in (1, -1)}
    cuts = sorted(x for x in cuts if k <= x <= k + 24)

    def inner(z):
        w = (r * z - m) / c
        return Q(-w), c * (w * Q(-w) + density(w))

    L = mp.quad(lambda z: density(z) * inner(z)[0], cuts)
    return L, mp.quad(lambda z: (z - k) * density(z) * inner(z)[1], cuts)


STEPS = (0.1, 0.3, 0.7, 1.5, 2.5, 4, 6, 9, 14, 20, 30, 45, 60)


def shifted_relu(s, r, a, b):
    """The averages, and the two terms of the first (s > 0), which may be of opposite sign."""
    s, r, a, b = map(mp.mpf, (s, r, a, b))
    k, m = abs(s) / a, abs(s) / b
    (L, K), other = corner(k, m, r), corner(m, k, r)
    for x, y in zip((L, K), other, strict=True):
        if abs(x - y) > mp.mpf(10) ** -17 * abs(x):
            return None
    if s > 0:
        E = (mp.erf(k / mp.sqrt(2)) + mp.erf(m / mp.sqrt(2))) / 2
        return a * b * (r * E + K), E + L, a * b * r * E, a * b * K
    return s * s - s * (a * beyond(k) + b * beyond(m)) + a * b * K, L, mp.mpf(0), a * b * K


def rows(seed=0, count=150):
    """Standard deviations and correlations that float32 holds too, unless r is closer to 1 or -1 than that."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        s = (1.0, -1.0, 0.5, -2.0)[n % 4]
        a = 10 ** (rng.uniform(-8, 8) if n % 3 else rng.uniform(-1.2, 1.2))
        b = (a, a * (1 + 1e-4 * rng.standard_normal()), 10 ** rng.uniform(-8, 8), a * 10 ** rng.uniform(-1, 1))[
            n // 4 % 4
        ]
        k = int(rng.integers(2, 52 if n % 2 else 24))
        r = (rng.uniform(-1, 1), 1 - 2.0**-k, 2.0**-k - 1, 1.0, -1.0, 0.0, 2.0**-k, -(2.0**-k))[int(rng.integers(8))]
        a, b = float(np.float32(a)), float(np.float32(b))
        yield s, a, b, r if abs(r) > 0.9 else float(np.float32(r))


def main():
    mp.dps, table = 40, []
    for s, a, b, r in rows():
        exact = shifted_relu(s, r, a, b)
        if exact is not None:
            table.append([s, a, b, r, *(mp.nstr(x, 25) for x in exact)])
    TABLE.write_text("[\n" + ",\n".join(map(json.dumps, table)) + "\n]\n")
    print(f"{len(table)} rows")


if __name__ == "__main__":
    main()
