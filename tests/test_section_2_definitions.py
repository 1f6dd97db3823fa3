"""THEORY 2: `definitions` against element-by-element matrices, and the factored forms of the library against it."""

import itertools
import tracemalloc

import numpy as np
import pytest
from support import (
    ACTIVATIONS,
    DEFINED,
    FISHERS,
    assert_close,
    assert_same,
    condition,
    generator,
    host,
    literal,
    on,
    problem,
)  # fmt: skip

import refngd as rn
from refngd import definitions

POWERS = (1, 2, 3, np.inf)
DAMPINGS = (0.0, 1e-3, 10.0)
SETTINGS = [(rn.tanh, 0.0), (rn.relu, 0.7)]


def has_power(name, L, sigma_b, q):
    """Whether the library offers G^{-1/q}: not if G is indefinite, nor for the quasi-diagonal's own solve."""
    if name == "BlockTridiagonal":
        return q == 1 or L <= 2 or np.isinf(q)
    return not (name == "QuasiDiagonal" and sigma_b and 1 < q < np.inf)


# ------------------------------------------------------------------------------------- the definitions, from elements


def literal_matrix(name, s, rho):
    """G, entry by entry from the explicit Jacobian and signals: an own check of the oracle."""
    N, C = s.f.shape
    J, h, delta = definitions.jacobian(s), s.h, s.delta
    shapes = [(d.shape[2], a.shape[1]) for a, d in zip(h, delta, strict=True)]
    index = [(l, i, j) for l, (M, k) in enumerate(shapes) for i in range(M) for j in range(k)]
    biased = [(l, i, k - 1) for l, (M, k) in enumerate(shapes) for i in range(M) if s.bias[l]]
    bias = {(l, i): index.index((l, i, j)) for l, i, j in biased}

    def F(r, c):
        return sum(J[n, r] * J[n, c] for n in range(N * C)) / N

    def kfac(a, b, r, c):
        l, separate = a[0], name == "KFAC-separate"
        if l != b[0] or (separate and (r in bias.values()) != (c in bias.values())):
            return 0.0
        B = sum(delta[l][n, k, a[1]] * delta[l][n, k, b[1]] for n in range(N) for k in range(C)) / N
        if separate and r in bias.values():
            return s.bias[l] ** 2 * B / N + rho * (a[1] == b[1])  # (S.123)
        if s.layers[l] == s.L and name != "KFAC-gram":
            B = float(a[1] == b[1]) / N
        A = sum(h[l][n, a[2]] * h[l][n, b[2]] for n in range(N)) / N
        if name == "KFAC-product":
            return B * A + rho * (a == b)
        return (B + rho * (a[1] == b[1])) * (A + rho * (a[2] == b[2]))

    def quasi(a, b, r, c):
        zero = bias.get(a[:2])
        if r == c or (a[:2] == b[:2] and zero in (r, c)):
            return F(r, c)
        A_00 = F(zero, zero) + rho if zero is not None else 0.0
        return F(zero, r) * F(zero, c) / A_00 if a[:2] == b[:2] and A_00 else 0.0

    entry = {
        "Identity": lambda a, b, r, c: float(r == c),
        "Exact": lambda a, b, r, c: F(r, c),
        "BlockDiagonal": lambda a, b, r, c: F(r, c) * (a[0] == b[0]),
        "BlockTridiagonal": lambda a, b, r, c: F(r, c) * (abs(s.layers[a[0]] - s.layers[b[0]]) <= 1),
        "Unitwise": lambda a, b, r, c: F(r, c) * (a[:2] == b[:2]),
        "Entrywise": lambda a, b, r, c: F(r, c) * (r == c),
        "QuasiDiagonal": quasi,
    }.get(name, kfac)
    G = np.array([[entry(a, b, r, c) for c, b in enumerate(index)] for r, a in enumerate(index)])
    return G if name.startswith("KFAC") else G + rho * np.eye(len(G))


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize(("C", "sigma_b", "parameterization"), [(1, 0.0, "ntk"), (2, 0.7, "ntk"), (2, 0.7, "standard")])
def test_the_matrix_of_the_definitions_is_right_element_by_element(name, C, sigma_b, parameterization):
    p = problem((3, 3, 2, C), rn.relu, sigma_b, N=3, seed=1, parameterization=parameterization)
    for rho in (0.0, 0.3):
        G = literal_matrix(name, literal(p.s), rho)
        assert_close(definitions.matrix(literal(p.s), DEFINED[name], rho), G)
        assert_close(FISHERS[name].matrix(p.s, rho), G)


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_signals_of_the_definitions_are_those_of_the_library(activation, sigma_b, parameterization):
    """Which `test_section_1_networks` holds against loops over units and against differences."""
    p = problem((4, 5, 3, 2), activation, sigma_b, parameterization=parameterization)
    name = str(activation).partition("(")[0]
    own = definitions.shifted_relu(activation.s) if name == "shifted_relu" else getattr(definitions, name)
    net = definitions.Net(own, p.net.sigma_w, sigma_b, parameterization)
    s = definitions.signals(net, host(p.W), host(p.x))
    for a, b in zip([s.f, *s.h, *s.delta], [p.s.f, *p.s.h, *p.s.delta], strict=True):
        assert_close(b, a, 10)
    assert (s.bias, s.layers, s.L) == p.s.trained.literal
    upper, above = definitions.signals(net, host(p.W), host(p.x), frozen=1), p.s.above(1)
    assert_close(rn.jacobian(above), definitions.jacobian(upper), 10)
    v, dW = host(p.e), [generator(l).standard_normal(w.shape) for l, w in enumerate(host(p.W))]
    assert_close(rn.push(p.s, on(dW)), definitions.push(s, dW), 10)
    assert_close(rn.flatten(rn.pull(p.s, p.e)), definitions.flatten(definitions.pull(s, v)), 10)
    assert_close(rn.ntk(p.test, p.s), definitions.ntk(literal(p.test), s), 10)


