"""SPEC 12: how accurate, in which dtype, and what counts as zero."""

import mpmath
import numpy as np
import pytest
from support import FISHERS, assert_close, generator, host, on, problem, relative

import refngd as rn
from refngd.spectral import cutoff, gram, is_regular, solve


def graded_factor(kappa, n=12, m=40):
    """X (n, m) with singular values from 1 down to 1 / kappa."""
    rng = generator()
    U, _ = np.linalg.qr(rng.standard_normal((n, n)))
    V, _ = np.linalg.qr(rng.standard_normal((m, n)))
    return (U * np.logspace(0, -np.log10(kappa), n)) @ V.T


def gram_solve(X, b, refine):
    """X^T (X X^T)^{-1} b through the Gram matrix."""
    X = on(X)
    return X.T @ solve(gram(X, 1), on(b), 0.0, 1, product=(lambda Y: X @ (X.T @ Y)) if refine else None)


def high_precision_solve(X, b):
    """X^T (X X^T)^{-1} b at 60 digits."""
    with mpmath.workdps(60):
        A = mpmath.matrix(X.tolist())
        x = A.T * mpmath.lu_solve(A * A.T, mpmath.matrix(b.tolist()))
        return np.array([float(v) for v in x])[:, None]


@pytest.mark.parametrize("kappa", [1e1, 1e3, 1e5, 1e6])
def test_one_step_of_refinement_restores_the_accuracy_of_qr(kappa):
    X, b = graded_factor(kappa), generator(1).standard_normal((12, 1))
    exact = high_precision_solve(X, b)
    plain, refined = (relative(gram_solve(X, b, refine), exact) for refine in (False, True))
    assert refined < 30 * 2**-53 * kappa
    if kappa >= 1e3:
        assert refined < plain / 20


@pytest.mark.parametrize("make", [rn.Exact, rn.BlockDiagonal, rn.Unitwise, rn.KFAC])
def test_refinement_makes_directions_more_accurate(make):
    """On nearly parallel inputs, against the definition by SVD of the blocks of the explicit Jacobian."""
    rng, N = generator(), 5
    net = rn.Network((8, 40, 1), rn.tanh)
    x = rng.standard_normal((1, 8)) + 1e-4 * rng.standard_normal((N, 8))
    W, e = net.init(rng), rng.standard_normal((N, 1))
    s = net.signals(on(W), on(x))
    exact = [accurate_direction(make, *blocks, e) for blocks in zip(host(s.h), host(s.delta), strict=True)]
    if make is rn.Exact:
        J = host(rn.jacobian(s))
        exact = [w.ravel() for w in np.split(np.linalg.pinv(J) @ e[:, 0], [W[0].size])]
    exact = np.concatenate([dw.ravel() for dw in exact])
    plain, refined = (relative(rn.flatten(make(refine=refine).direction(s, on(e))), exact) for refine in (False, True))
    assert refined < plain / 5
    assert refined < 1e-8


def accurate_direction(make, h, delta, e):
    """One layer's direction at rho = 0 for C = 1, from pseudo-inverses of factors not of Gram matrices."""
    N, delta = len(e), delta[:, 0]
    if make is rn.KFAC:
        left = np.linalg.pinv(delta) if delta.shape[1] > 1 else np.ones((1, N))
        return N * left @ np.diag(e[:, 0]) @ np.linalg.pinv(h).T
    if make is rn.Unitwise:
        return np.array([np.linalg.pinv(d[:, None] * h) @ e[:, 0] for d in delta.T])
    J_l = (delta[:, :, None] * h[:, None]).reshape(N, -1)
    return np.linalg.pinv(J_l) @ e


