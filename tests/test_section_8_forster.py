"""THEORY 8: fewer inputs than samples. The Forster transform, K-FAC before and after it, and layers kept fixed."""

from itertools import pairwise

import numpy as np
import pytest
from support import FISHERS, assert_close, condition, generator, host, on, problem

import refngd as rn
from refngd.preprocess import forster, unit_norm


def gaussian(N, M_0, seed=0, dtype=np.float64):
    return generator(seed).standard_normal((N, M_0)).astype(dtype)


def transformed(x, *others):
    """Y of x, the same map of all others, and the condition number of A."""
    A = forster(on(x))
    return *(unit_norm(on(z) @ A) for z in (x, *others)), np.linalg.cond(host(A))


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_rows_of_any_size_get_unit_norm(size):
    assert_close(unit_norm(on(size * np.array([[3.0, 4], [0, -7], [5, 12]]))), [[0.6, 0.8], [0, -1], [5 / 13, 12 / 13]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(100, 64), (65, 64), (64, 64), (20, 4), (7, 1)], ids=str)
def test_forster_transform_makes_a_tight_frame_of_unit_vectors(shape, dtype):
    """K&O below (S.109): Y^T Y = (N / M_0) I and ||y_n|| = 1."""
    N, M_0 = shape
    Y, kappa = transformed(gaussian(N, M_0, dtype=dtype))
    assert Y.dtype == dtype
    assert_close(np.linalg.norm(host(Y), axis=1), np.ones(N), dtype=dtype)
    assert_close(Y.T @ Y, N / M_0 * np.eye(M_0), kappa, dtype)


def test_float32_inputs_of_very_different_scales_are_no_obstacle():
    x = gaussian(100, 64) * np.logspace(0, -4, 64)
    Y, kappa = transformed(x.astype(np.float32))
    assert kappa > 1e4
    assert abs(host(Y.T @ Y) - 100 / 64 * np.eye(64)).max() < 1e-5


def test_result_depends_neither_on_the_basis_of_the_inputs_nor_on_the_length_of_the_samples():
    """Y is unique up to a rotation, hence Y Y^T is."""
    x, rng = gaussian(20, 4), generator(1)
    basis, lengths = rng.standard_normal((4, 4)), rng.uniform(0.1, 10, (20, 1))
    (Y, kappa), (Z, kappa_z) = transformed(x), transformed(lengths * x @ basis)
    assert_close(Z @ Z.T, Y @ Y.T, kappa * kappa_z)


def test_convergence_is_linear_and_tolerance_and_steps_bound_it():
    x = on(gaussian(100, 64))
    forster(x, steps=110)
    for steps in (20, 40, 60):
        with pytest.raises(
            np.linalg.LinAlgError, match=f"no Forster transform of x in {steps} steps: .* is still"
        ) as e:
            forster(x, steps=steps)
        residual = float(str(e.value).split("still ")[1].split(". Raise")[0])
        assert residual < 10 * 0.72**steps
        assert forster(x, residual * 1.001, steps).shape == (64, 64)


@pytest.mark.parametrize("dead", [[3], [3, 9]], ids=str)
def test_dead_inputs_are_counted_and_the_advice_helps(dead):
    x, rank = gaussian(100, 64), 64 - len(dead)
    x[:, dead] = 0
    with pytest.raises(np.linalg.LinAlgError, match=f"x has rank {rank}, not M_0 = 64: {len(dead)} of its directions"):
        forster(on(x))
    Y, kappa = transformed(x @ np.linalg.svd(x)[2][:rank].T)
    assert_close(Y.T @ Y, 100 / rank * np.eye(rank), kappa)


def test_dependent_inputs_are_counted():
    x = gaussian(100, 64)
    x[:, 5] = x[:, 6] - x[:, 7]
    with pytest.raises(np.linalg.LinAlgError, match="x has rank 63, not M_0 = 64: 1 of its directions"):
        forster(on(x))


