"""refngd/ERRATA.md: every equation of both papers has a row, every name in it exists; what no other test shows.

tests/errata.toml names the tests of each row.
"""

import ast
import importlib
import math
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support import assert_close, condition, generator, host, on, problem

import refngd as rn
from refngd import deep_linear, experiments
from refngd import linear_training as lt

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "refngd" / "ERRATA.md").read_text(encoding="utf-8")
PAPERS = {  # the rows of each paper's table, by its name in errata.toml
    name: [re.split(r"(?<!\\)\|", row)[1:-1] for row in re.findall(r"^\|.*\|$", section, re.M)[2:]]
    for name, section in zip(("K&O", "Huh"), re.split(r"^# ", PAGE, flags=re.M)[1:], strict=True)
}
SHOWN_BY = tomllib.loads((TESTS / "errata.toml").read_text(encoding="utf-8"))


def resolve(path):
    """What `path` names, relative to the package."""
    thing = rn
    for name in path.split("."):
        thing = getattr(thing, name) if hasattr(thing, name) else importlib.import_module(f"{thing.__name__}.{name}")
    return thing


def test_rows_are_three_short_cells():
    for row in [row for rows in PAPERS.values() for row in rows]:
        assert len(row) == 3
        assert len(row[2]) <= 150, row


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_has_its_tests_in_the_sidecar(paper):
    keys = [row[0].strip() for row in PAPERS[paper]]
    assert len(set(keys)) == len(keys)
    assert list(SHOWN_BY[paper]) == keys
    assert all(SHOWN_BY[paper].values())


@pytest.mark.parametrize(
    "path", sorted({name for rows in PAPERS.values() for row in rows for name in re.findall("`([^`]+)`", row[1])})
)
def test_code_exists(path):
    resolve(path)


