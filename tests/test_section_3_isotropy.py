"""THEORY 3: Theta_bar = alpha I, and J direction = alpha e exactly at finite width, row by row of the table."""

import re

import numpy as np
import pytest
from support import FISHERS, assert_close, condition, generator, host, literal, on, problem

import refngd as rn
from refngd import definitions

SIGMA = [[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]]
GRAM = rn.KFAC(last="gram")


def assert_isotropic(fisher, p, alpha, kappa):
    I = np.eye(p.e.size)
    assert_close(fisher.coefficient(p.s, p.s), alpha * I, kappa)
    assert_close(rn.push(p.s, fisher.direction(p.s, p.e)), alpha * host(p.e), kappa)


def gram_condition(p):
    """The largest condition number among the Gram matrices that the isotropic approximations invert."""
    k = rn.empirical_kernels(p.s, p.s)
    return max(condition(host(K)) for K in [*k.Theta, *k.A, *k.B[:-1]])


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
@pytest.mark.parametrize("L", [2, 3, 4, 5])
@pytest.mark.parametrize("activation", [rn.relu, rn.tanh], ids=str)
def test_layerwise_approximations_and_kfac_are_isotropic_at_any_finite_width(L, C, sigma_b, activation):
    N = 4
    p = problem((8, *[60] * (L - 1), C), activation, sigma_b, N=N)
    kappa = gram_condition(p)
    expected = {rn.Exact(): 1, rn.BlockDiagonal(): L, rn.KFAC(): N * L, GRAM: N * (L - 1) + 1}
    for fisher, alpha in expected.items():
        assert fisher.alpha(p.net, N) == alpha
        assert_isotropic(fisher, p, alpha, kappa)


@pytest.mark.parametrize(("L", "alpha"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 3)])
@pytest.mark.parametrize("C", [1, 3])
def test_block_tridiagonal_is_isotropic_for_every_depth_singular_ones_included(L, alpha, C):
    p = problem((8, *[60] * (L - 1), C), rn.relu, 0.5)
    assert rn.BlockTridiagonal().alpha(p.net, 4) == pytest.approx(alpha, rel=1e-14)
    assert_isotropic(rn.BlockTridiagonal(), p, alpha, gram_condition(p))


def test_block_tridiagonal_trains_only_some_layers():
    for L, trained in ((3, {1}), (4, {0, 3})):
        p = problem((8, *[20] * (L - 1), 1), rn.tanh)
        sizes = [abs(host(dw)).max() for dw in rn.BlockTridiagonal().direction(p.s, p.e)]
        assert {l for l in range(L) if sizes[l] > 1e-10 * max(sizes)} == trained


@pytest.mark.parametrize("sigma", [1, 2, -0.5])
def test_sigma_of_one_layer_is_a_factor(sigma):
    p, fisher = problem((8, 2), rn.tanh, 0.5), rn.Layerwise([[sigma]])
    assert fisher.alpha(p.net, 4) == pytest.approx(1 / sigma, rel=1e-15)
    exact = host(rn.Exact().direction(p.s, p.e)[0])
    assert_close(fisher.direction(p.s, p.e)[0], exact / sigma, gram_condition(p))


def test_general_sigma_has_the_golden_alpha():
    p = problem((8, 40, 40, 2), rn.tanh, 0.5)
    assert rn.Layerwise(SIGMA).alpha(p.net, 4) == pytest.approx(2.357976653696498, rel=1e-15)
    assert_isotropic(rn.Layerwise(SIGMA), p, 2.357976653696498, gram_condition(p))