@pytest.mark.parametrize("name", DEFINED)
@pytest.mark.parametrize(("widths", "N"), [((4, 5, 5, 2), 3), ((2, 2, 2, 1), 20)], ids=str)
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_k_of_the_definitions_is_the_power_of_their_matrix_times_j(name, widths, N, sigma_b):
    s = literal(problem(widths, rn.tanh, sigma_b, N=N).s)
    for rho, q in itertools.product(DAMPINGS, POWERS):
        if q in (1, np.inf) or name != "BlockTridiagonal":
            G = definitions.matrix(s, DEFINED[name], rho)
            expected = definitions.inverse_power(G, 0.0, q) @ definitions.jacobian(s).T
            assert_close(definitions.preconditioned(s, DEFINED[name], rho, q), expected, condition(G))


# ---------------------------------------------------------------------------------- the library against the definitions


def networks(hidden, N):
    """Depth 1 to 5 with one and three outputs; with `hidden` the width of all hidden layers."""
    for L, C, (activation, sigma_b) in itertools.product(range(1, 6), (1, 3), SETTINGS):
        widths = (hidden, *[hidden] * (L - 1), C)
        yield pytest.param(widths, activation, sigma_b, N, id=f"L{L}-C{C}-{activation}-N{N}")


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize(("widths", "activation", "sigma_b", "N"), [*networks(7, 4), *networks(2, 32)])
def test_direction_and_coefficient_are_those_of_the_definitions(name, widths, activation, sigma_b, N):
    """With more parameters than N C, and with fewer, where least squares take the place of interpolation."""
    p = problem(widths, activation, sigma_b, N=N, seed=11)  # of J with condition numbers below 1e6
    for rho, q in itertools.product(DAMPINGS, POWERS):
        if has_power(name, len(widths) - 1, sigma_b, q):
            assert_same(name, p, rho, q)


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize(("widths", "N"), [((9, 12, 12, 2), 3), ((2, 2, 2), 16)], ids=str)
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_float32_is_that_of_the_definitions_in_float64(name, widths, N, rho):
    p = problem(widths, rn.tanh, 0.5, N=N, seed=1, dtype=np.float32)
    kappa = condition(definitions.matrix(literal(p.s), DEFINED[name], rho))
    for q in (q for q in POWERS if has_power(name, len(widths) - 1, 0.5, q) and kappa < 5e3):  # else no digit is left
        assert_same(name, p, rho, q, kappa, np.float32)


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("N", [1, 50])
@pytest.mark.parametrize("rho", [0.0, 1e-12, 1.0])
def test_one_parameter(name, N, rho):
    p = problem((1, 1), rn.linear, N=N)
    for q in POWERS:
        assert_same(name, p, rho, q)


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize(("of_x", "of_W"), [*itertools.product((1e-60, 1.0, 1e60), repeat=2)])
def test_any_scale_of_inputs_and_weights(name, of_x, of_W):
    """ReLU without bias: J is homogeneous, of degree 1 in x and L - 1 in W, so its condition number stays the same."""
    p = problem((5, 6, 2), rn.relu, N=3, seed=2)
    kappa = condition(definitions.matrix(literal(p.s), DEFINED[name]))
    W = [of_W * w for w in p.W]
    p.s, p.test = (p.net.signals(W, of_x * x) for x in (p.x, p.x[:2] + p.x[1:]))
    dampings = (0.0,) if name.startswith("KFAC") else (0.0, 0.1 * (of_x * of_W) ** 2)  # its factors scale differently
    for rho, q in itertools.product(dampings, (1, 2)):
        if has_power(name, 2, 0.0, q):
            assert_same(name, p, rho, q, 10 * kappa)


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("rho", [0.0, 1e-8])
def test_duplicate_samples(name, rho):
    """Their residuals differ, so that e is outside the range of the kernel; what is outside leaves no trace in K e."""
    p = problem((6, 9, 9, 1), rn.tanh, 0.5)
    x = host(p.x)
    x[3] = x[0]
    p.s = p.net.signals(p.W, on(x))
    assert_same(name, p, rho)