@pytest.mark.parametrize("test", sorted({test for rows in SHOWN_BY.values() for row in rows.values() for test in row}))
def test_test_exists(test):
    file, name = test.split("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def covered(rows):
    """The numbers of equations in the first column."""
    numbers = set()
    for item in (item for row in rows for item in row[0].strip().split(", ")):
        match = re.fullmatch(r"(S\.I\.|S\.|)(\d+)(?:-\1(\d+))?", item)
        if match:
            prefix, first, last = match.groups()
            numbers |= {f"{prefix}{i}" for i in range(int(first), int(last or first) + 1)}
    return numbers


def test_every_equation_has_a_row():
    assert covered(PAPERS["K&O"]) == {str(i) for i in range(1, 25)} | {f"S.{i}" for i in range(1, 180)}
    assert covered(PAPERS["Huh"]) == {str(i) for i in range(1, 22)} | {f"S.I.{i}" for i in range(1, 17)}


# ------------------------------------------------------------------------------------------------- Karakida and Osawa


def layers_of(s):
    """The layer of each parameter, (P,)."""
    return np.repeat(np.arange(len(s.shapes)), [M * k for M, k in s.shapes])


def dense(J, layers, Sigma):
    """G of (15) at rho = 0 for J (N, P), one output, and L x L Sigma."""
    return J.T @ J / len(J) * np.asarray(Sigma, float)[np.ix_(layers, layers)]


def pseudo_inverse(G):
    return np.linalg.pinv(G, rcond=1e-11, hermitian=True)


def test_s90_pseudo_inverse_of_the_layerwise_matrix():
    """G^+ = N S^T (S S^T)^-1 (Sigma (x) I)^-1 (S S^T)^-1 S."""
    p, Sigma = problem((6, 7, 7, 1), sigma_b=0.5), np.array([[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]])
    layers = np.repeat(np.arange(3), [M * k for M, k in p.net.shapes])  # of each parameter
    S = np.concatenate([p.J * (layers == l) for l in range(3)])
    right = np.linalg.solve(S @ S.T, S)
    G = host(rn.Layerwise(Sigma).matrix(p.s))
    G_plus = host(rn.inverse_power(on(G), rcond=1e-12))
    assert_close(G_plus, 4 * right.T @ np.linalg.solve(np.kron(Sigma, np.eye(4)), right), condition(G))


@pytest.mark.parametrize(("a", "b"), [(2.0, 0.7), (3.0, -1.0), (1.0, 1.0)])
def test_s93_sum_of_the_inverse_of_a_tridiagonal_matrix(a, b):
    for L in (3, 4, 6, 7):
        r, r_ = ((a + sign * np.sqrt(a * a - 4 * b * b + 0j)) / (2 * b) for sign in (1, -1))
        sigma_1 = (r**L - r_**L) / (r ** (L + 1) - r_ ** (L + 1)) / b
        sigma_2 = (-1) ** (L + 1) * (r - r_) / (r ** (L + 1) - r_ ** (L + 1)) / b
        s = (1 + b * (sigma_1 + sigma_2)) / (a + 2 * b)
        fisher = rn.Layerwise(a * np.eye(L) + b * (np.eye(L, k=1) + np.eye(L, k=-1)))
        alpha = fisher.alpha(rn.Network((100,) * L + (1,)), 10)
        assert alpha == pytest.approx((L + 2 * b * s) / (a + 2 * b), rel=1e-12)


@pytest.mark.parametrize("fisher", [rn.BlockDiagonal(), rn.BlockTridiagonal()], ids=str)
def test_s127_stationary_point_of_the_ridge(fisher):
    """lambda G_0 theta = J_0^T (y - J_0 theta) / N for theta = G_0^-1 J_0^T y / N / (lambda + alpha)."""
    p, ridge = problem((8, 12, 12, 1)), 0.3
    theta = host(rn.flatten(fisher.direction(p.s, p.e))) / (ridge + fisher.alpha(p.net, 4))
    G, gradient = host(fisher.matrix(p.s)), p.J.T @ (host(p.e).ravel() - p.J @ theta) / 4
    assert_close(ridge * G @ theta, gradient, condition(G))


def test_theorem_5_1_damping_is_not_small():
    """At rho = M^(-1/12) a wide network's unit-wise Theta_bar is Theta / rho, with none of the alpha of (24) left."""
    M, rng = 1024, generator()
    net = rn.Network((50, M, M, 1), rn.tanh)
    s = net.signals(on(net.init(rng)), on(rng.standard_normal((5, 50)) / 50**0.5))
    rho, Theta_bar = M ** (-1 / 12), {}
    for damping in (0.0, rho):
        Theta_bar[damping] = host(rn.Unitwise().coefficient(s, s, damping))
    np.testing.assert_allclose(Theta_bar[0.0], (2 * M + 1) * np.eye(5), rtol=0, atol=1e-6 * M)
    Theta = host(rn.ntk(s, s))
    assert np.linalg.norm(rho * Theta_bar[rho] - Theta) < 0.05 * np.linalg.norm(Theta)


SINGULAR = {  # Sigma, alpha
    "first and last layer": (np.diag([1, 0, 1]), 2),
    "last layer": (np.diag([0, 0, 1]), 1),
    "two coupled layers": ([[2, 1, 0], [1, 2, 0], [0, 0, 0]], 2 / 3),
    "ones in its range": ([[2, 0, 1], [0, 2, 1], [1, 1, 1]], 1),
}


@pytest.mark.parametrize(("Sigma", "alpha"), SINGULAR.values(), ids=SINGULAR)
def test_singular_sigma_is_isotropic_under_the_pseudo_inverse(Sigma, alpha):
    """alpha = 1^T Sigma^+ 1 wherever 1 is in the range on the rows that Sigma does not annihilate: THEORY 3."""
    p = problem((6, 7, 7, 1), sigma_b=0.5)
    G = dense(p.J, layers_of(p.s), Sigma)
    assert alpha == pytest.approx(np.linalg.pinv(np.asarray(Sigma, float)).sum(), rel=1e-13)
    assert_close(p.J @ pseudo_inverse(G) @ p.J.T / 4, alpha * np.eye(4), condition(G))


def test_singular_sigma_without_ones_in_its_range_is_not_isotropic():
    """Theta_bar = Y^T Y for Sigma = v v^T: it depends on the kernels."""
    p, v = problem((6, 7, 7, 1), sigma_b=0.5), np.array([1, 2, 2]) / 3
    G, Theta = dense(p.J, layers_of(p.s), np.outer(v, v)), host(rn.empirical_kernels(p.s, p.s).Theta)
    Y = np.linalg.solve(np.tensordot(v**2, Theta, 1), np.tensordot(v, Theta, 1))
    Theta_bar = p.J @ pseudo_inverse(G) @ p.J.T / 4
    assert_close(Theta_bar, Y.T @ Y, condition(G))
    assert rn.isotropy(Theta_bar).deviation > 0.1


def test_theta_bar_has_a_limit_of_small_damping_only_where_ones_are_in_the_range_of_sigma():
    p, rho = problem((6, 7, 7, 1), sigma_b=0.5), 1e-9
    Theta_bar = {}
    for name in ("first and last layer", "ones in its range"):
        G = dense(p.J, layers_of(p.s), SINGULAR[name][0])
        Theta_bar[name] = p.J @ np.linalg.solve(G + rho * np.eye(len(G)), p.J.T) / 4
    np.testing.assert_allclose(Theta_bar["ones in its range"], np.eye(4), atol=1e-4)
    Theta_2 = host(rn.empirical_kernels(p.s, p.s).Theta)[1]
    np.testing.assert_allclose(rho * Theta_bar["first and last layer"], Theta_2, rtol=1e-5)


@pytest.mark.parametrize(
    ("activation", "widths", "opposite", "zeros"),
    [(rn.tanh, (5, 40, 40, 1), 1, 1), (rn.erf, (5, 40, 1), 2, 2), (rn.relu, (2, 40, 1), 3, 1)],
    ids=["tanh", "erf", "relu"],
)
def test_distinct_inputs_of_unit_norm_do_not_make_theta_positive_definite(activation, widths, opposite, zeros):
    """Pairs x and -x, without bias: one for an odd phi, M_0 + 1 for ReLU at L = 2. The other eigenvalues are L."""
    rng, net = generator(), rn.Network(widths, activation)
    x = rng.standard_normal((3, widths[0]))
    x = np.concatenate([x, -x[:opposite]]) / np.linalg.norm(np.concatenate([x, x[:opposite]]), axis=1)[:, None]
    s = net.signals(net.init(rng), x)
    J, L = rn.jacobian(s), len(widths) - 1
    G = dense(J, layers_of(s), np.eye(L))
    eigenvalues = np.linalg.eigvalsh(J @ pseudo_inverse(G) @ J.T / len(x))
    np.testing.assert_allclose(eigenvalues, [0] * zeros + [L] * (len(x) - zeros), atol=1e-9)


def test_lemma_b3_theta_1_is_positive_definite_for_inputs_of_rank_one():
    """B_1 is positive definite and A_0 has no zero on its diagonal, which is enough, though A_0 has rank 1."""
    net, x = rn.Network((1, 50, 1), rn.tanh), np.array([[0.3], [0.8], [1.5]])
    s = net.signals(net.init(generator()), x)
    J_1 = rn.jacobian(s)[:, :50]
    assert np.linalg.matrix_rank(s.h[0]) == 1
    assert np.linalg.svd(J_1, compute_uv=False).min() > 1e-3


def test_assumption_1_excludes_relu_and_tanh():
    """Its phi' is to be Lipschitz: ReLU's jumps. Its phi is to grow: tanh does not."""
    for h in (1e-1, 1e-4, 1e-8):
        jump = rn.relu.derivative(np.array([h])) - rn.relu.derivative(np.array([-h]))
        assert jump == 1
    assert abs(rn.tanh.phi(np.array([1.0, 1e2, 1e300]))).max() <= 1


def test_standard_parameterization_at_eta_over_m_loses_the_first_layer_and_the_biases():
    """One function in both: their shares of the trace of Theta stay with "ntk" and fall as 1 / M with "standard"."""
    shares = {}
    for M in (50, 400):
        widths, x, sigma_w, sigma_b = (5, M, M, 1), generator(1).standard_normal((4, 5)), 2**0.5, 0.5
        ntk = rn.Network(widths, rn.tanh, sigma_w, sigma_b)
        W = ntk.init(0)
        scales = [np.array([sigma_w / k**0.5] * k + [sigma_b]) for k in widths[:-1]]
        for name, weights in (("ntk", W), ("standard", [w * scale for w, scale in zip(W, scales, strict=True)])):
            s = rn.Network(widths, rn.tanh, sigma_w, sigma_b, name).signals(weights, x)
            np.testing.assert_allclose(s.f, ntk.forward(W, x), rtol=1e-10)
            parts = [((d[:, 0] ** 2).sum(1) * (h**2).T).sum(1) for h, d in zip(s.h, s.delta, strict=True)]
            total = sum(part.sum() for part in parts)
            shares[name, M] = np.array([parts[0][:-1].sum(), sum(part[-1] for part in parts)]) / total
    assert (abs(shares["ntk", 400] / shares["ntk", 50] - 1) < 0.5).all()
    np.testing.assert_allclose(shares["standard", 50] / shares["standard", 400], 8, rtol=0.4)


@pytest.mark.parametrize("Sigma", [np.eye(3), np.ones((3, 3))], ids=["block-diagonal", "exact"])
def test_what_hidden_layers_owe_to_y_averages_to_zero(Sigma):
    """Over W_L and -W_L, which are equally likely: so (22) with y for y - f_0 is no average over initialisations."""
    p, y = problem((6, 9, 9, 1), sigma_b=0.5), generator(3).standard_normal(4)
    steps = []
    for sign in (1, -1):
        s = p.net.signals(on([*host(p.W)[:-1], sign * host(p.W)[-1]]), p.x)
        J = host(rn.jacobian(s))
        steps.append(pseudo_inverse(dense(J, layers_of(s), Sigma)) @ J.T @ y / 4)
    last = layers_of(p.s) == 2
    np.testing.assert_allclose(steps[0][~last] + steps[1][~last], 0, atol=1e-9 * abs(steps[0]).max())
    assert np.linalg.norm(steps[0][~last]) > 0.1 * np.linalg.norm(steps[0])
    np.testing.assert_allclose(steps[0][last], steps[1][last], rtol=1e-6, atol=1e-12)


def test_published_code_of_fig_1b_damps_by_two_over_n():
    """It solves [(Sigma (x) I) N Theta + damping + damping] v = 1 (x) e, with no 1 / N: rho = 2 damping / N of ours."""
    p, damping = problem((8, 12, 12, 12, 1), rn.tanh), 300.0
    J, layers, fisher = p.J, layers_of(p.s), rn.BlockTridiagonal()
    J_l = [J[:, layers == l] for l in range(4)]
    kernels = np.zeros((4, 4, 4, 4))  # blockdiag of J_l J_l^T, block by block
    for l in range(4):
        kernels[l, :, l] = J_l[l] @ J_l[l].T
    Sigma = abs(np.subtract.outer(range(4), range(4))) <= 1
    system = np.kron(Sigma, np.eye(4)) @ kernels.reshape(16, 16)
    system += damping * np.eye(16)
    system += damping * np.eye(16)
    v = np.linalg.solve(system, np.tile(host(p.e).ravel(), 4)).reshape(4, 4)
    theirs = np.concatenate([J_l[l].T @ v[l] for l in range(4)])
    assert_close(rn.flatten(fisher.direction(p.s, p.e, 2 * damping / 4)), theirs, np.linalg.cond(system))


def spread(M, rho, draws=150):
    """The interquartile range of Theta_bar(x', x) / alpha, (S.156), over draws of the weights; N = 1, tanh, L = 3."""
    x, values = np.array([[0.3, 0.91**0.5, 0], [1.0, 0, 0]]), []
    net = rn.Network((3, M, M, 1), rn.tanh, 2**0.5, 0.5)
    for seed in range(draws):
        s = net.signals(net.init(seed), x)
        J = [d[:, 0, :, None] * h[:, None] for h, d in zip(s.h, s.delta, strict=True)]  # (2, M_l, k) of the units
        values.append(sum(((a * b).sum(1) / ((b * b).sum(1) + rho)).sum() for a, b in J) / (2 * M + 1))
    return np.subtract(*np.percentile(values, [75, 25]))


def test_s156_has_no_wide_limit_without_damping():
    """The mean of M ratios with Cauchy's tails is as spread as one of them."""
    assert spread(450, 0.0) > 0.8 * spread(50, 0.0)
    assert spread(450, 1e-3) < 0.6 * spread(50, 1e-3)


def softmax(f):
    p = np.exp(f - f.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def centred(f):
    return f - f.mean(1, keepdims=True)


def test_cross_entropy_has_a_closed_form_at_infinite_width():
    """p_t = y + (p_0 - y) exp(-alpha eta t), and the logits of test samples from log p_t, where Theta_l (x) I_C: two
    layers of 5 and 6 features that every class has for itself, block-diagonal, alpha = 2."""
    (N, C), rng = (3, 3), generator()
    features = [rng.standard_normal((N + 2, k)) for k in (5, 6)]
    J = np.kron(np.concatenate(features, axis=1), np.eye(C))  # ((N+2) C, P), sample-major
    layer = np.repeat([0, 1], [5 * C, 6 * C])
    y, f_0 = np.eye(C), rng.standard_normal((N + 2, C))

    def logits(theta):
        return f_0 + (J @ theta).reshape(f_0.shape)

    def velocity(_, theta):
        p = softmax(logits(theta)[:N])
        Lambda = np.zeros((N, C, N, C))
        for n in range(N):
            Lambda[n, :, n] = np.diag(p[n]) - np.outer(p[n], p[n])
        G = J[: N * C].T @ Lambda.reshape(N * C, N * C) @ J[: N * C] / N * (layer[:, None] == layer)
        return -pseudo_inverse(G) @ J[: N * C].T @ (p - y).ravel() / N

    end = solve_ivp(velocity, (0, 0.8), np.zeros(len(layer)), "DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    f = logits(end)
    p_0, p_t = softmax(f_0[:N]), softmax(f[:N])
    np.testing.assert_allclose(p_t, y + (p_0 - y) * math.exp(-2 * 0.8), atol=1e-8)
    cross = sum(np.linalg.lstsq(phi[:N].T, phi[N:].T)[0].T for phi in features)  # sum_l Theta_l(x', x) Theta_l^{-1}
    change = cross @ centred(np.log(p_t) - np.log(p_0)) / 2
    np.testing.assert_allclose(centred(f[N:] - f_0[N:]), change, atol=1e-7)


# ---------------------------------------------------------------------------------------------------------------- Huh


def test_huh_15_half_the_change_of_c_times_m_holds_for_symmetric_m():
    """dw . null(m) = c' . m / 2, c' the change of c_1 along any dw; for antisymmetric m the right side is 0."""
    rng = generator()
    w, dw = ([rng.standard_normal(shape) for shape in ((4, 3), (2, 4))] for _ in range(2))
    m, h = rng.standard_normal((4, 4)), 1e-6
    up, down = ([a + sign * h * b for a, b in zip(w, dw, strict=True)] for sign in (1, -1))
    change = (deep_linear.conserved(up)[0] - deep_linear.conserved(down)[0]) / (2 * h)
    for half, symmetric in ((m + m.T, True), (m - m.T, False)):
        dot = sum((a * b).sum() for a, b in zip(dw, deep_linear.null_update(w, [half]), strict=True))
        assert abs(dot) > 1
        assert (abs(dot - (change * half).sum() / 2) < 1e-7) == symmetric


def shaped(theta, shapes):
    """theta cut into matrices of these shapes."""
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(theta, cuts), shapes, strict=True)]


@pytest.mark.parametrize(
    ("widths", "rank", "kernel", "span"),
    [((4, 2, 3, 4), None, 14, 13), ((2, 2, 2), 1, 5, 3), ((3, 3, 3, 3), None, 18, 18)],
    ids=["bottleneck", "rank one", "invertible"],
)
def test_null_updates_do_not_span_the_null_space(widths, rank, kernel, span):
    rng = generator()
    w = [rng.standard_normal((a, rank or a)) @ rng.standard_normal((rank or a, b)) for b, a in pairwise(widths)]
    P, sizes = sum(w_i.size for w_i in w), [w_i.shape[0] ** 2 for w_i in w[:-1]]
    pushes = [deep_linear.push(w, shaped(row, [w_i.shape for w_i in w])).ravel() for row in np.eye(P)]
    assert P - np.linalg.matrix_rank(pushes, tol=1e-9) == kernel
    m = [shaped(row, [2 * w_i.shape[:1] for w_i in w[:-1]]) for row in np.eye(sum(sizes))]
    nulls = [rn.flatten(deep_linear.null_update(w, m_k)) for m_k in m]
    assert np.linalg.matrix_rank(nulls, tol=1e-9) == span


def test_the_finite_symmetry_needs_an_invertible_m():
    rng = generator()
    w_1, w_2 = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    for m, kept in ((rng.standard_normal((3, 3)), True), (np.diag([1.0, 2, 0]), False)):
        moved = w_2 @ np.linalg.pinv(m) @ m @ w_1
        assert np.allclose(moved, w_2 @ w_1, rtol=1e-9) == kept


def learning(widths, singular_values, scale, seed=0):
    """Weights N(0, scale^2) and a target with these singular values and random singular vectors U, V."""
    rng = generator(seed)
    w = [scale * rng.standard_normal((a, b)) for b, a in pairwise(widths)]
    U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    return on(w), deep_linear.Statistics(on(U @ np.diag(singular_values) @ V.T)), U, V


def path(rule, w, data, end):
    """theta (T, P) of the flow, until the error is 1e-4 of its first value."""
    states = lt.flow(w, data, rule, np.linspace(0, end, 800)[1:], converged=1e-4, tolerance=1e-8)
    assert states[-1].t < end
    return np.array([host(rn.flatten(state.w)) for state in states])


SGD, SQRT_NGD, SQRT_NGD_D = (deep_linear.Rule(math.inf), deep_linear.Rule(2), deep_linear.Rule(2, block=True))


def test_curvature_correction_does_not_keep_the_path_of_matrices():
    """The largest distance of sqrt-NGD from SGD's path, over ||w||, is large, and larger from smaller weights."""
    gap = {}
    for scale in (0.5, 0.02):
        w, data, _, _ = learning((3, 3, 3), (3, 2, 1), scale)
        sgd, sqrt_ngd = path(SGD, w, data, 80), path(SQRT_NGD, w, data, 20)
        nearest = [np.linalg.norm(sgd - theta, axis=1).min() / np.linalg.norm(theta) for theta in sqrt_ngd]
        gap[scale] = max(nearest)
    assert gap[0.02] > 1.3 * gap[0.5] > 0.3


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.02])
def test_sqrt_ngd_d_does_not_stay_close_to_sqrt_ngd(scale):
    w, data, _, _ = learning((3, 4, 4, 3), (3, 2, 1), scale)
    ends = [path(rule, w, data, 20)[-1] for rule in (SQRT_NGD, SQRT_NGD_D)]
    assert np.linalg.norm(ends[0] - ends[1]) > 0.2 * np.linalg.norm(ends[0])