def test_singular_sigma_with_one_in_its_range_is_the_true_pseudo_inverse():
    Sigma = np.array([[2.0, 0, 1], [0, 2, 1], [1, 1, 1]])  # kernel (1, 1, -2), Sigma (1, 1, 0) / 2 = 1
    p, fisher = problem((8, 20, 20, 2), rn.tanh), rn.Layerwise(Sigma)
    assert fisher.alpha(p.net, 4) == pytest.approx(1, rel=1e-14)
    assert_isotropic(fisher, p, 1, gram_condition(p))
    # THEORY 3: Theta_bar(x', x) = sum_l Theta_l(x', x) Theta_l^{-1} (w_l I + v_l Z)
    w, v = np.linalg.pinv(Sigma) @ np.ones(3), np.array([1, 1, -2]) / 6**0.5
    inverse = [np.linalg.inv(T) for T in host(rn.empirical_kernels(p.s, p.s).Theta)]
    Z = -np.linalg.solve(
        sum(v**2 * T for v, T in zip(v, inverse, strict=True)), sum((v * w)[l] * inverse[l] for l in range(3))
    )
    cross, I = host(rn.empirical_kernels(p.test, p.s).Theta), np.eye(len(Z))
    desired = sum(cross[l] @ inverse[l] @ (w[l] * I + v[l] * Z) for l in range(3))
    assert_close(fisher.coefficient(p.test, p.s), desired, gram_condition(p))


@pytest.mark.parametrize(
    ("Sigma", "alpha"),
    [
        (np.diag([1.0, 0, 1]), 2),
        (np.diag([0.0, 0, 1]), 1),
        ([[2, 1, 0], [1, 2, 0], [0, 0, 0]], 2 / 3),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 0]], 1),
        (np.zeros((3, 3)), 0),
        ([[1, -1, 0], [-1, 1, 0], [0, 0, 1]], None),
        ([[1, 2, 3], [2, 4, 6], [3, 6, 9]], None),
    ],
    ids=str,
)
def test_sigma_without_one_in_its_range_has_the_pseudo_inverse_of_g(Sigma, alpha):
    """A layer whose row of Sigma is zero is not trained, and drops out of 1^T Sigma^+ 1."""
    p, fisher = problem((8, 20, 20, 2), rn.tanh), rn.Layerwise(Sigma)
    for rho in (0.0, 0.1):
        inverse = host(rn.inverse_power(fisher.matrix(p.s, rho), rcond=1e-12))
        direction, desired = rn.flatten(fisher.direction(p.s, p.e, rho)), inverse @ p.J.T @ host(p.e).ravel() / 4
        assert np.linalg.norm(host(direction) - desired) <= 1e-11 * np.linalg.norm(desired)
        coefficient, desired = host(fisher.coefficient(p.test, p.s, rho)), p.J_test @ inverse @ p.J.T / 4
        assert np.linalg.norm(coefficient - desired) <= 1e-11 * np.linalg.norm(desired)
    assert fisher.alpha(p.net, 4) == (alpha if alpha is None else pytest.approx(alpha, rel=1e-14))
    if alpha:
        assert_isotropic(fisher, p, alpha, gram_condition(p))
    elif alpha is None:
        assert rn.isotropy(fisher.coefficient(p.s, p.s)).deviation > 1e-3


@pytest.mark.parametrize("L", [3, 4, 5, 6, 7])
def test_damping_among_the_negative_eigenvalues_is_warned_of_with_the_dangerous_interval(L):
    p, fisher = problem((8, *[12] * (L - 1), 1), rn.tanh), rn.BlockTridiagonal()
    w = np.linalg.eigvalsh(host(fisher.matrix(p.s)))
    negative = -w[w < -1e-10 * w[-1]]
    with pytest.warns(RuntimeWarning, match="negative eigenvalues of the indefinite G") as caught:
        resonant = rn.flatten(fisher.direction(p.s, p.e, negative[0] * (1 + 1e-9)))
    hi, lo = (float(v) for v in re.search(r"\[-(\S+), -(\S+)\]", str(caught[0].message)).groups())
    assert lo * 0.99 <= negative.min()
    assert negative.max() <= hi * 1.01
    outside = [rn.flatten(fisher.direction(p.s, p.e, rho)) for rho in (lo * 0.9, hi * 1.1)]  # in silence
    assert np.linalg.norm(host(resonant)) > 1e4 * max(np.linalg.norm(host(d)) for d in outside)


def test_no_damping_but_a_large_one_is_safe_on_duplicate_samples():
    p = problem((8, 12, 12, 1), rn.tanh)
    x = host(p.x)
    x[3] = x[0]
    with pytest.warns(RuntimeWarning, match=r"are in \[-\S+, -0\]: .* Choose rho = 0 or rho > \S+$"):
        rn.BlockTridiagonal().direction(p.net.signals(p.W, on(x)), p.e, 1e-6)