@pytest.mark.parametrize(
    ("N", "M_0", "rows", "columns", "samples", "k"),
    [
        (100, 64, slice(1, None), slice(3, 4), 99, 63),  # a rare pixel: only one sample has it, 100/64 are needed
        (30, 10, slice(0, 25), slice(0, 5), 25, 5),  # 25 samples in 5 dimensions, which may hold 15
        (30, 10, slice(0, 13), slice(0, 7), 13, 3),  # 13 in 3, which may hold 9
    ],
)
def test_a_subspace_that_holds_too_many_samples_is_named(N, M_0, rows, columns, samples, k):
    x = gaussian(N, M_0)
    x[rows, columns] = 0
    with pytest.raises(np.linalg.LinAlgError, match=f"about {samples} of the {N} samples lie in .* subspace of {k} of"):
        forster(on(x))


def test_duplicates_in_excess_are_named_and_allowed_up_to_n_over_m_0():
    for copies, feasible in ((2, True), (4, False)):
        x = gaussian(30, 10)
        x[1:copies] = x[0]
        if feasible:
            Y, kappa = transformed(x)
            assert_close(Y.T @ Y, 3 * np.eye(10), kappa)
        else:
            with pytest.raises(
                np.linalg.LinAlgError, match=r"about 4 of the 30 samples lie in .* of 1 of the 10 .* hold 3 "
            ):
                forster(on(x))
    x[3] = gaussian(1, 10, seed=1)  # three copies: just N / M_0, where A diverges, but slower than geometrically
    with pytest.raises(np.linalg.LinAlgError, match=r"in 300 steps: .* is still"):
        forster(on(x), steps=300)


def gram_condition(s):
    k = rn.empirical_kernels(s, s)
    return max(condition(host(K)) for K in [*k.A, *k.B[:-1]])


def hat(X):
    """diag(X (X^T X)^{-1} X^T) by a QR factorisation."""
    Q, _ = np.linalg.qr(host(X))
    return (Q * Q).sum(1)


def kfac_theta_bar(first, L, C, bias, last):
    """THEORY 3 with N diag(first) for N I in the weights of layer 1: a sum over layers, weights and biases apart."""
    N = len(first)
    weights = [N * np.diag(first)] + [N * np.eye(N)] * (L - 1)
    if last == "gram":
        weights[-1] = weights[-1] / N
    biases = [N * np.eye(N)] * (L - 1) + [np.ones((N, N))] if bias == "separate" else []
    return np.kron(sum(weights + biases), np.eye(C))


@pytest.mark.parametrize("C", [1, 2])
@pytest.mark.parametrize("L", [2, 3, 4])
@pytest.mark.parametrize("last", ["identity", "gram"])
@pytest.mark.parametrize("bias", ["none", "augmented", "separate"])
def test_kfac_with_fewer_inputs_than_samples_before_and_after_the_transform(C, L, last, bias):
    """(S.109) exactly, and (S.111), (S.123): the table in the docstring of KFAC."""
    N, M_0 = 9, 4
    p = problem((M_0, *[60] * (L - 1), C), rn.tanh, 0.0 if bias == "none" else 0.5, N=N)
    fisher = rn.KFAC("augmented" if bias == "none" else bias, last)
    Y, _ = transformed(host(p.x))
    for x in (p.x, Y):
        s = p.net.signals(p.W, x)
        inputs = s.h[0] if bias != "separate" else s.h[0][:, :-1]
        desired = kfac_theta_bar(hat(inputs), L, C, bias, last)
        assert_close(fisher.coefficient(s, s), desired, gram_condition(s))
        assert_close(host(rn.push(s, fisher.direction(s, p.e))).ravel(), desired @ host(p.e).ravel(), gram_condition(s))
    assert fisher.alpha(p.net, N) is None
    if bias == "augmented":  # the transform of x alone does not make [x ; sigma_b] a tight frame
        assert np.ptp(hat(s.h[0])) > 0.01
        return
    alpha = {
        ("none", "identity"): N * (L - 1) + M_0,
        ("none", "gram"): N * (L - 2) + M_0 + 1,
        ("separate", "identity"): N * (2 * L - 2) + M_0,
        ("separate", "gram"): N * (2 * L - 3) + M_0 + 1,
    }[bias, last]
    Theta_bar = host(fisher.coefficient(s, s))
    if bias == "separate":
        Theta_bar -= np.kron(np.ones((N, N)), np.eye(C))
        dW = fisher.direction(s, p.e)
        dW[-1][:, -1] = 0  # with the output bias fixed, isotropy is exact
        assert_close(rn.push(s, dW), alpha * host(p.e), gram_condition(s))
    assert_close(Theta_bar, alpha * np.eye(N * C), gram_condition(s))


