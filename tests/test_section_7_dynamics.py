"""THEORY 7, the MSE part: theory of the training in function space and of the parameters, against training."""

import itertools
import math

import numpy as np
import pytest
from support import FISHERS, FISHERS_AT_INFINITE_WIDTH, assert_close, generator, host, on, problem, relative

import refngd as rn
from refngd import datasets, definitions
from refngd.experiments import compare


def linearised_training(p, fisher, y, eta, steps, rho=0.0):
    """(S.24) step by step: outputs on train and test and the parameters' change after `steps` updates with G_0, J_0."""
    f, f_test, dtheta = host(p.s.f), host(p.test.f), 0
    for _ in range(steps):
        step = fisher.direction(p.s, on(f - y), rho)
        f, f_test = f - eta * host(rn.push(p.s, step)), f_test - eta * host(rn.push(p.test, step))
        dtheta = dtheta - eta * host(rn.flatten(step))
    return f, f_test, dtheta


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("C", [1, 2])
@pytest.mark.parametrize("t", [0, 1, 7])
def test_predictions_are_the_linearised_training(name, C, t):
    """K&O (5), (10), (13), (16), (18), (21) on train and test, and (22) for the parameters."""
    p, fisher, rho = problem((8, 40, 40, C), rn.tanh, 0.5), FISHERS[name], 1e-3 if name == "Unitwise" else 0.0
    y = generator(5).standard_normal((4, C))
    Theta_bar, cross = fisher.coefficient(p.s, p.s, rho), fisher.coefficient(p.test, p.s, rho)
    eta = 0.7 * rn.optimal_rate(Theta_bar)
    dynamics = rn.Dynamics(Theta_bar, p.s.f, on(y), eta)
    f, f_test, dtheta = linearised_training(p, fisher, y, eta, t, rho)
    np.testing.assert_allclose(host(dynamics.predict(Theta_bar, p.s.f, t)), f, rtol=0, atol=1e-9 * abs(y).max())
    np.testing.assert_allclose(
        host(dynamics.predict(cross, p.test.f, t)), f_test, rtol=0, atol=1e-9 * abs(f_test).max()
    )
    if t:
        assert relative(rn.flatten(fisher.direction(p.s, dynamics.accumulated(t), rho)), dtheta) < 1e-8


def test_linearized_network_is_the_first_order_expansion():
    p = problem((5, 30, 2), rn.tanh, 0.5)
    W = [w + 1e-4 * d for w, d in zip(p.W, rn.pull(p.s, p.e), strict=True)]
    f = p.net.forward(W, p.x)
    assert relative(rn.linearized(p.s, p.W, W), f) < 1e-5
    assert relative(rn.linearized(p.s, p.W, W), p.s.f) > 1e-5


@pytest.mark.parametrize("fisher", [rn.Exact(), rn.BlockDiagonal(), rn.KFAC()], ids=str)
def test_isotropic_training_is_one_exponential_for_all_samples(fisher):
    """f_t = y + (1 - alpha eta)^t (f_0 - y), K&O (12), (17)."""
    p = problem((8, 40, 40, 2), rn.tanh)
    y, alpha = generator(5).standard_normal((4, 2)), fisher.alpha(p.net, 4)
    Theta_bar = fisher.coefficient(p.s, p.s)
    for c in (0.5, 1.0, 1.9):
        dynamics = rn.Dynamics(Theta_bar, p.s.f, on(y), c / alpha)
        for t in (1, 3, 10):
            f = y + (1 - c) ** t * (host(p.s.f) - y)
            np.testing.assert_allclose(host(dynamics.predict(Theta_bar, p.s.f, t)), f, atol=1e-10)