def test_safe_damping_of_an_indefinite_g_tends_to_the_pseudo_inverse():
    p = problem((8, 40, 40, 40, 1), rn.tanh)
    limit = host(rn.BlockTridiagonal().coefficient(p.test, p.s))
    errors = [
        abs(host(rn.BlockTridiagonal().coefficient(p.test, p.s, rho)) - limit).max() for rho in (1e-4, 1e-6, 1e-8)
    ]
    assert errors[1] < errors[0] / 50
    assert errors[2] < errors[1] / 50


@pytest.mark.parametrize("C", [1, 2])
def test_kfac_with_fewer_inputs_than_samples_is_equation_s109(C):
    """Theta_bar / N = (L-1) I + I * X (X^T X)^{-1} X^T."""
    N, L = 6, 3
    p = problem((4, 40, 40, C), rn.tanh, N=N)
    assert rn.KFAC().alpha(p.net, N) is None
    X = host(p.x)
    hat = np.diag(X @ np.linalg.solve(X.T @ X, X.T))
    desired = N * ((L - 1) * np.eye(N * C) + np.diag(np.repeat(hat, C)))
    k = rn.empirical_kernels(p.s, p.s)
    kappa = max(condition(host(K)) for K in [*k.A, *k.B[:-1]])
    assert_close(rn.KFAC().coefficient(p.s, p.s), desired, kappa)
    assert_close(host(rn.push(p.s, rn.KFAC().direction(p.s, p.e))).ravel(), desired @ host(p.e).ravel(), kappa)


@pytest.mark.parametrize("C", [1, 2])
def test_kfac_with_separate_bias_is_isotropic_up_to_the_output_bias(C):
    N, L, fisher = 4, 3, rn.KFAC(bias="separate")
    p = problem((8, 40, 40, C), rn.tanh, 0.5, N=N)
    kappa = gram_condition(p)
    output_bias = np.kron(np.ones((N, N)), np.eye(C))
    assert fisher.alpha(p.net, N) is None
    assert_close(fisher.coefficient(p.s, p.s), N * (2 * L - 1) * np.eye(N * C) + output_bias, kappa)
    dW = fisher.direction(p.s, p.e)
    dW[-1][:, -1] = 0
    assert_close(rn.push(p.s, dW), N * (2 * L - 1) * host(p.e), kappa)


def test_kfac_of_a_linear_network_has_alpha_n_plus_l_minus_1():
    """All samples share delta_l, so the projector on its range has 1/N on the diagonal."""
    p = problem((8, 9, 9, 2), rn.linear, N=4)
    assert rn.KFAC().alpha(p.net, 4) == 4 + 3 - 1
    assert_isotropic(rn.KFAC(), p, 6, gram_condition(p))


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("activation", [rn.relu, rn.tanh, rn.erf, rn.shifted_relu(0.5)], ids=str)
def test_unitwise_alpha_is_reached_by_a_wide_network(C, activation):
    N = 5
    rng = generator()
    net = rn.Network((50, 1500, 1500, C), activation)
    x = rng.standard_normal((N, 50))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    s = net.signals(on(net.init(rng)), on(x))
    report = rn.isotropy(rn.Unitwise().coefficient(s, s))
    assert rn.Unitwise().alpha(net, N) == pytest.approx(report.alpha, rel=0.05)
    assert report.deviation < 0.15
    if C == 1 and activation in (rn.tanh, rn.erf):
        assert rn.Unitwise().alpha(net, N) == 3001


def test_unitwise_theta_bar_counts_the_live_units():
    p = problem((8, 30, 30, 1), rn.relu, N=5)
    live = sum((host(d)[:, 0] != 0).sum(1) for d in p.s.delta)
    assert_close(rn.Unitwise().coefficient(p.s, p.s), np.diag(live).astype(float), gram_condition(p))
    step = rn.push(p.s, rn.Unitwise().direction(p.s, p.e))
    assert_close(step, live[:, None] * host(p.e), gram_condition(p))