@pytest.mark.parametrize("name", ["Exact", "BlockDiagonal", "Unitwise", "KFAC"])
def test_least_squares_with_more_samples_than_parameters(name):
    """In float32, and nearly collinear: np.linalg.lstsq says (1, 1.99997), a Gram matrix of samples (1, 0)."""
    x = np.array([[1, 1e-3], [1, -1e-3]] * 3, np.float32)
    y = x @ np.array([[1], [2]], np.float32)
    s = rn.Network((2, 1), rn.linear).signals(on([np.zeros((1, 2), np.float32)]), on(x))
    dW = -host(FISHERS[name].direction(s, on(-y)))[0] / (6 if name == "KFAC" else 1)  # A* and B*_L have 1/N both
    np.testing.assert_allclose(dW, [[1, 2]], rtol=1e-4)


@pytest.mark.parametrize("name", ["Exact", "BlockDiagonal", "BlockTridiagonal", "Unitwise", "KFAC", "KFAC-gram"])
def test_few_parameters_need_no_matrix_of_the_samples(name):
    rng, net = generator(), rn.Network((5, 1), rn.tanh)
    s = net.signals(net.init(rng), rng.standard_normal((1500, 5)))  # on the host, where tracemalloc sees it
    tracemalloc.start()
    FISHERS[name].direction(s, s.f)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1500**2 / 10


# ---------------------------------------------------------------------------------------------------- layers coupled


