"""THEORY 2: every approximation as dense matrix and in factored form, over depth, outputs, bias, damping and power."""

import itertools
import warnings

import numpy as np
import pytest
from support import FISHERS, assert_close, condition, generator, host, on, problem, relative

import refngd as rn

NETWORKS = [
    pytest.param((6, *[7] * (L - 1), C), activation, sigma_b, id=f"L{L}-C{C}-{activation}-{sigma_b}")
    for L, C, activation, sigma_b in itertools.product(range(2, 7), (1, 3), (rn.tanh, rn.relu), (0.0, 0.7))
]
PARAMETERIZATIONS = ("ntk", "standard")
POWERS = (1, 2, 3, np.inf)
DAMPINGS = (0.0, 1e-3, 10.0)


def has_power(name, L, sigma_b, q):
    """Whether G^{-1/q} is defined: not for Sigma that couples layers, nor for the quasi-diagonal's own solve."""
    if name == "BlockTridiagonal":
        return q == 1 or L == 2 or np.isinf(q)
    return not (name == "QuasiDiagonal" and sigma_b and 1 < q < np.inf)


def literal_matrix(name, p):
    """G at rho = 0, element by element from the explicit Jacobian and signals."""
    N, C = p.s.f.shape
    J, h, delta = p.J, host(p.s.h), host(p.s.delta)
    index = [(l, i, j) for l, (M, k) in enumerate(p.net.shapes) for i in range(M) for j in range(k)]
    L, bias = len(h), p.net.sigma_b > 0
    F = J.T @ J / N

    def last(a):  # whether parameter a is a bias
        return bias and a[2] == p.net.shapes[a[0]][1] - 1

    def kfac(a, b):
        l, separate = a[0], name == "KFAC-separate"
        if l != b[0] or (separate and last(a) != last(b)):
            return 0.0
        B = sum(delta[l][n, c, a[1]] * delta[l][n, c, b[1]] for n in range(N) for c in range(C)) / N
        if separate and last(a):
            return p.s.bias**2 * B / N  # (S.123)
        if l == L - 1 and name != "KFAC-gram":
            B = float(a[1] == b[1]) / N
        return B * sum(h[l][n, a[2]] * h[l][n, b[2]] for n in range(N)) / N

    def quasi(a, b, r, c):
        if a == b or (a[:2] == b[:2] and (last(a) or last(b))):
            return F[r, c]
        if a[:2] != b[:2] or not bias:
            return 0.0
        zero = index.index((a[0], a[1], p.net.shapes[a[0]][1] - 1))
        return F[zero, r] * F[zero, c] / F[zero, zero] if F[zero, zero] else 0.0

    entry = {
        "Identity": lambda a, b, r, c: float(a == b),
        "Exact": lambda a, b, r, c: F[r, c],
        "BlockDiagonal": lambda a, b, r, c: F[r, c] * (a[0] == b[0]),
        "BlockTridiagonal": lambda a, b, r, c: F[r, c] * (abs(a[0] - b[0]) <= 1),
        "Unitwise": lambda a, b, r, c: F[r, c] * (a[:2] == b[:2]),
        "Entrywise": lambda a, b, r, c: F[r, c] * (a == b),
        "QuasiDiagonal": quasi,
    }.get(name, lambda a, b, r, c: kfac(a, b))
    return np.array([[entry(a, b, r, c) for c, b in enumerate(index)] for r, a in enumerate(index)])


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("C", [1, 2])
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_matrix_is_the_definition_element_by_element(name, C, sigma_b, parameterization):
    p = problem((3, 3, 3, C), rn.relu, sigma_b, N=3, seed=1, parameterization=parameterization)
    assert_close(FISHERS[name].matrix(p.s), literal_matrix(name, p))


@pytest.mark.parametrize("name", [name for name in FISHERS if not name.startswith("KFAC") and name != "QuasiDiagonal"])
def test_damping_adds_rho_to_the_diagonal(name):
    p = problem((3, 3, 2, 2), sigma_b=0.7)
    G = host(FISHERS[name].matrix(p.s))
    assert_close(FISHERS[name].matrix(p.s, 0.3), G + 0.3 * np.eye(len(G)))


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize(("widths", "activation", "sigma_b"), NETWORKS)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_factored_direction_and_coefficient_are_those_of_the_dense_matrix(
    name, widths, activation, sigma_b, parameterization
):
    p, fisher = problem(widths, activation, sigma_b, seed=3, parameterization=parameterization), FISHERS[name]
    N, J, J_test = len(p.e), p.J, p.J_test
    gradient = J.T @ host(p.e).ravel() / N
    for rho in DAMPINGS:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "rho = .* lies among the negative eigenvalues")  # a test of its own below
            G = host(fisher.matrix(p.s, rho))
            kappa = condition(G)
            for q in (q for q in POWERS if has_power(name, len(widths) - 1, sigma_b, q)):
                inverse = host(rn.inverse_power(on(G), q=q, rcond=1e-12))
                direction = rn.flatten(fisher.direction(p.s, p.e, rho, q))
                assert_close(direction, inverse @ gradient, kappa)
                assert_close(fisher.coefficient(p.test, p.s, rho, q), J_test @ inverse @ J.T / N, kappa)


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


@pytest.mark.parametrize(
    "Sigma", [[[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]], [[1, 2, 0], [2, 1, 0.5], [0, 0.5, -1]]]
)
@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("rho", [0.0, 50.0])
def test_any_symmetric_sigma_definite_or_not(Sigma, C, rho):
    p, fisher = problem((6, 7, 7, C), rn.tanh, 0.5), rn.Layerwise(Sigma)
    G = host(fisher.matrix(p.s, rho))
    inverse, N = host(rn.inverse_power(on(G), rcond=1e-12)), len(p.e)
    assert_close(rn.flatten(fisher.direction(p.s, p.e, rho)), inverse @ p.J.T @ host(p.e).ravel() / N, condition(G))
    assert_close(fisher.coefficient(p.test, p.s, rho), p.J_test @ inverse @ p.J.T / N, condition(G))


@pytest.mark.parametrize("q", POWERS)
def test_a_sigma_that_merges_layers_takes_every_power(q):
    p = problem((6, 7, 7, 2))
    G = host(rn.Layerwise([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).matrix(p.s))
    direction = rn.Layerwise([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).direction(p.s, p.e, q=q)
    desired = host(rn.inverse_power(on(G), q=q, rcond=1e-12)) @ p.J.T @ host(p.e).ravel() / len(p.e)
    assert_close(rn.flatten(direction), desired, condition(G))


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
        (K[:2], r"K has shape \(2, 3\); expected a square matrix of floats"),
        (K[0], r"K has shape \(3,\); expected a square"),
        (on(np.eye(3, dtype=int)), "expected a square matrix of floats"),
        (on(np.triu(np.ones((3, 3)))), "K is not symmetric: it differs from its transpose by 1, its size is 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            rn.inverse_power(bad)
    with pytest.raises(FloatingPointError, match="a matrix has non-finite entries"):
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