@pytest.mark.parametrize("name", ["Entrywise", "QuasiDiagonal"])
@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
def test_entrywise_approximations_have_trace_p_and_are_not_isotropic(name, sigma_b):
    p, fisher = problem((8, 30, 30, 2), rn.tanh, sigma_b, N=5), FISHERS[name]
    Theta_bar = host(fisher.coefficient(p.s, p.s))
    P = sum(M * k for M, k in p.net.shapes)
    assert np.trace(Theta_bar) == pytest.approx(P, rel=1e-9)
    assert fisher.alpha(p.net, 5) is None
    assert rn.isotropy(on(Theta_bar)).deviation > 0.5


@pytest.mark.parametrize(
    ("fisher", "widths", "sigma_b", "n", "activation"),
    [
        (rn.Exact(), (3, 2, 1), 0.0, 9, rn.relu),  # P = 8 < N
        (rn.BlockDiagonal(), (20, 5, 5, 1), 0.0, 6, rn.relu),  # the last layer has 5 entries
        (rn.Exact(), (1, 50, 50, 2), 0.0, 6, rn.relu),  # J(t x) = t J(x): rows on two rays, in all layers together
        (rn.BlockTridiagonal(), (20, 5, 5, 5, 1), 0.0, 6, rn.relu),  # W_4 has 5 entries and weight 1
        (rn.KFAC(), (20, 11, 11, 2), 0.0, 6, rn.relu),  # M_l < C N
        (rn.KFAC(), (4, 50, 50, 1), 0.0, 6, rn.relu),  # M_0 < N
        (rn.Unitwise(), (4, 50, 50, 1), 0.5, 6, rn.relu),  # M_0 + 1 < N
        (rn.Exact(), (4, 50, 50, 1), 0.0, 6, rn.linear),  # a linear map of dependent inputs
        (rn.Exact(), (20, 6, 2, 3), 0.0, 4, rn.tanh),  # M_2 < C, and the last layer has 6 entries for NC = 12
        (rn.BlockDiagonal(), (20, 40, 2, 3), 0.0, 2, rn.tanh),  # M_2 < C: B_1 is singular
        (rn.BlockDiagonal(), (20, 3, 20, 1), 0.0, 6, rn.linear),  # a bottleneck of 3 units
        (rn.KFAC(), (4, 50, 50, 1), 0.5, 6, rn.relu),  # M_0 + 1 < N
        (rn.KFAC(bias="separate"), (20, 50, 50, 1), 0.5, 6, rn.relu),  # the output bias
        (rn.Identity(), (20, 50, 50, 1), 0.0, 6, rn.relu),
    ],
)
def test_alpha_is_none_where_the_widths_or_the_approximation_rule_isotropy_out(fisher, widths, sigma_b, n, activation):
    p = problem(widths, activation, sigma_b, N=n)
    assert fisher.alpha(p.net, n) is None
    assert rn.isotropy(fisher.coefficient(p.s, p.s)).deviation > 1e-3


@pytest.mark.parametrize(
    ("fisher", "widths", "sigma_b", "alpha", "activation"),
    [
        (rn.KFAC(), (5, 50, 50, 1), 0.5, 18, rn.relu),  # M_0 + 1 = N
        (rn.KFAC(bias="separate"), (20, 50, 50, 1), 0.0, 18, rn.relu),  # there is no bias
        (rn.Exact(), (20, 3, 20, 1), 0.5, 1, rn.tanh),  # Theta_1 and Theta_2 are regular
        (rn.BlockDiagonal(), (20, 6, 20, 1), 0.0, 3, rn.linear),
        (rn.BlockDiagonal(), (2, 3, 6, 1), 0.0, 3, rn.tanh),  # 2 * 3 = N entries
    ],
)
def test_alpha_where_the_widths_just_suffice(fisher, widths, sigma_b, alpha, activation):
    p = problem(widths, activation, sigma_b, N=6)
    assert fisher.alpha(p.net, 6) == alpha
    assert_isotropic(fisher, p, alpha, gram_condition(p))


def test_a_layer_without_weight_may_be_too_narrow():
    p = problem((20, 5, 5, 1), rn.tanh, N=6)  # W_3 has 5 entries, but Sigma^{-1} 1 = (0, 1, 0)
    assert rn.BlockTridiagonal().alpha(p.net, 6) == pytest.approx(1)
    assert rn.isotropy(rn.BlockTridiagonal().coefficient(p.s, p.s)).deviation < 1e-9


