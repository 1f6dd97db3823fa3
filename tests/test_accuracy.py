"""The promise on accuracy, THEORY 12: undamped directions are within 30 u cond(J), and no genuine direction is dropped.

Warnings are errors here as everywhere, so that a cut-off which removes a share of the residual fails a test.
"""

from fractions import Fraction
from math import fsum

import mpmath
import numpy as np
import pytest
from scipy.linalg import solve_triangular
from support import assert_close, generator, host, on, problem, relative

import refngd as rn
from refngd.spectral import cutoff

FISHERS = [rn.Exact(), rn.BlockDiagonal(), rn.KFAC(last="gram"), rn.Unitwise()]
CONDITIONS = [(np.float64, 1e2), (np.float64, 1e4), (np.float64, 1e6), (np.float32, 1e2), (np.float32, 1e3)]


def reflection(X, v):
    """(I - 2 v v^T / |v|^2) X."""
    return X - np.outer(2 * v / (v @ v), v @ X)


def graded(N, M, kappa, dtype=np.float64):
    """x = U s V^T (N, M) with singular values s from 1 down to 1 / kappa, before it is rounded, and s V^T, U^T."""
    rng, k = generator(N), min(N, M)
    s = np.zeros((N, M))
    s[np.arange(k), np.arange(k)] = np.logspace(0, -np.log10(kappa), k)
    left, right = ([rng.standard_normal(n) for _ in range(2)] for n in (N, M))
    sV = s.T
    for v in right:
        sV = reflection(sV, v)
    sV, U = sV.T, np.eye(N)
    for v in left:
        U = reflection(U, v)
    return (U @ sV).astype(dtype), sV, U.T


def product_of(A, b):
    """The terms of A b (n, 2 m) for A (n, m) and b (m,), without rounding: products and their errors, by Dekker."""

    def halves(X):
        high = X * (2.0**27 + 1)
        high = high - (high - X)
        return high, X - high

    p, (A1, A2), (b1, b2) = A * b, halves(A), halves(b)
    return np.concatenate([p, ((A1 * b1 - p) + A1 * b2 + A2 * b1) + A2 * b2], axis=1)


def exact_step(J, e):
    """J^+ e (m,) of J (n, m), e (n,) of full rank and in float64, to rounding.

    The system [I J; J^T 0] [r; d] = [e; 0] of least squares, or [I J^T; J 0] [-d; l] = [0; e] of least norm, is refined
    by Q and R of J with residuals that are exact sums (Bjorck).
    """
    n, m = J.shape
    A = J if n >= m else J.T  # (p, k), p >= k
    f, g = (e, np.zeros(m)) if n >= m else (np.zeros(m), e)
    (Q, R), r, z = np.linalg.qr(A), np.zeros(len(f)), np.zeros(len(g))
    for _ in range(8):
        df = np.array([fsum([f_i, -r_i, *-row]) for f_i, r_i, row in zip(f, r, product_of(A, z), strict=True)])
        dg = np.array([fsum([g_i, *-row]) for g_i, row in zip(g, product_of(A.T, r), strict=True)])
        w, c = solve_triangular(R, dg, trans="T"), Q.T @ df
        r, z = r + df - Q @ (c - w), z + solve_triangular(R, c - w)
    return z if n >= m else r


def condition(J):
    t = np.linalg.svd(J, compute_uv=False)
    return t[0] / t[-1]


def linear_layer(x):
    """The signals of f = x W^T with one output: J is x."""
    net = rn.Network((x.shape[1], 1), rn.linear, 1.0, parameterization="standard")
    return net.signals(on([np.zeros((1, x.shape[1]), x.dtype)]), on(x))


@pytest.mark.parametrize(("N", "M"), [(5, 8), (30, 41), (120, 131), (30, 12), (120, 50)])
@pytest.mark.parametrize(("dtype", "kappa"), [*CONDITIONS, (np.float64, 45), (np.float32, 45), (np.float32, 560)])
def test_one_layer_is_within_30_u_cond(dtype, kappa, N, M):
    """The weakest direction makes up most of the step: one that drops it is off by 100 %."""
    x, *_ = graded(N, M, kappa, dtype)
    e = generator(1).standard_normal(N).astype(dtype)
    exact = exact_step(x.astype(float), e.astype(float))
    for fisher in FISHERS:
        (step,) = fisher.direction(linear_layer(x), on(e[:, None]))
        error = relative(np.asarray(host(step), float)[0], exact)
        assert error <= 30 * float(np.finfo(dtype).eps) / 2 * kappa, fisher


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("N", "M"), [(5, 8), (30, 41), (120, 131), (120, 50)])
def test_the_promise_ends_at_the_cutoff_which_is_said(dtype, N, M):
    """cond(J) = 1 / (4 k eps), k = min(N, M): half of it keeps the promise, four times as much is said."""
    limit, e = 1 / cutoff(min(N, M), dtype), generator(1).standard_normal(N).astype(dtype)
    x, *_ = graded(N, M, limit / 2, dtype)
    exact, kappa = exact_step(x.astype(float), e.astype(float)), condition(x.astype(float))
    lossy = linear_layer(graded(N, M, 4 * limit, dtype)[0])
    for fisher in FISHERS:
        (step,) = fisher.direction(linear_layer(x), on(e[:, None]))
        assert relative(np.asarray(host(step), float)[0], exact) <= 30 * float(np.finfo(dtype).eps) / 2 * kappa
        if N < M and not isinstance(fisher, rn.KFAC):
            with pytest.warns(RuntimeWarning, match="of the residual"):
                fisher.direction(lossy, on(e[:, None]))


