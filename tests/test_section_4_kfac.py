"""THEORY 4: where K-FAC's factors, damping and widths could go wrong."""

import numpy as np
import pytest
from support import assert_close, assert_same, condition, host, literal, problem, relative

import refngd as rn
from refngd import definitions


@pytest.mark.parametrize("C", [1, 2])
@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
def test_damping_is_on_both_factors(C, sigma_b):
    rho, N = 0.1, 4
    p = problem((5, 6, C), rn.tanh, sigma_b, N=N)
    h, delta = host(p.s.h), [d.reshape(N * C, -1) for d in host(p.s.delta)]
    B = [delta[0].T @ delta[0] / N, np.eye(C) / N]
    for l, dw in enumerate(host(rn.KFAC().direction(p.s, p.e, rho))):
        gradient, A = host(rn.pull(p.s, p.e))[l] / N, h[l].T @ h[l] / N
        damped_A, damped_B = A + rho * np.eye(len(A)), B[l] + rho * np.eye(len(B[l]))
        desired = np.linalg.solve(damped_B, gradient) @ np.linalg.inv(damped_A)
        assert_close(dw, desired, condition(damped_A) * condition(damped_B))
        on_the_product = np.linalg.solve(np.kron(B[l], A) + rho * np.eye(gradient.size), gradient.ravel())
        assert relative(dw.ravel(), on_the_product) > 0.1


def test_kernel_with_damping_on_both_factors():
    """(1/N) sum_l [B_l(x',x) (B_l/N + rho)^{-1}] * [A(x',x) (A/N + rho)^{-1}], in the last layer B by 1/N + rho."""
    rho, N = 1e-2, 5
    p = problem((6, 8, 8, 1), rn.relu, 0.5, N=N)
    cross, own = (rn.empirical_kernels(s, p.s) for s in (p.test, p.s))

    def damped_inverse(K):
        return np.linalg.inv(host(K) / N + rho * np.eye(N))

    left = [host(B1) @ damped_inverse(B) for B1, B in zip(cross.B, own.B, strict=True)]
    left[-1] = np.ones((3, N)) / (1 / N + rho)
    right = [host(A1) @ damped_inverse(A) for A1, A in zip(cross.A, own.A, strict=True)]
    desired = sum(b * a for b, a in zip(left, right, strict=True)) / N
    assert_close(rn.KFAC().coefficient(p.test, p.s, rho), desired, condition(host(own.A[0]) / N + rho * np.eye(N)) ** 2)


@pytest.mark.parametrize("widths", [(3, 4, 4, 1), (3, 4, 4, 2), (9, 3, 12, 2)], ids=str)
@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_factors_of_the_widths_serve_where_they_are_smaller_than_those_of_the_samples(widths, q, rho):
    """Both sides of f(X^T X) X^T = X^T f(X X^T) occur: M < N and M >= N."""
    assert_same("KFAC", problem(widths, rn.tanh, 0.5, N=6), rho, q)


def test_theta_bar_is_a_product_of_orthogonal_projectors():
    """THEORY 4: Theta_bar_l / N = P_B * P_A at any width."""
    N, p = 6, problem((3, 4, 1), rn.tanh, N=6)

    def projector(X):
        U, s, _ = np.linalg.svd(X, full_matrices=False)
        U = U[:, s > 1e-10 * s[0]]
        return U @ U.T

    h, delta = host(p.s.h), host(p.s.delta)
    desired = projector(delta[0][:, 0]) * projector(h[0]) + projector(h[1])  # B*_L = 1/N: P_B = 1 1^T in the last layer
    k = rn.empirical_kernels(p.s, p.s)
    assert_close(host(rn.KFAC().coefficient(p.s, p.s)) / N, desired, max(condition(host(K)) for K in [*k.A, *k.B[:-1]]))


def test_shared_activation_patterns_make_b_singular_and_are_handled():
    """The ReLU trap of THEORY 4: two samples with one pattern have parallel backward signals."""
    p = problem((8, 5, 1), rn.relu, N=6)
    B = host(rn.empirical_kernels(p.s, p.s).B[0])
    assert np.linalg.matrix_rank(B) < 6
    assert_same("KFAC", p)


def test_a_layer_as_wide_as_there_are_signals_is_wide_enough():
    """N C = 8 backward signals are a basis of 8 units, and of no fewer."""
    p = problem((8, 8, 2), rn.tanh, N=4)
    assert rn.KFAC().alpha(p.net, 4) == 8
    kappa = max(condition(host(K)) for k in [rn.empirical_kernels(p.s, p.s)] for K in [*k.A, k.B[0]])
    assert_close(rn.KFAC().coefficient(p.s, p.s), 8 * np.eye(8), kappa)
    assert rn.KFAC().alpha(rn.Network((8, 7, 2), rn.tanh), 4) is None


def test_separate_bias_without_bias_is_plain_kfac():
    p = problem((6, 7, 2), rn.tanh)
    for a, b in zip(rn.KFAC("separate").direction(p.s, p.e), rn.KFAC().direction(p.s, p.e), strict=True):
        assert relative(a, b) == 0


# ------------------------------------------------------------------------ the damping of Huh, Fig. S.I.2: B (x) A + rho


@pytest.mark.parametrize("bias", ["augmented", "separate"])
@pytest.mark.parametrize("last", ["identity", "gram"])
@pytest.mark.parametrize(("q", "rho"), [(1, 0.0), (1, 1e-3), (2, 0.1), (3, 1e-3)])
@pytest.mark.parametrize("widths", [(5, 6, 4, 2), (2, 3, 2)], ids=str)  # more samples than units, too
def test_damping_of_the_product(widths, q, rho, last, bias):
    options = {"bias": bias, "last": last, "damping": "product"}
    pair = rn.KFAC(**options), definitions.Fisher("KFAC", **options)
    p = problem(widths, rn.tanh, 0.5)
    assert_same(pair, p, rho, q)
    cross, own = (rn.empirical_kernels(s, p.s) for s in (p.test, p.s))
    kappa = condition(definitions.matrix(literal(p.s), pair[1], rho)) ** 2  # Gram matrices
    if kappa < 1e9:
        assert_close(pair[0].kernel_coefficient(cross, own, rho, q), pair[0].coefficient(p.test, p.s, rho, q), kappa)


def test_dampings_of_product_and_factors_meet_at_their_ends_only():
    """At rho = 0 they are one matrix; as rho grows rho^{-2/q} and rho^{-1/q} times the gradient."""
    p, rho = problem((5, 6, 2), rn.tanh), 1e9
    factors, product, gradient = rn.KFAC(), rn.KFAC(damping="product"), rn.flatten(rn.pull(p.s, p.e / len(p.e)))

    def steps(rho, q):
        return [rn.flatten(fisher.direction(p.s, p.e, rho, q)) for fisher in (factors, product)]

    for power, step in zip((2, 1), steps(rho, 2), strict=True):
        assert relative(step * rho ** (power / 2), gradient) < 1e-6
    assert relative(*steps(0.0, 1)) < 1e-13
    assert relative(*steps(0.1, 1)) > 0.1
    with pytest.raises(ValueError, match="damping is 'both'; expected 'factors' or 'product'"):
        rn.KFAC(damping="both")
