"""THEORY 9: deep linear networks. Derivatives, the dual, update rules, conservation, flows, and their exceptions."""

import itertools
import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from support import assert_close, condition, generator, host, on, relative

import refngd as rn
from refngd import deep_linear as dl
from refngd import definitions, modes
from refngd import experiments as ex
from refngd import linear_training as lt

WIDTHS = [(3, 2), (3, 4, 2), (2, 4, 5, 3), (3, 3, 4, 3, 2)]
POWERS = [1, 1.5, 2, 3, math.inf]


def case(widths, white=True, seed=0, scale=0.6, dtype=np.float64):
    """Random weights, and statistics of random data, on the device under test."""
    rng = generator(seed)
    w = [(scale * rng.standard_normal((b, a))).astype(dtype) for a, b in pairwise(widths)]
    w_star = rng.standard_normal((widths[-1], widths[0])).astype(dtype)
    X = rng.standard_normal((2 * widths[0], widths[0])).astype(dtype)
    if white:
        return on(w), dl.Statistics(on(w_star))
    return on(w), dl.Statistics.with_covariance(on(w_star), on(X.T @ X / len(X)))


def on_host(w, data):
    """The same on the host."""
    return host(w), dl.Statistics(host(data.w_star), None if data.S is None else host(data.S), data.const)


def literal_jacobian(w, S):
    """d vec(w_bar S) / d theta by the product rule, entry by entry; rows input-major, columns layer by layer."""
    columns = []
    for i, w_i in enumerate(w):
        for a, b in np.ndindex(*w_i.shape):
            unit = np.zeros_like(w_i)
            unit[a, b] = 1
            map_ = np.eye(w[0].shape[1]) if S is None else S
            for layer in [*w[:i], unit, *w[i + 1 :]]:
                map_ = layer @ map_
            columns.append(map_.T.ravel())
    return np.stack(columns, axis=1)


def theta(w):
    return np.concatenate([np.ravel(w_i) for w_i in host(w)])


def pieces(w):
    """The slice of theta that belongs to each layer."""
    stops = np.cumsum([0, *(w_i.size for w_i in w)]).tolist()
    return [slice(a, b) for a, b in pairwise(stops)]


cases = [
    pytest.param(widths, white, id=f"{widths}-{'white' if white else 'raw'}") for widths in WIDTHS for white in (1, 0)
]


@pytest.mark.parametrize(("widths", "white"), cases)
def test_push_is_the_derivative_of_the_map_and_pull_its_transpose(widths, white):
    w, data = case(widths, white)
    w_host, data_host = on_host(w, data)
    J, rng = literal_jacobian(w_host, data_host.S), generator(1)
    dw = [rng.standard_normal(w_i.shape) for w_i in w_host]
    Lambda = rng.standard_normal(data_host.w_star.shape)
    assert_close(host(dl.push(w, on(dw), data.S)).T.ravel(), J @ theta(dw), 10)
    assert_close(theta(dl.pull(w, on(Lambda), data.S)), J.T @ Lambda.T.ravel(), 10)
    assert_close(host(dl.kernel(w, data.S)), J @ J.T, 10)


@pytest.mark.parametrize(("widths", "white"), cases)
def test_gradient_and_hessian_are_the_derivatives_of_the_loss(widths, white):
    w, data = on_host(*case(widths, white))
    dw = [generator(1).standard_normal(w_i.shape) for w_i in w]
    h = 1e-3

    def differentiate(f):  # sixth order
        at = [f([a + k * h * b for a, b in zip(w, dw, strict=True)]) for k in range(-3, 4)]
        return (-at[0] + 9 * at[1] - 45 * at[2] + 45 * at[4] - 9 * at[5] + at[6]) / (60 * h)

    g = dl.gradient(w, data)
    slope = differentiate(lambda v: dl.loss(v, data))
    assert theta(g) @ theta(dw) == pytest.approx(slope, rel=1e-10, abs=1e-11)
    bend = differentiate(lambda v: theta(dl.gradient(v, data)))
    np.testing.assert_allclose(theta(dl.hessian_product(w, dw, data)), bend, rtol=1e-9, atol=1e-10)
    J = literal_jacobian(w, data.S)
    assert_close(theta(dl.gauss_newton_product(w, dw, data.S)), J.T @ (J @ theta(dw)), 10)
    zero_loss = dl.Statistics(dl.product(w), data.S)  # where the second part of the Hessian vanishes
    assert_close(theta(dl.hessian_product(w, dw, zero_loss)), theta(dl.gauss_newton_product(w, dw, data.S)), 10)