def test_kfac_of_a_single_layer_has_a_projector_which_no_transform_makes_isotropic():
    """B_L = 1 1^T leaves all of X (X^T X)^{-1} X^T, of rank M_0 < N: the table needs L >= 2."""
    Y, kappa = transformed(gaussian(9, 4))
    s = rn.Network((4, 1)).signals([on(np.ones((1, 4)))], Y)
    assert_close(rn.KFAC().coefficient(s, s), 4 * host(Y @ Y.T), kappa)


@pytest.mark.parametrize("last", ["identity", "gram"])
def test_kfac_with_augmented_bias_is_isotropic_after_the_transform_of_the_extended_inputs(last):
    """K&O B.3.3: of z = [sigma_w x / sqrt(M_0) ; sigma_b]. Its last column then varies, so no Network has it as h_0:
    here the network above layer 1, and the chain rule for layer 1 alone."""
    N, M_0, M, L = 9, 4, 60, 3
    p = problem((M_0, M, M, 1), rn.tanh, 0.5, N=N)
    upper = rn.Network(p.net.widths[1:], p.net.activation, p.net.sigma_w, p.net.sigma_b)

    def signals(z):
        u = z @ p.W[0].T
        above = upper.signals(p.W[1:], rn.tanh.phi(u))
        slope = p.net.sigma_w / M**0.5 * rn.tanh.derivative(u)[:, None]
        return rn.Signals(above.f, [z, *above.h], [above.delta[0] @ p.W[1][:, :-1] * slope, *above.delta], p.s.trained)

    s = signals(p.s.h[0])  # without the transform these are the signals of the network
    for own, of_network in zip([s.f, *s.h, *s.delta], [p.s.f, *p.s.h, *p.s.delta], strict=True):
        assert_close(own, of_network)
    fisher = rn.KFAC(last=last)
    assert rn.isotropy(fisher.coefficient(s, s)).deviation > 0.01
    Z, kappa = transformed(host(s.h[0]))
    s = signals(Z)
    alpha = N * (L - 1) + M_0 + 1 if last == "identity" else N * (L - 2) + M_0 + 2
    assert_close(fisher.coefficient(s, s), alpha * np.eye(N), gram_condition(s) * kappa)
    assert_close(rn.push(s, fisher.direction(s, p.e)), alpha * host(p.e), gram_condition(s) * kappa)


def test_test_samples_take_the_same_map_and_the_coefficient_of_equation_s110():
    """A_0(x', x) A_0^+ = (M_0 / N) X' X^T for X, X' transformed with the A of the training set."""
    N, M_0 = 9, 4
    X, X_test, kappa = transformed(gaussian(N, M_0), gaussian(5, M_0, seed=1))
    net = rn.Network((M_0, 60, 1), rn.tanh)
    W = on(net.init(0))
    s, test = net.signals(W, X), net.signals(W, X_test)
    cross, own = (host(rn.empirical_kernels(t, s).B[0]) for t in (test, s))
    first = np.linalg.solve(own, cross.T).T * (M_0 / N * host(X_test) @ host(X).T)
    A, A_cross = (host(rn.empirical_kernels(t, s).A[1]) for t in (s, test))
    desired = N * (first + np.linalg.solve(A, A_cross.T).T)
    assert_close(rn.KFAC().coefficient(test, s), desired, gram_condition(s) * kappa)


@pytest.mark.parametrize("rho", [0.0, 10.0])
@pytest.mark.parametrize(("sigma_b", "C"), [(0.0, 2), (0.7, 1)])
@pytest.mark.parametrize("frozen", [1, 2, 3])
@pytest.mark.parametrize("name", FISHERS)
def test_with_fixed_layers_everything_is_the_definition_on_the_trained_parameters(name, frozen, sigma_b, C, rho):
    p, fisher = problem((3, 6, 6, 6, C), rn.tanh, sigma_b, N=4), FISHERS[name]
    s, test = p.s.above(frozen), p.test.above(frozen)
    trained = slice(sum(M * k for M, k in p.net.shapes[:frozen]), None)
    G, J, J_test = host(fisher.matrix(p.s, rho))[trained, trained], p.J[:, trained], p.J_test[:, trained]
    assert s.shapes == p.net.shapes[frozen:]
    assert_close(rn.jacobian(s), J)
    assert_close(fisher.matrix(s, rho), G)
    inverse, kappa = host(rn.inverse_power(on(G), rcond=1e-12)), condition(G)
    direction = rn.flatten(fisher.direction(s, p.e, rho))
    assert_close(direction, inverse @ J.T @ host(p.e).ravel() / len(p.e), kappa)
    assert_close(fisher.coefficient(test, s, rho), J_test @ inverse @ J.T / len(p.e), kappa)