LARGE = [
    (np.float64, 1e6, 1300, 1310, [rn.Exact()]),
    (np.float32, 560, 1300, 1310, [rn.Exact()]),
    (np.float64, 1e6, 1300, 400, FISHERS),
    (np.float64, 1e2, 3000, 200, FISHERS),
    (np.float64, 1e6, 3000, 200, FISHERS),
    (np.float32, 560, 3000, 200, FISHERS),
    (np.float32, 1e3, 1300, 400, FISHERS),
]


@pytest.mark.parametrize(("dtype", "kappa", "N", "M", "fishers"), LARGE)
def test_many_samples_are_within_30_u_cond(dtype, kappa, N, M, fishers):
    """Against V s^{-1} U^T e of the construction, which rounding of x keeps from being exact, by about u cond."""
    x, sV, U_t = graded(N, M, kappa, dtype)
    e = generator(1).standard_normal(N).astype(dtype)
    k = min(N, M)
    exact = sV[:k].T @ (np.logspace(0, 2 * np.log10(kappa), k) * (U_t @ e.astype(float))[:k])
    for fisher in fishers:
        (step,) = fisher.direction(linear_layer(x), on(e[:, None]))
        assert_close(np.asarray(host(step), float)[0], exact, kappa, dtype)


def rounded_signals(widths, kappa, N, C=1, bias=0.0):
    """Signals of 24 bits in float64, so that J is exact in float64, of a network on inputs of that condition number."""
    x, *_ = graded(N, widths[0], kappa, np.float32)
    net = rn.Network((*widths, C), rn.tanh, 2**0.5, bias)
    s = net.signals(net.init(3, np.float32), widths[0] ** 0.5 * x)
    as_double = [[on(np.asarray(a, float)) for a in arrays] for arrays in (s.h, s.delta)]
    return rn.Signals(on(np.asarray(s.f, float)), *as_double, s.trained)


def as_dtype(s, dtype):
    h, delta = ([a.astype(dtype) for a in arrays] for arrays in (s.h, s.delta))
    return rn.Signals(s.f.astype(dtype), h, delta, s.trained)


@pytest.mark.parametrize("N", [1, 2])
def test_samples_without_inputs_take_no_step(N):
    """As behind a layer of ReLU units that are dead for a sample, without bias."""
    h, delta, e = np.zeros((N, 4)), np.ones((N, 1, 3)), np.ones((N, 1))
    h[1:] = [[1.0, 2.0, 0.0, 1.0]]
    s = rn.Signals(on(e), [on(h)], [on(delta)])
    for fisher in (rn.BlockDiagonal(), rn.Unitwise()):
        (step,) = fisher.direction(s, on(e))
        share = 1 if isinstance(fisher, rn.Unitwise) else 1 / 3  # of the output, of three equal units
        assert abs(host(step) - share * h[-1] / max(h[-1] @ h[-1], 1)).max() < 1e-15, fisher


def test_layers_of_which_all_units_are_dead_take_no_step():
    p = problem((5, 8, 2, 2), rn.relu)
    s = rn.Signals(p.s.f, [*p.s.h[:2], 0 * p.s.h[2]], [*(0 * d for d in p.s.delta[:2]), p.s.delta[2]])
    for fisher in (rn.Exact(), rn.BlockDiagonal(), rn.BlockTridiagonal(), rn.Unitwise(), rn.KFAC(last="gram")):
        assert all((host(dw) == 0).all() for dw in fisher.direction(s, p.e))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("N", "C"), [(5, 2), (20, 1)])