@pytest.mark.parametrize(("widths", "white"), cases[2:])
def test_null_updates_leave_the_map_alone_and_are_orthogonal_to_every_full_update(widths, white):
    w, data = case(widths, white)
    m = [generator(2).standard_normal((n, n)) for n in widths[1:-1]]
    null = dl.null_update(w, on(m))
    size = float(np.linalg.norm(theta(null)))
    assert abs(host(dl.push(w, null, data.S))).max() < 1e-14 * size
    for q in POWERS:
        u = dl.Rule(q).update(w, data)
        assert abs(theta(u) @ theta(null)) < 1e-11 * size * np.linalg.norm(theta(u))
    u = theta(dl.Rule(1, block=True).update(w, data))
    assert abs(u @ theta(null)) > 1e-3 * size * np.linalg.norm(u)  # NGD-d is not


def test_the_map_is_invariant_under_the_finite_symmetry():
    w, _ = case((3, 4, 2))
    m = on(np.eye(4) + 0.3 * generator(1).standard_normal((4, 4)))
    moved = [m @ w[0], w[1] @ on(np.linalg.inv(host(m)))]
    assert_close(dl.product(moved), dl.product(w), 100)


@pytest.mark.parametrize("rho", [0.0, 0.3])
@pytest.mark.parametrize("q", POWERS)
@pytest.mark.parametrize(("widths", "white"), cases)
def test_core_runs_unchanged_on_the_pseudo_samples(widths, white, q, rho):
    """Full rules are the core's Exact, block rules its BlockDiagonal (times d^(-1/q)), undamped ones its KFAC."""
    w, data = case(widths, white)
    x, y = data.pseudo_samples()
    net = rn.Network(widths, rn.linear, parameterization="standard")
    s = net.signals(w, x)
    assert dl.loss(w, data) == pytest.approx(rn.mse.value(s.f, y), rel=1e-13)
    K = host(dl.kernel(w, data.S))
    assert_close(host(rn.ntk(s, s)), K, 10)
    kappa = condition(K)
    assert_close(theta(dl.Rule(q, rho=rho).update(w, data)), theta(rn.Exact().direction(s, s.f - y, rho, q)), kappa)
    blocks = [
        host(rn.ntk(rn.Signals(s.f, [h], [d]), rn.Signals(s.f, [h], [d]))) for h, d in zip(s.h, s.delta, strict=True)
    ]
    kappa, scale = max(condition(block) for block in blocks), (len(widths) - 1) ** (-1 / q)
    block = theta(dl.Rule(q, block=True, rho=rho).update(w, data))
    assert_close(block, scale * theta(rn.BlockDiagonal().direction(s, s.f - y, rho, q)), kappa)
    if not rho:
        assert_close(block, scale * theta(rn.KFAC(last="gram").direction(s, s.f - y, q=q)), kappa)


def test_any_data_set_is_equivalent_to_as_many_pseudo_samples_as_inputs():
    rng, widths = generator(3), (3, 4, 2)
    x, y = on(rng.standard_normal((11, 3))), on(rng.standard_normal((11, 2)))
    w, _ = case(widths)
    data, net = dl.Statistics.of(x, y), rn.Network(widths, rn.linear, parameterization="standard")
    s, pseudo = net.signals(w, x), net.signals(w, data.pseudo_samples()[0])
    e = pseudo.f - data.pseudo_samples()[1]
    assert dl.loss(w, data) == pytest.approx(rn.mse.value(s.f, y), rel=1e-13)
    assert_close(theta(dl.gradient(w, data)), theta(rn.pull(s, (s.f - y) / 11)), 10)
    assert_close(host(rn.fisher_information(pseudo)), host(rn.fisher_information(s)), 10)
    for fisher in (rn.Exact(), rn.BlockDiagonal(), rn.Entrywise()):
        assert_close(theta(fisher.direction(pseudo, e, 0.1)), theta(fisher.direction(s, s.f - y, 0.1)), 1e3)
    best = np.linalg.lstsq(host(x), host(y), rcond=None)[0].T
    assert_close(host(data.w_star), best, np.linalg.cond(host(x)))
    assert data.const == pytest.approx(((host(y) - host(x) @ best.T) ** 2).sum() / 22, rel=1e-12)
    whitened = dl.Statistics.with_covariance(data.w_star, on(host(x).T @ host(x) / 11), data.const)
    assert_close(host(whitened.S), host(data.S), 100)