def test_no_fixed_layers_is_the_same_as_before():
    p = problem((4, 6, 6, 2))
    s = p.s.above(0)
    assert s.shapes == p.s.shapes
    assert all(a is b for a, b in zip([*s.h, *s.delta], [*p.s.h, *p.s.delta], strict=True))


@pytest.mark.parametrize("name", FISHERS)
def test_training_keeps_fixed_weights_bit_by_bit_and_moves_the_others_by_the_direction(name):
    p, fisher, frozen, eta = problem((3, 6, 6, 2), rn.tanh, 0.5, N=5), FISHERS[name], 1, 0.01
    steps = list(rn.train(p.net, p.W, p.x, p.e, fisher, eta, 3, rho=1.0, frozen=frozen))
    for old, new in pairwise(steps):
        assert [w.shape for w in new.W] == p.net.shapes
        assert (host(new.W[0]) == host(p.W[0])).all()
        dW = fisher.direction(p.net.signals(old.W, p.x).above(frozen), old.f - p.e, 1.0)
        for w, w_old, dw in zip(new.W[frozen:], old.W[frozen:], dW, strict=True):
            assert_close(w, w_old - eta * dw)
    assert steps[-1].loss < steps[0].loss


@pytest.mark.parametrize(
    ("fisher", "alpha"),
    [
        (rn.Exact(), [1, 1, 1]),
        (rn.BlockDiagonal(), [4, 3, 2]),
        (rn.BlockTridiagonal(), [2, 1, 1]),
        (rn.Layerwise([[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]]), [2.357976653696498]),
        (rn.KFAC(), [None, 18, 12]),
        (rn.KFAC(last="gram"), [None, 13, 7]),
        (rn.KFAC(bias="separate"), [None, 18, 12]),
    ],
    ids=repr,
)
def test_alpha_and_one_step_convergence_where_the_first_layers_are_fixed(fisher, alpha):
    N = 6
    p = problem((4, 60, 60, 60, 1), rn.tanh, N=N)
    start = 1 if type(fisher) is rn.Layerwise else 0
    for frozen, expected in enumerate(alpha, start):
        assert fisher.alpha(p.net, N, frozen) == (expected if expected is None else pytest.approx(expected, rel=1e-14))
        s = p.s.above(frozen)
        if expected is None:
            assert rn.isotropy(fisher.coefficient(s, s)).deviation > 1e-3
            continue
        kappa = gram_condition(s) * max(condition(host(T)) for T in rn.empirical_kernels(s, s).Theta)
        assert_close(fisher.coefficient(s, s), expected * np.eye(N), kappa)
        _, step = rn.train(p.net, p.W, p.x, p.e, fisher, 1 / expected, 1, frozen=frozen)
        assert_close(rn.linearized(s, p.W[frozen:], step.W[frozen:]), p.e, kappa)
    assert rn.Identity().alpha(p.net, N, 1) is None


@pytest.mark.parametrize(
    ("fisher", "alpha"),
    [(rn.BlockDiagonal(), [None, 3, 2]), (rn.KFAC(), [None, None, 16]), (rn.Unitwise(), [None, None, 51])],
    ids=repr,
)
def test_only_trained_layers_have_to_be_wide(fisher, alpha):
    N = 8
    p = problem((2, 3, 50, 50, 1), rn.tanh, N=N)  # W_1 has 6 entries and 2 inputs, W_2 150 and 3
    for frozen, expected in enumerate(alpha):
        assert fisher.alpha(p.net, N, frozen) == expected
        s = p.s.above(frozen)
        Theta_bar = fisher.coefficient(s, s)
        if expected is None:
            assert rn.isotropy(Theta_bar).deviation > 1e-3
        else:
            assert_close(Theta_bar, expected * np.eye(N), gram_condition(s))


