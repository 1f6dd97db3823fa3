"""THEORY 2: what holds between approximations, matrices, steps and kernels; `definitions` has a file of its own."""

import numpy as np
import pytest
from support import FISHERS, assert_close, condition, generator, host, on, problem, relative

import refngd as rn


@pytest.mark.parametrize("name", FISHERS)
def test_column_k_of_the_coefficient_is_the_push_of_the_direction_of_e_k(name):
    p, fisher = problem((6, 7, 7, 2), rn.relu, 0.7), FISHERS[name]
    N, C = p.s.f.shape
    columns = []
    for k in range(N * C):
        e = np.zeros((N, C))
        e[k // C, k % C] = 1
        columns.append(host(rn.push(p.test, fisher.direction(p.s, on(e), 20.0))).ravel())
    assert_close(fisher.coefficient(p.test, p.s, 20.0), np.array(columns).T, condition(host(fisher.matrix(p.s, 20.0))))


@pytest.mark.parametrize(("Sigma", "same"), [(np.ones((3, 3)), rn.Exact()), (np.eye(3), rn.BlockDiagonal())])
def test_sigma_names_the_special_cases(Sigma, same):
    p = problem((6, 7, 7, 2))
    for rho, q in ((0.0, 1), (0.1, 2)):
        actual, desired = (rn.flatten(f.direction(p.s, p.e, rho, q)) for f in (rn.Layerwise(Sigma), same))
        assert relative(actual, desired) == 0


def test_powers_join_natural_gradient_and_gradient_descent_in_function_space():
    """THEORY 7: Theta_bar = Theta^{1 - 1/q} for exact, sum_l Theta_l^{1 - 1/q} for block-diagonal."""
    p = problem((8, 12, 12, 2), N=5)
    Theta_l = host(rn.empirical_kernels(p.s, p.s).Theta)

    def power(K, a):
        w, V = np.linalg.eigh(K)
        return (V * w**a) @ V.T

    for q in (1, 2, 4):
        assert_close(rn.Exact().coefficient(p.s, p.s, q=q), power(sum(Theta_l), 1 - 1 / q), condition(sum(Theta_l)))
        desired = sum(power(T, 1 - 1 / q) for T in Theta_l)
        assert_close(rn.BlockDiagonal().coefficient(p.s, p.s, q=q), desired, max(map(condition, Theta_l)))


@pytest.mark.parametrize("name", FISHERS)
def test_infinite_power_is_gradient_descent(name):
    p = problem((6, 7, 7, 2), rn.relu, 0.7)
    for actual, desired in zip(
        FISHERS[name].direction(p.s, p.e, 0.1, np.inf), rn.pull(p.s, p.e / len(p.e)), strict=True
    ):
        assert_close(actual, desired)
    assert_close(FISHERS[name].coefficient(p.test, p.s, 0.1, np.inf), rn.ntk(p.test, p.s))


def test_ntk_is_the_product_of_the_jacobians_over_the_number_of_training_samples():
    p = problem((3, 4, 4, 2), rn.relu, 0.5, N=5)
    assert_close(rn.ntk(p.test, p.s), p.J_test @ p.J.T / 5)
    for l, Theta in enumerate(host(rn.empirical_kernels(p.s, p.s).Theta)):
        blocks = np.split(p.J, np.cumsum([M * k for M, k in p.net.shapes])[:-1], axis=1)
        assert_close(Theta, blocks[l] @ blocks[l].T / 5)


def test_fisher_information_is_the_gram_matrix_of_the_jacobian():
    p = problem((3, 4, 2))
    assert_close(rn.fisher_information(p.s), p.J.T @ p.J / len(p.e))


def test_inverse_power_takes_stacks_and_indefinite_matrices():
    rng = generator()
    K = rng.standard_normal((2, 5, 5))
    K = K + K.transpose(0, 2, 1)
    for matrix, inverse in zip(K, host(rn.inverse_power(on(K))), strict=True):
        assert_close(inverse, np.linalg.inv(matrix), np.linalg.cond(matrix))
    with pytest.raises(np.linalg.LinAlgError, match="no real power -1/2: there is a negative eigenvalue"):
        rn.inverse_power(on(K[0]), q=2)


def test_inverse_power_arguments():
    K = on(np.eye(3))
    for bad, message in [
        (K[:2], r"K is .* float64 \(2, 3\); expected an array of float32 or float64 \(2, 2\)"),
        (K[0], r"K is .* float64 \(3,\); expected an array of float32 or float64 \(n, n\)"),
        (on(np.eye(3, dtype=int)), r"K is .* int64 \(3, 3\); expected an array of float32 or float64"),
        (on(np.triu(np.ones((3, 3)))), "K is not symmetric: it differs from its transpose by 1, its size is 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            rn.inverse_power(bad)
    with pytest.raises(ValueError, match="K has non-finite entries; expected finite numbers"):
        rn.inverse_power(on(np.diag([1.0, np.nan, 1.0])))
    with pytest.raises(ValueError, match=r"rcond is 1; expected None or a number in \[0, 1\)"):
        rn.inverse_power(K, rcond=1)
    with pytest.raises(ValueError, match="rho is -1; expected a finite number >= 0"):
        rn.inverse_power(K, -1)
    with pytest.raises(ValueError, match=r"q is 0; expected a number in \[1, inf\]"):
        rn.inverse_power(K, q=0)


def test_layerwise_keeps_a_symmetric_copy_of_sigma():
    Sigma = np.array([[2.0, 0.5], [0.5 + 1e-14, 1]])
    fisher = rn.Layerwise(Sigma)
    Sigma[0, 0] = 7
    kept = fisher.Sigma(2)
    assert (kept == kept.T).all()
    assert kept[0, 0] == 2