@pytest.mark.parametrize("widths", [(5, 4), (5, 4, 2), (5, 6, 6, 3)])
@pytest.mark.parametrize("how", ["samples", "covariance"])
def test_a_singular_covariance_asks_for_a_map_on_its_range_alone(widths, how):
    """Three samples of five inputs: all is as of the samples, whatever w_star does elsewhere."""
    rng, (w, _) = generator(4), case(widths)
    x, y = rng.standard_normal((3, 5)), rng.standard_normal((3, widths[-1]))
    least = np.linalg.lstsq(x, y, rcond=None)[0].T
    data = dl.Statistics.of(on(x), on(y))
    if how == "covariance":
        null = np.eye(5) - np.linalg.pinv(x) @ x
        other = least + rng.standard_normal((widths[-1], 5)) @ null
        data = dl.Statistics.with_covariance(on(other), on(x.T @ x / 3))
    else:
        assert_close(host(data.w_star), least, np.linalg.cond(x))
    assert data.S.shape == (5, 3)
    assert not data.is_regular
    assert_close(host(data.S) @ host(data.S).T, x.T @ x / 3, 10)
    net = rn.Network(widths, rn.linear, parameterization="standard")
    s, S = net.signals(w, on(x)), definitions.covariance_root(x.T @ x / 3)
    assert dl.loss(w, data) == pytest.approx(rn.mse.value(s.f, on(y)), rel=1e-12)
    assert_close(theta(dl.gradient(w, data)), theta(rn.pull(s, (s.f - on(y)) / 3)), 10)
    for q, block, rho in itertools.product((1, 2, 3, math.inf), (False, True), (0.0, 0.1)):
        expected = definitions.update(host(w), least, S, q, block, rho)
        assert_close(theta(dl.Rule(q, block, rho).update(w, data)), definitions.flatten(expected), 300)
    if len(widths) == 4:  # of full rank, so that NGD is the gradient flow of nothing but the samples
        assert_close(theta(dl.Rule(1).update(w, data)), theta(rn.Exact().direction(s, s.f - on(y))), 300)
    pseudo, targets = data.pseudo_samples()
    assert_close(host(pseudo).T @ host(targets) / 3, x.T @ y / 3, 100)


@pytest.mark.long
def test_few_samples_are_fitted_and_the_rest_of_the_map_stays_what_the_weights_make_it():
    w, data, _ = ex.teacher_student_problem(0, width=6, depth=3, N=4, singular_values=[2.0], whiten=False, sigma_w=0.6)
    w, data = on(w), dl.Statistics(on(data.w_star), on(data.S), data.const)
    for q, eta, steps in ((2, 0.05, 600), (1, 0.05, 400)):
        *_, last = lt.descend(w, data, dl.Rule(q, rho=1e-6 if q == 1 else 0.0), eta, steps)
        assert last.loss - data.const < 1e-6 * dl.loss(w, data)
        assert float(abs(dl.product(last.w) - data.w_star).max()) > 1e-3


@pytest.mark.parametrize(("widths", "white"), cases)
def test_the_definitions_are_right_entry_by_entry(widths, white):
    """Their J by the product rule, their Hessian product by the gradient's differences in the test above."""
    w, data = on_host(*case(widths, white))
    S = np.eye(widths[0]) if white else data.S
    J, E = literal_jacobian(w, data.S), definitions.displacement(w, data.w_star, S)
    dw = [generator(1).standard_normal(w_i.shape) for w_i in w]
    assert_close(definitions.linear_jacobian(w, S), J, 10)
    assert_close(theta(definitions.linear_pull(w, E, S)), J.T @ E.T.ravel(), 10)
    assert_close(definitions.linear_push(w, dw, S).T.ravel(), J @ theta(dw), 10)
    hv = definitions.hessian_product(w, dw, data.w_star, S)
    assert_close(theta(hv), theta(dl.hessian_product(w, dw, data)), 10)
    for q, rho, block in itertools.product(POWERS, (0.0, 0.2), (False, True)):
        parts = pieces(w) if block else [slice(0, J.shape[1])]
        powers = [definitions.inverse_power(J[:, b].T @ J[:, b], rho, q) for b in parts]
        u = scipy.linalg.block_diag(*powers) @ J.T @ E.T.ravel() * (len(w) ** (-1 / q) if block else 1)
        kappa = max(condition(J[:, b].T @ J[:, b]) for b in parts)
        assert_close(theta(definitions.update(w, data.w_star, S, q, block, rho)), u, kappa)


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("q", POWERS)
@pytest.mark.parametrize(("widths", "white"), cases)
def test_every_rule_is_that_of_the_definitions(widths, white, q, block):
    w, data = case(widths, white)
    w_host, data_host = on_host(w, data)
    S = np.eye(widths[0]) if white else data_host.S
    J = definitions.linear_jacobian(w_host, S)
    kappa = max(condition(J[:, b] @ J[:, b].T) for b in pieces(w_host)) if block else condition(J @ J.T)
    for rho, clip, regularised in itertools.product((0.0, 0.2, 50.0), (math.inf, 0.1), (False, True)):
        u = definitions.update(w_host, data_host.w_star, S, q, block, rho, clip, regularised)
        assert_close(theta(dl.Rule(q, block, rho, clip, regularised).update(w, data)), theta(u), kappa)