@pytest.mark.parametrize("activation", [rn.relu, rn.tanh], ids=str)
def test_unitwise_counts_the_live_units_of_the_trained_layers_though_inputs_are_few(activation):
    """K&O C.2.2: with M_0 < N fix W_1 and train the others."""
    N, fisher = 6, rn.Unitwise()
    p = problem((3, 60, 60, 1), activation, N=N)
    Theta_bar = host(fisher.coefficient(p.s, p.s))
    assert abs(Theta_bar - np.diag(np.diag(Theta_bar))).max() > 0.1  # W_1 couples the samples
    s = p.s.above(1)
    live = sum((host(d)[:, 0] != 0).sum(1) for d in s.delta)
    assert_close(fisher.coefficient(s, s), np.diag(live).astype(float), gram_condition(s))
    assert_close(rn.push(s, fisher.direction(s, p.e)), live[:, None] * host(p.e), gram_condition(s))
    assert fisher.alpha(p.net, N) is None
    assert fisher.alpha(p.net, N, frozen=1) == activation.gamma(1.0) * 60 + 1
    if activation == rn.tanh:
        assert set(live.tolist()) == {61}
        _, step = rn.train(p.net, p.W, p.x, p.e, fisher, 1 / 61, 1, frozen=1)
        assert_close(rn.linearized(s, p.W[1:], step.W[1:]), p.e, gram_condition(s) * condition(host(rn.ntk(s, s))))


@pytest.mark.parametrize("last", ["identity", "gram"])
@pytest.mark.parametrize(("bias", "sigma_b"), [("augmented", 0.0), ("separate", 0.0)])
def test_alpha_after_the_transform(bias, sigma_b, last):
    """N (L-1) + M_0, which `alpha` finds from the inputs alone, and no other inputs have."""
    x, fisher = on(gaussian(9, 6)), rn.KFAC(bias, last)
    net = rn.Network((6, 60, 60, 1), rn.tanh, 2**0.5, sigma_b)
    Y = rn.preprocess.unit_norm(x @ forster(x))
    alpha = 9 + 6 + 9 if last == "identity" else 9 + 6 + 1
    assert fisher.alpha(net, 9) is None
    assert fisher.alpha(net, 9, x=x) is None
    assert fisher.alpha(net, 9, x=Y) == alpha
    assert fisher.alpha(net, 9, 1, x=Y) == fisher.alpha(net, 9, 1)
    s = net.signals(on(net.init(0)), Y)
    w = rn.isotropy(fisher.coefficient(s, s)).eigenvalues
    np.testing.assert_allclose(w, alpha, rtol=1e-6)
    generic = net.signals(on(net.init(0)), x)
    assert np.ptp(rn.isotropy(fisher.coefficient(generic, generic)).eigenvalues) > 0.1
    with pytest.raises(ValueError, match=r"x is \w+ float64 \(9, 6\); expected an array .* \(8, 6\)"):
        fisher.alpha(net, 8, x=x)


@pytest.mark.parametrize(("widths", "activation"), [((6, 1), rn.tanh), ((6, 60, 60, 1), rn.linear)], ids=str)
def test_no_alpha_after_the_transform_where_the_first_layer_is_the_last_or_samples_share_signals(widths, activation):
    x = on(gaussian(9, 6))
    assert rn.KFAC().alpha(rn.Network(widths, activation), 9, x=rn.preprocess.unit_norm(x @ forster(x))) is None


@pytest.mark.parametrize("norm", [0.5, 3.0])
def test_unitwise_alpha_depends_on_the_norm_of_the_inputs(norm):
    """Shifted ReLU: the share of live units is Phi(s / q_l^{1/2}), and q_l follows the norm."""
    net, x = rn.Network((9, 3000, 3000, 1), rn.shifted_relu(0.6)), norm * on(rn.preprocess.unit_norm(gaussian(4, 9)))
    alpha = rn.Unitwise().alpha(net, 4, x=x)
    s = net.signals(on(net.init(1)), x)
    live = sum(float((host(d) != 0).mean(0).sum()) for d in s.delta)
    assert abs(live / alpha - 1) < 0.01
    assert abs(live / rn.Unitwise().alpha(net, 4) - 1) > 0.03
    assert rn.Unitwise().alpha(net, 4, x=on(rn.preprocess.unit_norm(gaussian(4, 9)))) == rn.Unitwise().alpha(net, 4)
    assert rn.Unitwise().alpha(net, 4, x=on(gaussian(4, 9))) is None