def test_gd_and_exact_ngd_converge_to_the_same_kernel_regression():
    """K&O (14)."""
    p = problem((8, 40, 40, 1), rn.tanh)
    y, Theta, cross = generator(5).standard_normal((4, 1)), rn.ntk(p.s, p.s), rn.ntk(p.test, p.s)
    limit = host(p.test.f) + host(cross) @ np.linalg.solve(host(Theta), y - host(p.s.f))
    for fisher in (rn.Identity(), rn.Exact()):
        Theta_bar = fisher.coefficient(p.s, p.s)
        dynamics = rn.Dynamics(Theta_bar, p.s.f, on(y), rn.optimal_rate(Theta_bar))
        f = dynamics.predict(fisher.coefficient(p.test, p.s), p.test.f, math.inf)
        assert_close(f, limit, np.linalg.cond(host(Theta)))
        late = dynamics.predict(fisher.coefficient(p.test, p.s), p.test.f, 100_000)
        np.testing.assert_allclose(host(late), limit, rtol=1e-6)


@pytest.mark.parametrize("x", [1e-12, 1e-5, 0.3, 0.9, 1.7])
def test_accumulated_residual_is_the_sum_of_the_residuals(x):
    """(1 - (1 - x)^t) / lambda without cancellation, against fractions."""
    from fractions import Fraction

    dynamics = rn.Dynamics(on(np.diag([1.0, x])), on(np.zeros((2, 1))), on(np.ones((2, 1))), 1.0)
    for t in (1, 2, 50):
        exact = (1 - (1 - Fraction(x)) ** t) / Fraction(x)
        assert host(dynamics.accumulated(t))[1, 0] == pytest.approx(float(exact), rel=1e-14)


def test_null_space_of_theta_bar_grows_linearly_and_stays_at_infinity():
    dynamics = rn.Dynamics(on(np.diag([2.0, 0.0])), on(np.zeros((2, 1))), on(np.ones((2, 1))), 0.25)
    np.testing.assert_allclose(host(dynamics.accumulated(4)).ravel(), [(1 - 0.5**4) / 2, 4 * 0.25])
    with pytest.warns(RuntimeWarning, match=r"count as zero in directions that hold 0\.7 of y - f_0: the limit leaves"):
        np.testing.assert_allclose(host(dynamics.accumulated(math.inf)).ravel(), [0.5, 0])


def test_dynamics_that_do_not_converge_say_so():
    dynamics = rn.Dynamics(on(np.diag([1.0, 3.0])), on(np.zeros((2, 1))), on(np.ones((2, 1))), 1.0)
    with pytest.raises(FloatingPointError, match="no limit: eta = 1, expected 0 < eta lambda < 2"):
        dynamics.accumulated(math.inf)
    with pytest.raises(FloatingPointError, match="training diverges: R_t overflows at t = 5000"):
        dynamics.accumulated(5000)


def test_the_limit_exists_however_slow_the_convergence():
    dynamics = rn.Dynamics(on(np.eye(2)), on(np.zeros((2, 1))), on(np.ones((2, 1))), 1e-17)  # 1 - eta rounds to 1
    np.testing.assert_allclose(host(dynamics.accumulated(math.inf)), 1)


def test_theta_bar_has_to_be_symmetric():
    K, f = on(np.array([[1.0, 1], [0, 1]])), on(np.zeros((2, 1)))
    for call in (lambda: rn.Dynamics(K, f, f, 0.1), lambda: rn.isotropy(K), lambda: rn.optimal_rate(K)):
        with pytest.raises(ValueError, match="Theta_bar is not symmetric: it differs from its transpose by 1"):
            call()


@pytest.mark.parametrize(("rho", "q"), [(1e-3, 1), (0.0, 2)])
def test_compare_trains_and_predicts_as_one_would_by_hand(rho, q):
    data = datasets.split(*datasets.digits((3, 5, 8)), 9, 0)
    net, fisher = rn.Network((64, 50, 50, 3), rn.tanh, 1.2, 0.3), rn.KFAC()
    W, (x, y, x_test, y_test) = on(net.init(0)), on(list(vars(data).values()))
    result = compare(net, W, datasets.Data(x, y, x_test, y_test), fisher, 3, 0.7, rho, q)
    s, test = net.signals(W, x), net.signals(W, x_test)
    Theta_bar, cross = fisher.coefficient(s, s, rho, q), fisher.coefficient(test, s, rho, q)
    eta = 0.7 / np.linalg.eigvalsh(host(Theta_bar))[-1]
    assert result.eta == pytest.approx(eta)
    assert result.alpha is None  # rho > 0 or q > 1
    assert compare(net, W, datasets.Data(x, y, x_test, y_test), fisher, 0).alpha == 27
    for t, step in enumerate(rn.train(net, W, x, y, fisher, eta, 3, rho, q)):
        assert result.loss[t] == pytest.approx(step.loss)
        assert result.accuracy[t] == datasets.accuracy(net.forward(step.W, x_test), y_test)
    dynamics = rn.Dynamics(Theta_bar, s.f, y, eta)
    for t in range(4):
        assert result.theory_loss[t] == pytest.approx(rn.mse.value(dynamics.predict(Theta_bar, s.f, t), y))
        assert result.theory_accuracy[t] == datasets.accuracy(dynamics.predict(cross, test.f, t), y_test)