def test_isotropy_reports_mean_deviation_and_condition():
    for diagonal, expected in [
        ([1.0, 2.0, 6.0], (3, 1, 6)),
        ([1.0, 5.0, 6.0], (4, 0.75, 6)),
        ([0.0, 2.0], (1, 1, np.inf)),
        ([0.0, 0.0], (0, np.inf, np.inf)),
    ]:
        report = rn.isotropy(on(np.diag(diagonal)))
        assert (report.alpha, report.deviation, report.condition) == pytest.approx(expected)
        assert report.eigenvalues.tolist() == pytest.approx(diagonal)
        assert type(report.eigenvalues) is np.ndarray


@pytest.mark.parametrize(
    ("fisher", "net", "n", "spectrum"),
    [
        (rn.BlockDiagonal(), rn.Network((20, 1, 50, 1)), 6, {1.0, 3.0}),
        (rn.BlockTridiagonal(), rn.Network((20, 50, 1, 50, 1)), 4, {0.0, 1.0, 2.0}),
        (rn.BlockDiagonal(), rn.Network((1, 50, 50, 1)), 5, {0.0, 3.0}),
        (rn.Exact(), rn.Network((2, 2, 1), rn.tanh, sigma_b=0.5), 7, {1.0}),
        (rn.Exact(), rn.Network((2, 2, 1), rn.tanh, sigma_b=0.5), 10, {0.0, 1.0}),
    ],
    ids=str,
)
def test_alpha_knows_what_narrow_layers_lose(fisher, net, n, spectrum):
    for seed in range(400):  # until all samples are alive, of which a layer of one unit decides
        rng = generator(seed)
        s = net.signals(on(net.init(rng)), on(rng.standard_normal((n, net.widths[0]))))
        measured = rn.isotropy(fisher.coefficient(s, s)).eigenvalues
        if set(measured.round(6) + 0.0) == spectrum:
            break
    else:
        pytest.fail(f"no seed has the eigenvalues {spectrum}")
    assert fisher.alpha(net, n) == (min(spectrum) if len(spectrum) == 1 else None)


def random_isotropy_problem(seed):
    """A network that may be too narrow, a number of samples, and an approximation, with layers coupled at random."""
    rng = generator(seed)
    L, C, bias = int(rng.integers(1, 5)), int(rng.integers(1, 4)), bool(rng.integers(2))
    activation = (rn.tanh, rn.erf, rn.linear)[rng.integers(3)]
    widths = [int(M) for M in rng.integers(2, 8, L)]
    if rng.integers(3) == 0:
        widths[rng.integers(L)] = 1
    Sigma = np.tril(rng.integers(-1, 2, (L, L)) + np.diag(rng.integers(0, 3, L)))
    Sigma = (Sigma + np.tril(Sigma, -1).T).astype(float)
    name = ("Exact", "BlockDiagonal", "BlockTridiagonal", "Layerwise")[rng.integers(4)]
    fisher = rn.Layerwise(Sigma) if name == "Layerwise" else getattr(rn, name)()
    net = rn.Network((*widths, C), activation, 1.0, 0.7 * bias)
    return net, int(rng.integers(1, 9)), fisher, definitions.Fisher(name, Sigma), rng


@pytest.mark.parametrize("seed", range(300))
def test_alpha_is_the_measured_spectrum_of_any_linear_or_smooth_network(seed):
    net, n, fisher, defined, rng = random_isotropy_problem(seed)
    s = literal(net.signals(on(net.init(rng)), on(rng.standard_normal((n, net.widths[0])))))
    Theta_bar, alpha = definitions.coefficient(s, s, defined), fisher.alpha(net, n)
    measured = Theta_bar.trace() / len(Theta_bar)
    is_isotropic = abs(Theta_bar - measured * np.eye(len(Theta_bar))).max() < 1e-2  # G can be ill-conditioned
    if alpha is not None:
        assert is_isotropic
        assert measured == pytest.approx(alpha, abs=1e-2)
    elif isinstance(fisher, rn.BlockDiagonal | rn.Exact) and not isinstance(fisher, rn.BlockTridiagonal):
        assert not is_isotropic  # where layers are coupled, narrow ones can do together what one alone cannot
