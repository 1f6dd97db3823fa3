"""THEORY 6: the Gaussian averages of every activation, over 10^-8 .. 10^8 and up to 1 - 2^-52, against mpmath.

An error of 100 units of rounding of the value is allowed. Where a value is the sum of two terms of opposite sign, they
count; an exp(-k^2 / 2) is worth k^2 units of rounding, as are the a and b that k is made of.
"""

import json
import math

import gaussian_averages
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp
from support import host, on

import refngd as rn
from refngd.activations import Smooth

DTYPES = [np.float64, np.float32]


class User(Smooth):
    """An activation of a user's, with its averages in closed form."""

    def __init__(self, name, phi, derivative, exact):
        self.name, self.functions, self.exact = name, (phi, derivative), exact

    def phi(self, u):
        return self.functions[0](u)

    def derivative(self, u):
        return self.functions[1](u)

    def __str__(self):
        return self.name


def exact_relu(r, a, b):
    psi = mp.pi - mp.acos(r)
    return a * b * (mp.sin(psi) - psi * mp.cos(psi)) / (2 * mp.pi), psi / (2 * mp.pi)


def exact_erf(r, a, b):
    variances, covariance = (1 + 2 * a * a) * (1 + 2 * b * b), 2 * a * b * r
    return 2 / mp.pi * mp.asin(covariance / mp.sqrt(variances)), 4 / mp.pi / mp.sqrt(variances - covariance**2)


def exact_gauss(r, a, b):
    D = (1 + 2 * a * a) * (1 + 2 * b * b) - (2 * a * b * r) ** 2
    return 1 / mp.sqrt(D), 4 * a * b * r / D ** mp.mpf(1.5)


def exact_waves(even):
    def averages(r, a, b):
        both = mp.cosh(a * b * r), mp.sinh(a * b * r)
        return [mp.exp(-(a * a + b * b) / 2) * x for x in (both if even else both[::-1])]

    return averages


CLOSED = {
    rn.relu: exact_relu,
    rn.erf: exact_erf,
    rn.linear: lambda r, a, b: (a * b * r, mp.mpf(1)),
}
USERS = [
    User("cos", np.cos, lambda u: -np.sin(u), exact_waves(True)),
    User("sin", np.sin, np.cos, exact_waves(False)),
    User("exp", np.exp, np.exp, lambda r, a, b: [mp.exp((a * a + b * b) / 2 + a * b * r)] * 2),
    User("exp(-u^2)", lambda u: np.exp(-u * u), lambda u: -2 * u * np.exp(-u * u), exact_gauss),
    User(
        "u^2 + 1",
        lambda u: u * u + 1,
        lambda u: 2 * u,
        lambda r, a, b: ((1 + a * a) * (1 + b * b) + 2 * (a * b * r) ** 2, 4 * a * b * r),
    ),
]


def dual(activation, r, a, b, dtype=np.float64):
    """(A, Xi) for floats."""
    features = (on(activation.features(np.array([scale])).astype(dtype)) for scale in (a, b))
    return [float(host(x)[0, 0]) for x in activation.dual(on(np.array([[r]], dtype)), *features)]


def assert_right(actual, exact, dtype, size=None):
    """|actual - exact| <= 100 u size, where the default size is |exact|; what underflows is zero to rounding."""
    u, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    size = abs(exact) if size is None else size
    assert math.isfinite(actual)
    assert abs(actual - exact) <= 100 * u * size + tiny