SIGMAS = {
    "definite": [[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]],
    "indefinite": [[1, 2, 0], [2, 1, 0.5], [0, 0.5, -1]],
    "merging": [[1, 1, 0], [1, 1, 0], [0, 0, 1]],
    "semidefinite": [[2, 0, 1], [0, 2, 1], [1, 1, 1]],
    "singular and indefinite": [[1, 1, 1], [1, 1, 1], [1, 1, -1]],
    "singular, indefinite, without 1": [[0, 1, 1], [1, 0, 1], [1, 1, 2]],
    "without a layer": [[1, 0, 0], [0, 0, 0], [0, 0, 1]],
    "without two": [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
    "without the last": [[2, 1, 0], [1, 2, 0], [0, 0, 0]],
}


@pytest.mark.parametrize("Sigma", SIGMAS)
@pytest.mark.parametrize(("widths", "N"), [((6, 7, 7, 1), 4), ((6, 7, 7, 3), 4), ((2, 2, 2, 1), 16)], ids=str)
@pytest.mark.parametrize("rho", [0.0, 50.0])
def test_any_symmetric_sigma(Sigma, widths, N, rho):
    """At rho = 0 the pseudo-inverse, whether 1 is in the range of Sigma or not; with rho > 0 G is regular."""
    p, Sigma = problem(widths, rn.tanh, 0.5, N=N), np.array(SIGMAS[Sigma], float)
    assert_same((rn.Layerwise(Sigma), definitions.Fisher("Layerwise", Sigma)), p, rho)


@pytest.mark.parametrize("Sigma", SIGMAS)
@pytest.mark.parametrize(("widths", "N"), [((6, 7, 7, 3), 4), ((2, 2, 2, 1), 16)], ids=str)
def test_k_of_any_sigma_is_the_power_of_the_matrix_of_the_definitions(Sigma, widths, N):
    s, fisher = literal(problem(widths, rn.tanh, 0.5, N=N).s), definitions.Fisher("Layerwise", np.array(SIGMAS[Sigma]))
    semidefinite = np.linalg.eigvalsh(fisher.Sigma)[0] > -1e-12
    for rho, q in itertools.product((0.0, 50.0), (1, 2, 3) if semidefinite else (1,)):
        G = definitions.matrix(s, fisher, rho)
        expected = definitions.inverse_power(G, 0.0, q) @ definitions.jacobian(s).T
        assert_close(definitions.preconditioned(s, fisher, rho, q), expected, condition(G))


@pytest.mark.parametrize(("Sigma", "alpha"), [("without a layer", 2), ("without two", 1), ("without the last", 2 / 3)])
def test_a_sigma_without_1_in_its_range_is_isotropic_in_the_definitions(Sigma, alpha):
    """alpha = 1^T Sigma^+ 1 on the rows that Sigma does not annihilate."""
    s = literal(problem((8, 40, 40, 2), rn.tanh).s)
    Theta_bar = definitions.coefficient(s, s, definitions.Fisher("Layerwise", np.array(SIGMAS[Sigma], float)))
    np.testing.assert_allclose(Theta_bar, alpha * np.eye(8), atol=1e-12)


@pytest.mark.parametrize("q", POWERS)
def test_a_sigma_that_merges_layers_takes_every_power(q):
    p, Sigma = problem((6, 7, 7, 2)), np.array(SIGMAS["merging"], float)
    for rho in (0.0, 0.1):
        assert_same((rn.Layerwise(Sigma), definitions.Fisher("Layerwise", Sigma)), p, rho, q)


@pytest.mark.parametrize("rho", [0.0, 1e-3])
def test_a_dead_layer_leaves_tri_diagonal_a_pseudo_inverse(rho):
    """Layers 2 and 3 alone have Sigma = 1 1^T, though Sigma is regular and indefinite."""
    p = problem((6, 7, 7, 1), rn.tanh)
    signals = host(p.s.f), host(p.s.h), host(p.s.delta)
    delta = [0 * signals[2][0], *signals[2][1:]]
    p.s = rn.Signals(on(signals[0]), on(signals[1]), on(delta))
    exact = definitions.preconditioned(literal(p.s), definitions.Fisher("Exact"), rho)
    tri = definitions.preconditioned(literal(p.s), definitions.Fisher("BlockTridiagonal"), rho)
    kappa = condition(definitions.matrix(literal(p.s), definitions.Fisher("Exact"), rho))
    assert_close(tri, exact, kappa)
    assert_same("BlockTridiagonal", p, rho)


# ------------------------------------------------------------------------------------------------------ other losses


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("loss", [rn.cross_entropy, rn.CrossEntropy(0.1)], ids=str)
def test_the_cross_entropy_is_that_of_the_definitions(name, loss):
    p, fisher, defined = problem((6, 9, 9, 3), rn.tanh, 0.5), FISHERS[name], DEFINED[name]
    y = np.eye(3)[[0, 2, 1, 1]]
    s, e = definitions.whiten(literal(p.s), y, "cross-entropy", loss.rho)
    assert loss.value(p.s.f, on(y)) == pytest.approx(definitions.loss_value(host(p.s.f), y, "cross-entropy"), rel=1e-14)
    assert_close(loss.residual(p.s.f, on(y)), definitions.residual(host(p.s.f), y, "cross-entropy"), 10)
    for rho in (0.0, 10.0):
        G = definitions.matrix(s, defined, rho)
        assert_close(fisher.matrix(loss.whiten(p.s, on(y))[0], rho), G, 10)
        dW, expected = fisher.direction(*loss.whiten(p.s, on(y)), rho), definitions.direction(s, e, defined, rho)
        assert_close(rn.flatten(dW), definitions.flatten(expected), condition(G))


@pytest.mark.parametrize("loss_rho", [0.0, 0.1])
def test_whitened_signals_make_the_hessian_the_identity(loss_rho):
    """The definitions' own check: R^T R = Lambda + rho~ I and R^T e = p - y, from p as it is written down."""
    s, y = literal(problem((6, 9, 3), rn.tanh).s), np.eye(3)[[0, 2, 1, 1]]
    white, e = definitions.whiten(s, y, "cross-entropy", loss_rho)
    p = np.exp(s.f) / np.exp(s.f).sum(1, keepdims=True)
    for R, p_n, y_n, e_n in zip(white.delta[-1], p, y, e, strict=True):  # delta_L was I
        assert_close(R.T @ R, np.diag(p_n) - np.outer(p_n, p_n) + loss_rho * np.eye(3), 10)
        assert_close(R.T @ e_n, p_n - y_n, 10)
    assert_close(white.delta[0], np.einsum("ncd,ndi->nci", white.delta[-1], s.delta[0]))


@pytest.mark.parametrize("logit", [20.0, 40.0, 300.0])
def test_a_confident_prediction_keeps_all_digits_in_the_definitions(logit):
    """p - y and -log p_y are e^{-logit} there, far below the rounding of p = 1."""
    f, y = np.array([[logit, 0.0, -1.0]]), np.array([[1.0, 0, 0]])
    small = np.array([np.exp(-logit), np.exp(-1 - logit)])
    np.testing.assert_allclose(
        definitions.residual(f, y, "cross-entropy")[0], [-small.sum(), *small], rtol=2 * small.sum() + 1e-14
    )
    assert definitions.loss_value(f, y, "cross-entropy") == pytest.approx(small.sum(), rel=2 * small.sum() + 1e-14)
    assert definitions.loss_value(f, y[:, ::-1], "cross-entropy") == pytest.approx(logit + 1, rel=1e-8)


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("loss", [rn.mse, rn.CrossEntropy(0.1)], ids=str)
def test_training_takes_the_steps_of_the_definitions(name, loss):
    p, eta, frozen = problem((6, 9, 9, 3), rn.tanh, 0.5), 0.05, 1
    y = np.eye(3)[[0, 2, 1, 1]]
    net = definitions.Net(definitions.tanh, p.net.sigma_w, 0.5)
    kind = {} if loss is rn.mse else {"loss": "cross-entropy", "loss_rho": loss.rho}
    W, losses = definitions.training(
        net, host(p.W), host(p.x), y, DEFINED[name], eta, 3, rho=0.1, frozen=frozen, **kind
    )
    steps = list(rn.train(p.net, p.W, p.x, on(y), FISHERS[name], eta, 3, 0.1, loss=loss, frozen=frozen))
    assert [step.loss for step in steps] == pytest.approx(losses, rel=1e-9)
    assert_close(rn.flatten(steps[-1].W), definitions.flatten(W), 1e4)