@pytest.mark.parametrize("decades", [2, 4, 6])
def test_networks_are_within_30_u_cond(dtype, N, C, decades):
    """Layers with 10^decades, or up to 10^3 in float32, of the condition number of the block, for each block alone."""
    kappa = 10.0 ** (decades if dtype == np.float64 else decades / 2)
    s = rounded_signals((2 * N, 2 * N + 3, 2 * N + 1), kappa, N, C)
    e = generator(1).standard_normal((N, C)).astype(np.float32).astype(float)
    given = as_dtype(s, dtype)
    layers = [host(rn.jacobian(s.take([l]))) for l in range(3)]
    steps = {
        fisher: host(fisher.direction(given, on(e.astype(dtype))))
        for fisher in (rn.Exact(), rn.BlockDiagonal(), rn.Unitwise())
    }
    exact, blocks, units = steps.values()
    cases = [(np.concatenate([v.ravel() for v in exact]), np.concatenate(layers, axis=1), e.ravel())]
    cases += [(v.ravel(), J, e.ravel()) for v, J in zip(blocks, layers, strict=True)]
    if C == 1:
        for l in range(3):
            h, delta = host(s.h[l]), host(s.delta[l])[:, 0]
            cases += [(units[l][i], delta[:, i : i + 1] * h, e.ravel()) for i in range(min(3, delta.shape[1]))]
    for actual, J, right in cases:
        bound = 30 * float(np.finfo(dtype).eps) / 2 * condition(J)
        assert relative(np.asarray(actual, float), exact_step(J, right)) <= bound


@pytest.mark.parametrize(("dtype", "kappa"), [(np.float64, 1e2), (np.float64, 1e6), (np.float32, 1e3)])
def test_coupled_layers_are_as_accurate_as_each_alone(dtype, kappa):
    """Block tri-diagonal with L = 4 trains the first and the last layer, (1, 0, 0, 1) times Theta_l^{-1} e."""
    N, u = 20, float(np.finfo(dtype).eps) / 2
    s = rounded_signals((2 * N, 2 * N + 3, 2 * N + 1, 2 * N), kappa, N)
    e = generator(1).standard_normal((N, 1)).astype(np.float32).astype(float)
    steps = host(rn.BlockTridiagonal().direction(as_dtype(s, dtype), on(e.astype(dtype))))
    kappas = [condition(host(rn.jacobian(s.take([l])))) for l in range(4)]
    for l in (0, 3):
        exact = exact_step(host(rn.jacobian(s.take([l]))), e[:, 0])
        assert relative(np.asarray(steps[l], float).ravel(), exact) <= 30 * u * max(kappas)
    size = max(np.linalg.norm(v) for v in steps)
    assert max(np.linalg.norm(steps[l]) for l in (1, 2)) <= 30 * u * max(kappas) * size


@pytest.mark.parametrize("kappa", [1e2, 1e6])
def test_kfac_is_as_accurate_as_its_roots(kappa):
    """K_delta E K_h^T / N with pseudo-inverses at 60 digits; u (cond(delta) + cond(h)) of |K_delta| |E| |K_h|."""
    N = 6
    s = rounded_signals((2 * N, 2 * N + 3), kappa, N)
    e = generator(1).standard_normal((N, 1))
    steps = host(rn.KFAC().direction(s, on(e)))
    with mpmath.workdps(60):

        def pseudo_inverse(X):
            X = mpmath.matrix(X.tolist())
            return np.array((X.T * (X * X.T) ** -1).tolist(), float)

        h, delta = host(s.h[0]), host(s.delta[0])[:, 0]
        K_h, K_delta = N * pseudo_inverse(h), N * pseudo_inverse(delta)
    exact = (K_delta * e[:, 0]) @ K_h.T / N
    size = np.linalg.norm(K_delta, 2) * abs(e).max() * np.linalg.norm(K_h) / N
    assert np.linalg.norm(steps[0] - exact) <= 30 * 2**-53 * (condition(h) + condition(delta)) * size


def test_three_samples_at_a_distance_of_1e_5_in_two_inputs():
    """Theta is singular and J of condition 2e5; the least-squares fit by fractions of the inputs as they are stored."""
    d = 1e-5
    x, y = np.array([[1, 1], [1, 1 + d], [1, 1 - d]]), np.array([1.0, 2, 4])
    rows = [[Fraction(float(v)) for v in row] for row in x]
    a, b, c = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    p, q = (sum(row[i] * Fraction(float(v)) for row, v in zip(rows, y, strict=True)) for i in (0, 1))
    exact = np.array([float((c * p - b * q) / (a * c - b * b)), float((a * q - b * p) / (a * c - b * b))])
    for fisher in FISHERS:
        (step,) = fisher.direction(linear_layer(x), on(y[:, None]))
        assert relative(host(step)[0], exact) < 8e-10