def test_optimal_rate_is_one_over_the_largest_eigenvalue():
    assert rn.optimal_rate(on(np.diag([1.0, 4.0, 2.0]))) == pytest.approx(0.25)


def test_training_takes_the_steps_of_equation_7_and_leaves_w_alone():
    p = problem((5, 20, 2), rn.tanh, 0.5)
    y, before = generator(5).standard_normal((4, 2)), [w.copy() for w in host(p.W)]
    steps = list(rn.train(p.net, p.W, p.x, on(y), rn.BlockDiagonal(), 0.3, 2, rho=0.1))
    assert [step.t for step in steps] == [0, 1, 2]
    for w, w0 in zip(host(p.W), before, strict=True):
        assert (w == w0).all()
    for a, b in itertools.pairwise(steps):
        s = p.net.signals(a.W, p.x)
        assert a.loss == pytest.approx(((host(s.f) - y) ** 2).sum() / (2 * 4))
        update = rn.BlockDiagonal().direction(s, s.f - on(y), 0.1)
        for w, w_next, dw in zip(a.W, b.W, update, strict=True):
            assert_close(w_next, host(w) - 0.3 * host(dw))


@pytest.mark.parametrize(("batch", "sizes"), [(2, [2, 2, 1]), (5, [5]), (4, [4, 1])])
def test_mini_batches_are_new_permutations_with_the_rest_at_the_end(batch, sizes):
    """f and loss of a step are those of the batch that its update takes, whose N is the batch's."""
    p, epochs = problem((5, 20, 2), rn.tanh, N=5), 3
    y, order = generator(5).standard_normal((5, 2)), generator(11)
    steps = list(rn.train(p.net, p.W, p.x, on(y), rn.Exact(), 0.3, epochs * len(sizes), 0.1, batch=batch, rng=11))
    rows = [r for _ in range(epochs) for r in np.split(order.permutation(5), np.cumsum(sizes)[:-1])]
    for a, b, r in zip(steps[:-1], steps[1:], rows, strict=True):
        s = p.net.signals(a.W, on(host(p.x)[r]))
        assert_close(a.f, host(s.f))
        assert a.loss == pytest.approx(((host(s.f) - y[r]) ** 2).sum() / (2 * len(r)))
        for w, w_next, dw in zip(a.W, b.W, rn.Exact().direction(s, s.f - on(y[r]), 0.1), strict=True):
            assert_close(w_next, host(w) - 0.3 * host(dw))


def test_full_batches_draw_nothing():
    p, rng = problem((5, 20, 2), rn.tanh), generator(3)
    list(rn.train(p.net, p.W, p.x, p.e, rn.Exact(), 0.1, 3, rng=rng))
    assert rng.random() == generator(3).random()