def test_strong_modes_end_at_the_rate_of_weak_ones_under_sgd():
    """Late rates against those of (17), 2 s_star for d = 2: the weakest mode has its own, the strongest not."""
    targets = np.array([3, 1, 0.3])
    w, data, U, V = learning((3, 3, 3), targets, 0.5)
    t = np.linspace(15, 25, 21)
    states = lt.flow(w, data, SGD, t, tolerance=1e-13)
    modes = [(U.T @ host(deep_linear.product(state.w)) @ V).diagonal() for state in states]
    rates = -np.polyfit(t, np.log(abs(np.array(modes) - targets)), 1)[0]
    assert rates[0] < 0.2 * 2 * 3
    assert rates[2] > 0.9 * 2 * 0.3


def excess(P, white, draws=40, N=16, noise=0.3):
    """The median excess loss ||w_star - teacher||^2 / 2 of the least-squares map (of least norm) for P samples."""
    rng, values = generator(), []
    for _ in range(draws):
        X, Z = rng.standard_normal((P, N)), noise * rng.standard_normal((P, N))
        if white:
            U, _, Vt = np.linalg.svd(X, full_matrices=False)
            X = P**0.5 * U @ Vt
        values.append(np.linalg.norm(np.linalg.pinv(X) @ Z) ** 2 / 2)  # what the noise adds
    return np.median(values)


def test_as_many_samples_as_inputs_overfit_most_if_raw_and_not_if_white():
    raw = {P: excess(P, False) for P in (12, 16, 20)}
    assert raw[16] > 5 * max(raw[12], raw[20])
    for P in (16, 20, 32):
        assert excess(P, True) == pytest.approx(0.3**2 * 16 * 16 / (2 * P), rel=0.1)


def test_ngd_may_depend_on_the_clipping_more_than_ngd_d():
    """Seed 12 of section 6: the norm of the weights at the end, clipped at 20 instead of 10."""
    w, data, _ = experiments.teacher_student_problem(12)
    data, change = deep_linear.Statistics(on(data.w_star)), {}
    for block in (False, True):
        norms = []
        for clip in (10, 20):
            *_, last = lt.descend(on(w), data, deep_linear.Rule(1, block, 1e-5, clip), 0.02, 300)
            norms.append(deep_linear.norm(last.w))
        change[block] = abs(norms[1] / norms[0] - 1)
    assert change[False] > 3 * change[True]