scales = st.floats(-8, 8).map(lambda x: 10**x)
distances = st.integers(1, 52).map(lambda k: 1 - 2.0**-k)
correlations = st.one_of(st.floats(-1, 1), distances, distances.map(lambda r: -r), st.sampled_from([1.0, -1.0, 0.0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", CLOSED, ids=str)
@settings(max_examples=150, deadline=None)
@given(correlations, scales, scales)
@example(1.0, 1e8, 1e8)
@example(-1 + 2.0**-52, 1e-8, 1e8)
def test_closed_forms_are_right_to_100_units_of_rounding(activation, dtype, r, a, b):
    r, a, b = (float(dtype(x)) for x in (r, a, b))
    with mp.workdps(80):
        exact = CLOSED[activation](*map(mp.mpf, (r, a, b)))
        for x, value in zip(dual(activation, r, a, b, dtype), exact, strict=True):
            assert_right(x, value, dtype)


with mp.workdps(30):
    TABLE = [(*row[:4], *map(mp.mpf, row[4:])) for row in json.loads(gaussian_averages.TABLE.read_text())]


@pytest.mark.parametrize("dtype", DTYPES)
def test_shifted_relu_is_right_to_100_units_of_rounding(dtype):
    for s, a, b, r, A, Xi, first, second in TABLE:
        if float(dtype(r)) == r:
            rounded = 1 + sum((s / x) ** 2 for x in (a, b) if abs(s) < 45 * x)
            values = dual(rn.shifted_relu(s), r, a, b, dtype)
            assert_right(values[0], A, dtype, abs(first) + rounded * second if s > 0 else A)
            assert_right(values[1], Xi, dtype, rounded * Xi if s < 0 else Xi)


def test_the_table_is_that_of_mpmath():
    assert len(TABLE) > 120
    for s, a, b, r, *values in TABLE[::40]:
        with mp.workdps(40):
            exact = gaussian_averages.shifted_relu(s, r, a, b)
            assert all(abs(x - y) <= 1e-16 * abs(y) for x, y in zip(values, exact, strict=True))


def test_shifted_relu_tends_to_relu():
    for r in (-0.999, -0.3, 0.5, 1.0):
        np.testing.assert_allclose(
            dual(rn.shifted_relu(1e-12), r, 1.0, 2.0), dual(rn.relu, r, 1.0, 2.0), rtol=1e-10, atol=1e-11
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", USERS, ids=str)
@settings(max_examples=40, deadline=None)
@given(correlations, st.floats(-8, 1).map(lambda x: 10**x), st.floats(-8, 1).map(lambda x: 10**x))
@example(1.0, 1e-3, 1e-3)
def test_series_are_right_to_100_units_of_the_values_at_full_correlation_or_refused(activation, dtype, r, a, b):
    r, a, b = (float(dtype(x)) for x in (r, a, b))
    try:
        values = dual(activation, r, a, b, dtype)
    except ArithmeticError:
        assert max(a, b) > 4
        return
    with mp.workdps(50):
        own = [activation.exact(1, mp.mpf(x), mp.mpf(x)) for x in (a, b)]
        for i, exact in enumerate(activation.exact(*map(mp.mpf, (r, a, b)))):
            assert_right(values[i], exact, dtype, mp.sqrt(own[0][i] * own[1][i]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_right_to_100_units_of_rounding(dtype):
    """Against the trapezoid rule, for r < 1 in two independent variables."""
    with mp.workdps(25):
        for r, a, b in ((-0.75, 1.0, 2.0), (1.0, 0.125, 3.5), (1.0, 3.5, 3.5), (1.0, 1e-4, 1e-4), (-1.0, 1e-8, 2.0)):
            a, b = float(dtype(a)), float(dtype(b))
            for f, x in zip((mp.tanh, lambda u: mp.sech(u) ** 2), dual(rn.tanh, r, a, b, dtype), strict=True):
                assert_right(x, expectation(f, r, a, b), dtype)


def expectation(f, r, a, b):
    c, step = mp.sqrt(1 - mp.mpf(r) ** 2), mp.mpf(1) / (8 if abs(r) < 1 else 16)
    nodes = [(k * step, mp.npdf(k * step) * step) for k in range(-int(9 / step), int(9 / step) + 1)]
    if c == 0:
        return mp.fsum(w * f(a * z) * f(b * r * z) for z, w in nodes)
    half = [(z, w * (2 if z else 1)) for z, w in nodes if z >= 0]  # the product is even
    return mp.fsum(w * f(a * z) * mp.fsum(v * f(b * (r * z + c * x)) for x, v in nodes) for z, w in half)


@settings(max_examples=100, deadline=None)
@given(st.floats(-16, 16).map(lambda x: 10**x), st.sampled_from([1.0, -1.0, 0.3, -5.0]))
def test_averages_of_one_variable_are_right_to_100_units_of_rounding(q, s):
    with mp.workdps(60):
        for activation, exact in CLOSED.items():
            A, Xi = exact(mp.mpf(1), *2 * [mp.sqrt(mp.mpf(q))])
            assert_right(activation.mean_square(q), A, np.float64)
            assert_right(activation.mean_square_derivative(q), Xi, np.float64)
        k = mp.mpf(s) / mp.sqrt(mp.mpf(q))
        share, rounded = mp.ncdf(k), 1 + (k**2 if k < 0 else 0)
        square = q * share + s * s * mp.ncdf(-k) - s * mp.sqrt(q) * mp.npdf(k)
        assert_right(rn.shifted_relu(s).mean_square(q), square, np.float64)
        assert_right(rn.shifted_relu(s).gamma(q), share, np.float64, rounded * share)
        assert_right(rn.shifted_relu(s).mean_square_derivative(q), share, np.float64, rounded * share)
        assert {activation.gamma(q) for activation in (rn.tanh, rn.erf, rn.linear)} == {1.0}


@pytest.mark.parametrize("activation", USERS, ids=str)
def test_averages_of_one_variable_of_smooth_activations(activation):
    for q in (1e-16, 1e-6, 0.3, 4.0, 9.0):
        with mp.workdps(50):
            A, Xi = activation.exact(1, *2 * [mp.sqrt(mp.mpf(q))])
            assert_right(activation.mean_square(q), A, np.float64)
            assert_right(activation.mean_square_derivative(q), Xi, np.float64)


def test_what_a_series_cannot_resolve_is_refused():
    kinked = type("Kinked", (Smooth,), {"phi": rn.relu.phi, "derivative": rn.relu.derivative})()
    for call in (lambda: kinked.features(np.ones(1)), lambda: rn.tanh.features(np.array([1.0, 5.0]))):
        with pytest.raises(
            ArithmeticError, match=r"2000 polynomials do not resolve (kinked|tanh)\(a z\) for a = [15]: a"
        ):
            call()
    for activation in (rn.tanh, USERS[2]):  # exp overflows
        with pytest.raises(ArithmeticError, match="1281 points do not resolve"):
            activation.mean_square(1e6)


def test_the_values_that_were_once_wrong():
    """Right ones with 40 digits: constants large beside a, and 1 - r^2 below rounding."""
    cos, gauss = USERS[0], USERS[3]
    np.testing.assert_allclose(dual(cos, 1.0, 1e-3, 1e-3), (0.999999000001, 9.99999000000667e-7), rtol=1e-14)
    np.testing.assert_allclose(dual(gauss, 1.0, 1e-3, 1e-3)[1], 3.99997600011999944e-6, rtol=1e-14)
    np.testing.assert_allclose(dual(rn.shifted_relu(1.0), 1.0, 1e-8, 1e-8), (1e-16, 1.0), rtol=1e-14)