def test_loss_gradient_is_the_pull_back_of_the_residual():
    p = problem((4, 5, 2), rn.tanh, 0.5)
    y, theta = on(generator(5).standard_normal((4, 2))), host(rn.flatten(p.W))
    gradient = host(rn.flatten(rn.pull(p.s, rn.mse.residual(p.s.f, y) / 4)))
    for i in (0, 7, len(theta) - 1):
        d = np.zeros_like(theta)
        d[i] = 1e-6
        up, down = (rn.mse.value(p.net.forward(rn.unflatten(p.net, on(theta + v)), p.x), y) for v in (d, -d))
        assert gradient[i] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(
    ("activation", "expected"),
    [(rn.tanh, (0.16, 0.018, 0.0014)), (rn.relu, (0.11, 0.030, 0.024))],
    ids=["tanh", "relu"],
)
def test_finite_networks_approach_the_theory_as_they_widen(activation, expected):
    """THEORY 7: N = 12, 5 steps, eta alpha = 1/2, block-diagonal; within a factor 3 of the errors found there."""
    for M, error in zip((128, 512, 2048), expected, strict=True):
        measured = []
        for seed in range(3):
            rng = generator(seed)
            net = rn.Network((30, M, M, 1), activation)
            x = rng.standard_normal((12, 30))
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            y, W = np.sign(rng.standard_normal((12, 1))), on(net.init(rng))
            *_, last = rn.train(net, W, on(x), on(y), rn.BlockDiagonal(), 0.5 / 3, 5)
            theory = y + 0.5**5 * (host(net.forward(W, on(x))) - y)
            measured.append(np.linalg.norm(host(last.f) - theory) / np.linalg.norm(theory - y))
        assert np.median(measured) < 3 * error


def test_gaussian_outputs_have_their_covariance():
    """Over C = 40,000 independent outputs the mean of products is within 5 standard deviations, also for singular K."""
    root = generator().standard_normal((5, 3))
    K, C = root @ root.T, 40_000
    f = host(rn.gaussian_outputs(on(K), C, 1))
    assert f.shape == (5, C)
    deviation = np.sqrt((K**2 + np.outer(K.diagonal(), K.diagonal())) / C)
    assert (abs(f @ f.T / C - K) < 5 * deviation).all()
    assert abs(np.linalg.svd(root)[0][:, 3:].T @ f).max() < 1e-13  # nothing outside the range of K


def test_gaussian_outputs_are_those_of_wide_networks():
    net, x = rn.Network((6, 500, 500, 30), rn.relu, 2**0.5, 0.5), generator().standard_normal((4, 6))
    K = rn.analytic_kernels(net, x, x).A[-1]
    f = np.concatenate([net.forward(net.init(seed), x) for seed in range(40)], axis=1)
    deviation = np.sqrt((K**2 + np.outer(K.diagonal(), K.diagonal())) / f.shape[1])
    assert (abs(f @ f.T / f.shape[1] - K) < 5 * deviation).all()


@pytest.mark.parametrize(
    ("K", "C", "message"),
    [
        (np.diag([1.0, -0.1]), 1, "negative eigenvalue"),
        (-np.eye(2), 1, "negative eigenvalue"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), 1, "not symmetric"),
        (np.ones((2, 3)), 1, r"K is .* \(2, 3\); expected an array of float32 or float64 \(2, 2\)"),
        (np.eye(2), 0, "C is 0"),
    ],
)
def test_gaussian_outputs_of_no_covariance_are_refused(K, C, message):
    with pytest.raises(ValueError, match=message):
        rn.gaussian_outputs(on(K), C, 0)


def at_infinite_width(fisher, rho=0.0, N=5, N_test=3):
    """Theta_bar of the training set, and with test inputs; K of all, the test inputs first; targets (N, 2)."""
    x, net = on(generator(2).standard_normal((N_test + N, 8))), rn.Network((8, 9, 9, 1), rn.tanh, 1.3, 0.4)
    test, train, y = x[:N_test], x[N_test:], on(generator(3).standard_normal((N, 2)))
    own = rn.analytic_kernels(net, train, train)
    cross, K = rn.analytic_kernels(net, test, train), rn.analytic_kernels(net, x, x).A[-1]
    Theta_bars = (fisher.kernel_coefficient(k, own, rho) for k in (own, cross))
    return *Theta_bars, K, y


@pytest.mark.parametrize("fisher", FISHERS_AT_INFINITE_WIDTH, ids=str)
@pytest.mark.parametrize("t", [0, 1, 3, math.inf])
def test_mean_and_covariance_over_initialisations_are_those_of_the_definitions(fisher, t):
    own, cross, K, y = at_infinite_width(fisher)
    eta = 0.7 * rn.optimal_rate(own)
    dynamics = rn.Dynamics(own, 0 * y, y, eta)
    mean, covariance = definitions.predictive(*(host(a) for a in (own, cross, K, y)), eta, t)
    kappa = np.linalg.cond(host(own))
    assert_close(dynamics.predict(cross, 0 * y[:3], t), mean, kappa) if t else None
    assert_close(dynamics.covariance(cross, K, t), covariance, kappa * np.linalg.cond(host(K)))