def test_default_cutoff_tells_every_rank_deficient_gram_matrix_from_a_regular_one():
    rng = generator()
    for dtype in (np.float32, np.float64):
        for n in (2, 3, 5, 20, 60):
            for m in (1, n // 2, n - 1):
                if m:
                    X = rng.standard_normal((n, m)).astype(dtype)
                    assert not is_regular(on(X @ X.T))
            X = rng.standard_normal((n, 2 * n)).astype(dtype)
            assert is_regular(on(X @ X.T))
            X[-1] = X[0]  # a duplicate sample
            assert not is_regular(on(X @ X.T))


@pytest.mark.parametrize("refine", [False, True])
def test_rank_deficient_gram_solve_is_the_pseudo_inverse(refine):
    X = generator().standard_normal((8, 30))
    X[5], X[6] = X[0], X[1] - 2 * X[2]
    b = generator(1).standard_normal((8, 2))
    assert_close(gram_solve(X, b, refine), np.linalg.pinv(X, rcond=1e-10) @ b, 1e3)


@pytest.mark.parametrize("name", FISHERS)
def test_duplicate_samples_with_different_labels_are_averaged_by_the_pseudo_inverse(name):
    """e is then outside the range of the kernel: a plain inverse would blow up."""
    p = problem((6, 9, 9, 1), rn.tanh, 0.5)
    x = host(p.x)
    x[3] = x[0]
    s, fisher = p.net.signals(p.W, on(x)), FISHERS[name]
    G = host(fisher.matrix(s))
    desired = host(rn.inverse_power(on(G), rcond=1e-11)) @ host(rn.flatten(rn.pull(s, p.e))) / 4
    assert relative(rn.flatten(fisher.direction(s, p.e)), desired) < 1e-6


def test_the_cutoff_is_an_argument():
    K, b = on(np.diag([1.0, 1e-6])), on(np.ones((2, 1)))
    assert host(solve(K, b, 0.0, 1)).ravel() == pytest.approx([1, 1e6])
    assert host(solve(K, b, 0.0, 1, rcond=1e-5)).ravel() == pytest.approx([1, 0])
    assert host(solve(K, b, 1e-3, 1, rcond=1e-5)).ravel() == pytest.approx([1 / 1.001, 1 / 1.001e-3])
    assert host(rn.inverse_power(K, rcond=1e-5)).diagonal() == pytest.approx([1, 0])
    assert cutoff(2, K.dtype) == 8 * 2**-52
    p = problem((6, 9, 9, 1))
    coarse, fine = (rn.flatten(rn.BlockDiagonal(rcond=r).direction(p.s, p.e)) for r in (0.5, None))
    assert np.linalg.norm(host(coarse)) < np.linalg.norm(host(fine))


def test_a_kernel_of_zeros_has_the_pseudo_inverse_zero():
    assert (host(rn.inverse_power(on(np.zeros((3, 3))))) == 0).all()
    assert (host(solve(on(np.zeros((3, 3))), on(np.ones((3, 1))), 0.0, 1)) == 0).all()


@pytest.mark.parametrize("name", FISHERS)
def test_float32_stays_float32_and_agrees_with_float64(name):
    single, double = (
        problem((6, 20, 20, 2), rn.relu, np.float64(0.5), seed=1, dtype=d) for d in (np.float32, np.float64)
    )
    fisher, rho = FISHERS[name], np.float64(20.0)  # a NumPy scalar would promote
    for q in (1, np.float64(2)):
        if q == 1 or name not in ("BlockTridiagonal", "QuasiDiagonal"):
            for a, b in zip(
                fisher.direction(single.s, single.e, rho, q), fisher.direction(double.s, double.e, rho, q), strict=True
            ):
                assert a.dtype == np.float32
                assert_close(a, b, 10, np.float32)
            coefficient = fisher.coefficient(single.test, single.s, rho, q)
            assert coefficient.dtype == np.float32
            assert_close(coefficient, fisher.coefficient(double.test, double.s, rho, q), 10, np.float32)
    assert fisher.matrix(single.s, rho).dtype == np.float32


@pytest.mark.parametrize("name", FISHERS)
def test_float32_stays_float32_without_damping(name):
    p = problem((6, 20, 20, 2), rn.relu, 0.5, dtype=np.float32)
    assert {dw.dtype for dw in FISHERS[name].direction(p.s, p.e)} == {np.dtype(np.float32)}
    assert FISHERS[name].coefficient(p.test, p.s).dtype == np.float32


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize("activation", [rn.relu, rn.tanh, rn.erf, rn.linear, rn.shifted_relu(np.float64(0.5))], ids=str)
def test_float32_signals_training_and_theory_stay_float32(activation, parameterization):
    p = problem((6, 20, 2), activation, 0.5, dtype=np.float32, parameterization=parameterization)
    arrays = [p.s.f, *p.s.h, *p.s.delta, rn.jacobian(p.s), rn.push(p.s, p.W), *rn.pull(p.s, p.e), rn.flatten(p.W)]
    *_, last = rn.train(p.net, p.W, p.x, p.e, rn.Exact(), np.float64(0.1), 2)
    Theta_bar = rn.Exact().coefficient(p.s, p.s)
    arrays += [last.f, *last.W, Theta_bar, rn.Dynamics(Theta_bar, p.s.f, p.e, np.float64(0.1)).accumulated(np.int64(3))]
    arrays += [rn.linearized(p.s, p.W, last.W), rn.inverse_power(Theta_bar, np.float64(0.1), np.float64(2))]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