@pytest.mark.parametrize("q", [1.5, 2, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_full_undamped_rules_keep_every_mode(q, dtype):
    """||j|| from 1 to 1e-9, in float32 to 1e-4: K has the squares. At q = 2, ||u|| = ||E|| exactly, Huh (12)."""
    small = 1e-9 if dtype == np.float64 else 1e-4
    Q = [np.linalg.qr(generator(i).standard_normal((4, 4)))[0] for i in range(4)]
    scales = np.logspace(0, np.log10(small), 4) ** 0.5  # d - 1 = 2 factors
    w = [((Q[i + 1] * scales) @ Q[i].T).astype(dtype) for i in range(3)]
    w_star = generator(9).standard_normal((4, 4)).astype(dtype)
    u = host(dl.Rule(q).update(on(w), dl.Statistics(on(w_star))))
    double = [w_i.astype(float) for w_i in w]
    expected = definitions.update(double, w_star.astype(float), np.eye(4), q)
    assert_close(theta(u), theta(expected), 1 / small, dtype)
    if q == 2:
        E = definitions.displacement(double, w_star.astype(float), np.eye(4))
        assert dl.norm(u) == pytest.approx(np.linalg.norm(E), rel=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("white", [True, False])
def test_multiplier_solves_its_equation_and_ngd_takes_the_shortest_such_step(white):
    """(8), (S.I.10): sum_i L_i L_i^T Lambda R_i^T R_i = E, and the update is the least of all with push(u) = E."""
    w, data = case((3, 4, 3, 2), white)
    Lambda, E = host(dl.multiplier(w, data)), host(dl.displacement(w, data))
    pairs = [(host(L), host(R)) for L, R in dl.partial_pairs(w, data.S)]
    kappa = condition(host(dl.kernel(w, data.S)))
    assert_close(sum(L @ L.T @ Lambda @ R.T @ R for L, R in pairs), E, kappa)
    shortest = np.linalg.lstsq(literal_jacobian(*(lambda v, d: (v, d.S))(*on_host(w, data))), E.T.ravel(), rcond=None)[
        0
    ]
    assert_close(theta(dl.Rule(1).update(w, data)), shortest, kappa)


def test_depth_two_is_a_sylvester_equation():
    w, data = case((3, 5, 4))
    A, B = host(w[1] @ w[1].T), host(w[0].T @ w[0])
    Lambda = scipy.linalg.solve_sylvester(A, B, host(dl.displacement(w, data)))
    assert_close(host(dl.multiplier(w, data)), Lambda, condition(np.kron(np.eye(3), A) + np.kron(B, np.eye(4))))
    for q in (2, 3):  # the Kronecker sum against K itself
        K = host(dl.kernel(w))
        columns = host(rn.inverse_power(on(K), 0.0, q)) @ host(dl.displacement(w, data)).T.ravel()
        assert_close(host(dl.multiplier(w, data, q)).T.ravel(), columns, condition(K))


@pytest.mark.parametrize(("widths", "rank"), [((4, 2, 5), 2 * (4 + 5 - 2)), ((4, 6, 1, 5), 4 + 5 - 1)])
def test_bottleneck_makes_k_singular_and_ngd_its_pseudo_inverse(widths, rank):
    """rank K = r (n_in + n_out - r); (S.I.9) holds, w_2^T S(Lambda) = S(Lambda) w_1^T = 0, with S(Lambda) not 0."""
    w, data = case(widths)
    K, E = host(dl.kernel(w)), host(dl.displacement(w, data))
    t = np.linalg.eigvalsh(K)
    assert (t > 1e-12 * t[-1]).sum() == rank
    Lambda, pairs = host(dl.multiplier(w, data)), [(host(L), host(R)) for L, R in dl.partial_pairs(w, None)]
    S = sum(L @ L.T @ Lambda @ R.T @ R for L, R in pairs) - E
    assert np.linalg.norm(S) > 0.1
    for L, R in pairs:
        assert abs(L.T @ S @ R.T).max() < 1e-10
    kappa = t[-1] / t[-rank]
    assert_close(Lambda.T.ravel(), np.linalg.pinv(K, rcond=1e-12) @ E.T.ravel(), kappa)


def test_sqrt_ngd_is_the_polar_factor_of_j():
    """THEORY 9: ||u|| = ||Delta|| at any weights, u_i = polar(L_i)^T Delta polar(R_i)^T / sqrt(d) for the blocks."""
    for scale in (1e-3, 1.0):
        w, data = case((3, 5, 4, 3), scale=scale)
        E = host(dl.displacement(w, data))
        assert dl.norm(dl.Rule(2).update(w, data)) == pytest.approx(np.linalg.norm(E), rel=1e-9)
        pairs = [(host(L), host(R)) for L, R in dl.partial_pairs(w, None)]
        for u, (L, R) in zip(dl.Rule(2, block=True).update(w, data), pairs, strict=True):
            polar_L, polar_R = scipy.linalg.polar(L)[0], scipy.linalg.polar(R)[0]
            assert_close(host(u), polar_L.T @ E @ polar_R.T / 3**0.5, np.linalg.cond(L) * np.linalg.cond(R))


@pytest.mark.parametrize("q", [1.5, 2, 3])
@pytest.mark.parametrize("block", [False, True])
def test_regularised_powers_tend_to_gradient_descent(q, block):
    """The factor is (1 + rho)^(1/q), and clipping comes after it."""
    w, data = case((3, 4, 2))
    plain, regularised = (dl.Rule(q, block, 0.7, regularised=r).update(w, data) for r in (False, True))
    assert_close(theta(regularised), 1.7 ** (1 / q) * theta(plain))
    limit = theta(dl.Rule(q, block, 1e10, regularised=True).update(w, data))
    assert_close(limit, (2 ** (-1 / q) if block else 1) * theta(dl.gradient(w, data)), 1e7)
    clip = 0.8 * np.linalg.norm(theta(regularised))
    assert_close(theta(dl.Rule(q, block, 0.7, clip, regularised=True).update(w, data)), 0.8 * theta(regularised))
    assert np.linalg.norm(theta(dl.Rule(q, block, 0.7, clip).update(w, data))) <= clip * (1 + 30 * 2.0**-53)


@pytest.mark.parametrize("rho", [1e-3, 1e-5])
def test_small_damping_is_not_lost(rho):
    """Where singular values of J_i are small: 0.03 and 0.003."""
    w, data = on([np.eye(2), np.diag([0.03, 0.003])]), dl.Statistics(on(np.array([[1.0, 2.0], [3.0, 4.0]])))
    E = host(dl.displacement(w, data))
    k = np.array([0.03, 0.003])[:, None]
    (u, _), (full, _) = (dl.Rule(1, block, rho).update(w, data) for block in (True, False))
    assert_close(host(u), 0.5 * k * E / (k**2 + rho))
    assert_close(host(full), k * E / (1 + k**2 + rho))


@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("d", [2, 3])
def test_natural_gradient_is_refined_to_the_condition_number_of_j(d, white):
    """cond(J) = 1e5: K alone would lose ten digits, refinement through its factors loses five."""
    Q = [np.linalg.qr(generator(i).standard_normal((3, 3)))[0] for i in range(d + 1)]
    scales = np.array([1.0, 1e-2, 1e-5]) ** (1 / (d - 1))
    w = on([(Q[i + 1] * scales) @ Q[i].T for i in range(d)])
    w_star, S = generator(9).standard_normal((3, 3)), None if white else on(np.diag([1.0, 0.5, 2.0]))
    data = dl.Statistics(on(w_star), S)
    w_host, data_host = on_host(w, data)
    J, E = literal_jacobian(w_host, data_host.S), dl.displacement(w_host, data_host).T.ravel()
    shortest = np.linalg.lstsq(J, E, rcond=1e-12)[0]
    t = np.linalg.svd(J, compute_uv=False)[:9]
    assert 1e4 < t[0] / t[-1] < 1e6
    assert relative(theta(dl.Rule(1).update(w, data)), shortest) < 30 * 2.2e-16 * t[0] / t[-1]


@pytest.mark.parametrize("scale", [1e-60, 1e-8, 1e30])
@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("q", [1, 1.5, 2, 3])
def test_updates_are_right_at_any_scale_of_the_weights(q, block, white, scale):
    """J is homogeneous of degree d - 1 in the weights, so for equal E the update is of degree (d - 1) (1 - 2/q)."""
    w, data = case((3, 4, 3, 2), white)

    def shifted(factor):  # E is that of the unscaled weights
        v = [factor * w_i for w_i in w]
        return v, dl.Statistics(dl.product(v) - dl.product(w) + data.w_star, data.S)

    if scale > 1e10:  # w_star would be lost in rounding
        data = dl.Statistics(0 * data.w_star, data.S)
        one, far = (theta(dl.Rule(q, block).update([f * w_i for w_i in w], data)) for f in (1.0, scale))
        expected = one * scale ** (3 + 2 * (1 - 2 / q))
    else:
        one, far = (theta(dl.Rule(q, block).update(*shifted(f))) for f in (1.0, scale))
        expected = one * scale ** (2 * (1 - 2 / q))
    assert relative(far, expected) < 1e-9


def test_float32_of_tiny_weights_is_the_polar_factor_still():
    w, data = case((4, 4, 4, 4, 4), dtype=np.float32)
    for scale in (1.0, 1e-9):
        u = dl.Rule(2, block=True).update([np.float32(scale).item() * w_i for w_i in w], data)
        assert dl.norm(u) == pytest.approx(float(np.linalg.norm(host(data.w_star))), rel=0.3 if scale == 1 else 1e-3)
        assert u[0].dtype == np.float32


def test_asymmetric_roots_of_sigma_x_give_the_same_updates_and_pseudo_samples():
    """S O for any orthogonal O: only S S^T counts."""
    w, data = case((3, 4, 2), white=False)
    O, _ = np.linalg.qr(generator(7).standard_normal((3, 3)))
    other = dl.Statistics(data.w_star, on(host(data.S) @ O))
    for q in POWERS:
        for block in (False, True):
            u, v = (theta(dl.Rule(q, block).update(w, d)) for d in (data, other))
            assert_close(v, u, 1e4)
    x, y = map(host, other.pseudo_samples())
    assert_close(x.T @ x / 3, host(data.S) @ host(data.S).T, 10)
    assert_close(y, x @ host(data.w_star).T, 10)
    net = rn.Network((3, 4, 2), rn.linear, parameterization="standard")
    assert dl.loss(w, other) == pytest.approx(rn.mse.value(net.forward(w, on(x)), on(y)), rel=1e-13)


def test_flow_returns_every_time_that_is_asked_for():
    w, data = case((3, 4, 2), seed=5)
    first, *later = lt.flow(w, data, dl.Rule(2), [0.0, 0.5, 1.0])
    assert (first.t, first.loss) == (0.0, dl.loss(w, data))
    assert [state.t for state in later] == [0.5, 1.0]
    assert [state.t for state in lt.flow(w, data, dl.Rule(2), [0.0])] == [0.0]
    at_rest = dl.Statistics(dl.product(w))
    assert [state.t for state in lt.flow(w, at_rest, dl.Rule(2), [0.0, 1.0, 2.0])] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_flow_stops_where_the_error_has_fallen_to_a_share_of_its_first_value(scale):
    """Under NGD that is at ln(1 / converged), whatever the first value."""
    w, data = case((3, 3, 3), seed=5)
    far = dl.Statistics(dl.product(w) + scale * (data.w_star - dl.product(w)))
    state = lt.flow(w, far, dl.Rule(1, rho=0.0), [0.1, 100.0], converged=0.2)[-1]
    assert state.t == pytest.approx(math.log(5), rel=1e-6)


def test_clipping_shortens_and_never_turns_or_lengthens():
    w, data = case((3, 4, 2))
    full = theta(dl.Rule(1).update(w, data))
    size = np.linalg.norm(full)
    assert_close(theta(dl.Rule(1, clip=size / 4).update(w, data)), full / 4)
    assert (theta(dl.Rule(1, clip=2 * size).update(w, data)) == full).all()


@pytest.mark.long
@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("rule", [*map(dl.Rule, POWERS), dl.Rule(1, rho=0.01), dl.Rule(2, clip=0.5)], ids=str)
def test_full_rules_conserve_c_in_continuous_time(rule, white):
    """Theorem 1: (15), damped and clipped rules included."""
    w, data = case((3, 4, 4, 3), white, seed=5)
    *_, last = lt.flow(w, data, rule, [0.0, 1.0, 2.0])
    assert last.loss < 0.9 * dl.loss(w, data)
    for before, after in zip(dl.conserved(w), dl.conserved(last.w), strict=True):
        assert abs(host(after) - host(before)).max() < 1e-10


@pytest.mark.parametrize("rule", [dl.Rule(1, block=True), dl.Rule(2, block=True)], ids=str)
def test_block_rules_do_not_conserve_c(rule):
    w, data = case((3, 4, 4, 3), seed=5)
    *_, last = lt.flow(w, data, rule, [2.0])
    assert abs(host(dl.conserved(last.w)[0]) - host(dl.conserved(w)[0])).max() > 0.05


@pytest.mark.parametrize("rule", [*map(dl.Rule, POWERS), dl.Rule(1, rho=0.01, clip=0.1)], ids=str)
def test_euler_steps_drift_by_the_square_of_the_step_exactly(rule):
    w, data = case((3, 4, 4, 3), seed=5)
    u, h = rule.update(w, data), 0.3
    after = dl.conserved([a - h * b for a, b in zip(w, u, strict=True)])
    for before, drift, c in zip(dl.conserved(w), dl.euler_drift(u, h), after, strict=True):
        change = host(c) - host(before)
        assert np.linalg.norm(host(drift)) > 1e-6
        assert abs(change - host(drift)).max() < 1e-11 * (1 + dl.norm(u) ** 2)


@pytest.mark.long
@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("widths", [(3, 3), (3, 3, 3), (2, 3, 4, 3), (3, 2, 2)])
def test_ngd_moves_the_map_on_a_straight_line_where_no_layer_is_narrower_than_both_ends(widths, white):
    """w_bar(t) = w_* + (w_bar(0) - w_*) e^-t, for hidden widths >= min(n_in, n_out)."""
    w, data = case(widths, white, seed=3)
    for state in lt.flow(w, data, dl.Rule(1), [0.3, 1.0]):
        expected = host(data.w_star) + (host(dl.product(w)) - host(data.w_star)) * math.exp(-state.t)
        np.testing.assert_allclose(host(dl.product(state.w)), expected, rtol=0, atol=1e-9)


@pytest.mark.long
def test_block_diagonal_ngd_does_so_only_if_hidden_layers_are_as_wide_as_both_ends():
    def error(widths):
        w, data = case(widths, seed=3)
        (state,) = lt.flow(w, data, dl.Rule(1, block=True), [1.0])
        expected = host(data.w_star) + (host(dl.product(w)) - host(data.w_star)) * math.exp(-1)
        return abs(host(dl.product(state.w)) - expected).max()

    assert error((3, 3, 3, 2)) < 1e-9
    assert error((3, 2, 3, 2)) > 1e-2


def test_bottleneck_converges_to_the_best_map_of_its_rank_at_the_rate_of_the_gap():
    """Not "exponential in the permitted subspace" (S.I.1): the late rate is 1 - s_{r+1} / s_r."""
    s = np.array([3.0, 2.0, 1.2, 0.5])
    w, _ = case((4, 2, 4), seed=1)
    data = dl.Statistics(on(np.diag(s)))
    early, late = lt.flow(w, data, dl.Rule(1), [25.0, 30.0])
    best = np.diag([3.0, 2.0, 0, 0])
    errors = [np.linalg.norm(host(dl.product(state.w)) - best) for state in (early, late)]
    assert errors[1] < 1e-4
    assert math.log(errors[0] / errors[1]) / 5 == pytest.approx(1 - 1.2 / 2.0, rel=1e-3)


def balanced(d, n=3, scale=0.5, seed=0):
    """Orthogonal weights times a scale: every c_i is zero."""
    rng = generator(seed)
    return on([scale * np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(d)])


@pytest.mark.long
@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_ngd_blows_up_where_determinants_of_opposite_sign_let_the_map_be_singular(d, block):
    """From balanced weights, at the time at which w_* + (w_bar(0) - w_*) e^-t is singular.

    Two layers, both of which are singular there, may be carried across by a step of the integrator, not so these.
    """
    w = balanced(d, seed=7)
    w_star = generator(4).standard_normal((3, 3))
    w_bar = host(dl.product(w))
    w_star[0] *= -np.sign(np.linalg.det(w_star) * np.linalg.det(w_bar))
    mu = np.linalg.eigvals(np.linalg.solve(w_star, w_bar))
    time = min(math.log1p(-m.real) for m in mu if abs(m.imag) < 1e-12 and m.real < 0)
    data = dl.Statistics(on(w_star))
    with pytest.raises(FloatingPointError, match="have opposite signs, so NGD's w_bar meets a singular one") as error:
        lt.flow(w, data, dl.Rule(1, block), [2 * time], tolerance=1e-12, evaluations=5000)
    assert float(str(error.value).split("t = ")[1].split(",")[0]) == pytest.approx(time, rel=1e-6)
    assert lt.flow(w, data, dl.Rule(1, block, rho=0.01), [2 * time])  # damped it goes on


def test_opposite_determinants_do_no_harm_where_unbalanced_weights_keep_j_regular():
    w, data = case((3, 3, 3), seed=0, scale=0.5)
    signs = [np.sign(np.linalg.det(host(a))) for a in (dl.product(w), data.w_star)]
    flipped = host(data.w_star).copy()
    flipped[0] *= -signs[0] * signs[1]
    (state,) = lt.flow(w, dl.Statistics(on(flipped)), dl.Rule(1), [5.0])
    assert state.loss == pytest.approx(math.exp(-10) * dl.loss(w, dl.Statistics(on(flipped))), rel=1e-6)


@pytest.mark.long
def test_rules_that_keep_the_path_end_at_the_same_gram_matrices_as_the_initial_weights_shrink():
    """Not at the same weights: w_1^T w_1 of SGD, NGD and sqrt-NGD agree ever better, that of NGD-d does not."""
    w_star = generator(1).standard_normal((3, 3))
    w_star *= np.sign(np.linalg.det(w_star))
    gaps = {}
    for scale in (0.3, 0.03):
        rng = generator(2)
        w = on([scale * (np.eye(3) + 0.3 * rng.standard_normal((3, 3))) for _ in range(2)])
        data = dl.Statistics(on(w_star))
        rules = {"SGD": dl.Rule(math.inf), "NGD": dl.Rule(1), "sqrt": dl.Rule(2), "NGD-d": dl.Rule(1, block=True)}
        gram = {}
        for name, rule in rules.items():
            state = lt.flow(w, data, rule, [4000.0], converged=1e-7)[-1]
            assert state.t < 4000
            gram[name] = host(state.w[0].T @ state.w[0])
        gaps[scale] = {name: relative(gram[name], gram["SGD"]) for name in ("NGD", "sqrt", "NGD-d")}
    for name in ("NGD", "sqrt"):
        assert gaps[0.03][name] < 0.05 * gaps[0.3][name]
    assert gaps[0.03]["NGD-d"] > 0.2


@pytest.mark.long
@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("q", [1, 2, 3, math.inf])
@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_flow_of_aligned_weights_is_the_flow_of_their_modes(d, q, block):
    """Huh, footnote 1: w_i = U_i A_i U_{i-1}^T stays so, each mode by (5), (10), (12), (20), (21)."""
    rng = generator(d)
    Q = [np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(d + 1)]
    s, s_star = rng.uniform(0.3, 0.9, (d, 3)), np.array([2.0, 1.0, 0.4])
    w = on([(Q[i + 1][:, :3] * s[i]) @ Q[i][:, :3].T for i in range(d)])
    data, times = dl.Statistics(on((Q[d][:, :3] * s_star) @ Q[0][:, :3].T)), [0.2, 1.0]

    def velocity(t, flat):
        return modes.velocity(flat.reshape(d, 3), s_star, q, block).ravel()

    solution = scipy.integrate.solve_ivp(velocity, (0, 1), s.ravel(), "DOP853", times, rtol=1e-12, atol=1e-14)
    for state, flat in zip(lt.flow(w, data, dl.Rule(q, block), times), solution.y.T, strict=True):
        for i, w_i in enumerate(state.w):
            aligned = Q[i + 1].T @ host(w_i) @ Q[i]
            expected = np.zeros((4, 4))
            expected[[0, 1, 2], [0, 1, 2]] = flat.reshape(d, 3)[i]
            np.testing.assert_allclose(aligned, expected, rtol=0, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("d", "q"), [(2, 2), (3, 1), (4, 2), (3, math.inf)])
def test_flow_of_balanced_aligned_weights_is_the_closed_form_of_the_map(d, q):
    """(17), from matrices to the formula: every singular value of w_bar at its own time scale."""
    Q = [np.linalg.qr(generator(i).standard_normal((3, 3)))[0] for i in range(d + 1)]
    s0, s_star = np.array([0.3, 0.2, 0.1]), np.array([2.0, 1.0, 0.5])
    w = on([(Q[i + 1] * s0 ** (1 / d)) @ Q[i].T for i in range(d)])
    data = dl.Statistics(on((Q[d] * s_star) @ Q[0].T))
    for state in lt.flow(w, data, dl.Rule(q), [0.5, 2.0], eta=0.7):
        s = np.diag(Q[d].T @ host(dl.product(state.w)) @ Q[0])
        p, eta_bar = modes.exponent(d, q), modes.calibrated_rate(0.7, d, q)
        np.testing.assert_allclose(s, modes.solution(state.t, s_star, s0, p, eta_bar), rtol=1e-9)