@pytest.mark.parametrize("fisher", FISHERS_AT_INFINITE_WIDTH, ids=str)
def test_mean_and_covariance_over_initialisations_are_those_of_samples(fisher):
    own, cross, K, y = at_infinite_width(fisher, rho=0.0)
    n, t, eta = 20_000, 2, 0.6 * rn.optimal_rate(own)
    f0 = rn.gaussian_outputs(K, n, 1)
    targets = on(np.repeat(host(y)[:, :1], n, axis=1))
    f = host(rn.Dynamics(own, f0[3:], targets, eta).predict(cross, f0[:3], t))
    dynamics = rn.Dynamics(own, 0 * y, y, eta)
    mean, covariance = host(dynamics.predict(cross, 0 * y[:3], t))[:, 0], host(dynamics.covariance(cross, K, t))
    scale = np.sqrt(np.diag(covariance))
    assert (abs(f.mean(1) - mean) < 5 * scale / n**0.5).all()
    assert (abs(np.cov(f) - covariance) < 5 * 2**0.5 * np.outer(scale, scale) / n**0.5).all()


def test_covariance_over_initialisations_vanishes_on_the_training_set_alone():
    own, cross, K, y = at_infinite_width(rn.BlockDiagonal())
    both = on(np.concatenate([host(K)[3:], host(K)[3:]])[:, [3, 4, 5, 6, 7] * 2])
    dynamics = rn.Dynamics(own, 0 * y, y, 1 / 3)
    assert float(abs(dynamics.covariance(own, both, math.inf)).max()) < 1e-13  # K is singular, to rounding
    assert float(np.diag(host(dynamics.covariance(cross, K, math.inf))).min()) > 1e-3


def test_covariance_over_initialisations_is_that_of_wide_networks():
    """Each network with its own Theta_bar: 150 networks of width 300, whose variances scatter by a ninth."""
    net, x = rn.Network((8, 300, 300, 1), rn.tanh, 1.3, 0.4), on(generator(2).standard_normal((8, 8)))
    own, cross, K, y = at_infinite_width(rn.BlockDiagonal())
    f = []
    for seed in range(150):
        W = on(net.init(seed))
        test, train = net.signals(W, x[:3]), net.signals(W, x[3:])
        Theta_bar, Theta_bar_test = (rn.BlockDiagonal().coefficient(s, train) for s in (train, test))
        f.append(host(rn.Dynamics(Theta_bar, train.f, y[:, :1], 1 / 3).predict(Theta_bar_test, test.f, 1))[:, 0])
    dynamics = rn.Dynamics(own, 0 * y, y, 1 / 3)
    covariance = host(dynamics.covariance(cross, K, 1))
    np.testing.assert_allclose(np.var(f, axis=0), np.diag(covariance), rtol=0.45)
    mean, scale = host(dynamics.predict(cross, 0 * y[:3], 1))[:, 0], np.sqrt(np.diag(covariance))
    assert (abs(np.mean(f, axis=0) - mean) < 0.35 * scale).all()


def test_what_covariance_over_initialisations_refuses():
    own, cross, K, y = at_infinite_width(rn.Exact())
    dynamics = rn.Dynamics(own, 0 * y, y, 0.5)
    with pytest.raises(ValueError, match=r"K is \w+ float64 \(5, 5\); expected an array of \w+ float64 \(8, 8\)"):
        dynamics.covariance(cross, own, 1)
    with pytest.raises(ValueError, match="K has a negative eigenvalue"):
        dynamics.covariance(cross, -K, 1)
    with pytest.raises(ValueError, match=r"Theta_bar is \(4, 4\) for N = 2 samples; expected \(N, N\)"):
        rn.Dynamics(own[:4, :4], y[:2], y[:2], 0.5).covariance(cross[:, :4], K[:7, :7], 1)
