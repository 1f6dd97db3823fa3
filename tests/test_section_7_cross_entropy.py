"""THEORY 7, the cross-entropy: whitened signals hand every approximation the Fisher matrix of section D."""

from dataclasses import replace
from itertools import islice

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support import FISHERS, assert_close, generator, host, on, problem, relative

import refngd as rn
from refngd import datasets
from refngd.experiments import compare
from refngd.losses import centred, hessian_root, output_hessian, softmax

LOSSES = [rn.cross_entropy, rn.CrossEntropy(0.1)]
N, C = 4, 3


def classification(widths=(6, 9, 9, C), sigma_b=0.5, **options):
    """A problem and one-hot targets."""
    p = problem(widths, rn.tanh, sigma_b, N=N, **options)
    y = np.eye(C)[generator(7).integers(0, C, N)]
    return p, on(y.astype(options.get("dtype", float)))


def literal_hessian(f, rho):
    """Lambda_n + rho I, sample by sample."""
    p = np.exp(f) / np.exp(f).sum(1, keepdims=True)
    return [np.diag(p_n) - np.outer(p_n, p_n) + rho * np.eye(len(p_n)) for p_n in p], p


def block_hessian(f, rho):
    """The same as one matrix (NC, NC)."""
    hessian = np.zeros((f.size, f.size))
    for n, block in enumerate(literal_hessian(f, rho)[0]):
        hessian[n * C : (n + 1) * C, n * C : (n + 1) * C] = block
    return hessian


def test_value_and_residual_are_the_mean_and_its_derivative():
    f, y = generator().standard_normal((N, C)), np.eye(C)[[0, 2, 1, 1]]
    _, p = literal_hessian(f, 0)
    assert rn.cross_entropy.value(on(f), on(y)) == pytest.approx(-np.log(p[y == 1]).mean(), rel=1e-14)
    for n, c in ((0, 0), (2, 1), (3, 2)):
        d = np.zeros((N, C))
        d[n, c] = 1e-6
        up, down = (rn.cross_entropy.value(on(f + v), on(y)) for v in (d, -d))
        residual = host(rn.cross_entropy.residual(on(f), on(y)))
        assert N * (up - down) / 2e-6 == pytest.approx(residual[n, c], rel=1e-7)


def test_large_logits_neither_overflow_nor_lose_the_loss():
    f, y = on(np.array([[1e4, 0.0], [-1e4, 3e4]])), on(np.eye(2))
    assert rn.cross_entropy.value(f, y) == 0
    assert rn.cross_entropy.value(f, on(np.eye(2)[::-1].copy())) == pytest.approx(2.5e4)
    np.testing.assert_array_equal(host(rn.cross_entropy.residual(f, y)), 0)


def test_velocity_has_the_golden_values():
    """THEORY 13.4."""
    golden = (0.50517571874405, -0.06276119900086, -0.44241451974319)
    velocity = rn.CrossEntropy(0.1).velocity(on(np.array([[1.0, 2, 3]])), on(np.array([[1.0, 0, 0]])))
    np.testing.assert_allclose(host(velocity)[0], golden, rtol=0, atol=5e-15)
    undamped = rn.cross_entropy.velocity(on(np.array([[1.0, 2, 3]])), on(np.array([[1.0, 0, 0]])))
    _, p = literal_hessian(np.array([[1.0, 2, 3]]), 0)
    np.testing.assert_allclose(host(undamped), [[1, 0, 0]] - p, atol=1e-14)  # y - p: rows sum to 0


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_whitening_takes_the_root_of_the_hessian_and_keeps_the_gradient(loss):
    p, y = classification()
    s, e = loss.whiten(p.s, y)
    R = host(s.delta[-1])  # delta_L was the identity
    np.testing.assert_allclose(R.transpose(0, 2, 1) @ R, literal_hessian(host(p.s.f), loss.rho)[0], atol=1e-15)
    desired = rn.flatten(rn.pull(p.s, loss.residual(p.s.f, y)))
    assert_close(rn.flatten(rn.pull(s, e)), host(desired), 10)
    J = host(rn.jacobian(s))
    assert_close(J.T @ J, p.J.T @ block_hessian(host(p.s.f), loss.rho) @ p.J, 10)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize(
    "fisher", [rn.Exact(), rn.BlockDiagonal(), rn.BlockTridiagonal(), rn.Layerwise(np.diag([1.0, 2, 4]))], ids=str
)
def test_dynamics_in_function_space_are_equation_s168(fisher, loss):
    """dp/dt = alpha Lambda (Lambda + rho~)^{-1} (y - p), for exact and layer-wise alike."""
    p, y = classification((8, 40, 40, C))
    s, e = loss.whiten(p.s, y)
    df = -host(rn.push(p.s, fisher.direction(s, e)))
    dp = np.stack([H @ d for H, d in zip(literal_hessian(host(p.s.f), 0)[0], df, strict=True)])
    desired = host(loss.velocity(p.s.f, y, fisher.alpha(p.net, N)))
    np.testing.assert_allclose(dp, desired, atol=1e-8)


def test_small_steps_of_training_follow_the_predicted_velocity():
    p, y = classification((8, 400, 400, C))
    *_, last = rn.train(p.net, p.W, p.x, y, rn.BlockDiagonal(), 1e-4 / 3, 1, loss=rn.CrossEntropy(0.1))
    dp = literal_hessian(host(last.f), 0)[1] - literal_hessian(host(p.s.f), 0)[1]
    assert relative(dp / 1e-4, rn.CrossEntropy(0.1).velocity(p.s.f, y)) < 1e-2


@pytest.mark.parametrize("name", FISHERS)
def test_training_lowers_the_cross_entropy(name):
    p, y = classification((8, 100, 100, C))
    loss, fisher, rho = rn.CrossEntropy(0.01), FISHERS[name], 1e-8 if name == "Unitwise" else 0.0
    s, _ = loss.whiten(p.s, y)
    eta = 0.5 * rn.optimal_rate(fisher.coefficient(s, s, rho))
    losses = [step.loss for step in rn.train(p.net, p.W, p.x, y, fisher, eta, 4, rho, loss=loss)]
    assert losses[0] == pytest.approx(rn.cross_entropy.value(p.s.f, y))
    assert losses[-1] < losses[0] * (0.95 if name == "Identity" else 0.5)


@pytest.mark.parametrize("name", FISHERS)
def test_linearised_training_is_the_closed_form_for_the_mean_squared_error(name):
    p, fisher, rho = problem((8, 40, 40, 2), rn.tanh, 0.5), FISHERS[name], 1e-3
    y, Theta_bar = on(generator(5).standard_normal((4, 2))), fisher.coefficient(p.s, p.s, rho)
    eta = 0.7 * rn.optimal_rate(Theta_bar)
    dynamics = rn.Dynamics(Theta_bar, p.s.f, y, eta)
    for t, (f, f_test) in enumerate(islice(rn.linearized_training([p.s, p.test], y, fisher, eta, rho), 4)):
        np.testing.assert_allclose(host(f), host(dynamics.predict(Theta_bar, p.s.f, t)), atol=1e-8)
        cross = fisher.coefficient(p.test, p.s, rho)
        np.testing.assert_allclose(host(f_test), host(dynamics.predict(cross, p.test.f, t)), atol=1e-8)


@pytest.mark.parametrize("logit", [5.0, 18.0, 30.0, 50.0, 800.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_confident_predictions_leave_the_hessian_semidefinite(logit, dtype):
    p, _ = classification(dtype=dtype)
    f = np.array([[logit, 0, 0], [0, logit, 1], [logit, logit, 0], [-logit, 0, logit / 2]], dtype)
    s = rn.Signals(on(f), p.s.h, p.s.delta, p.s.trained)
    y = on(np.eye(3, dtype=dtype)[[0, 1, 1, 2]])
    whitened, e = rn.cross_entropy.whiten(s, y)
    assert all(np.isfinite(host(d)).all() for d in [e, *whitened.delta])
    gradient, kept = (
        host(rn.flatten(rn.pull(*pair))) for pair in ((s, rn.cross_entropy.residual(s.f, y)), (whitened, e))
    )
    assert np.linalg.norm(kept - gradient) <= 1e-6 * np.linalg.norm(gradient) + 1e-30 or logit == 800


@pytest.mark.parametrize("fisher", [rn.Exact(), rn.BlockDiagonal(), rn.Identity()], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_undamped_training_goes_on_until_the_loss_is_nothing(fisher, dtype):
    p, y = classification((6, 256, 256, C), dtype=dtype)
    eta = 1.0 if isinstance(fisher, rn.Identity) else 0.5 / fisher.alpha(p.net, N)
    steps = 100 if isinstance(fisher, rn.Identity) else 50  # margins then grow by 1/2 a step, beyond what is linear
    losses = [step.loss for step in rn.train(p.net, p.W, p.x, y, fisher, eta, steps, loss=rn.cross_entropy)]
    assert losses[-1] < (0.1 if isinstance(fisher, rn.Identity) else 1e-5) * losses[0]


def test_wide_networks_train_as_the_linearised_ones():
    errors = []
    for M in (100, 1600):
        p, y = classification((8, M, M, C))
        settings = dict(fisher=rn.BlockDiagonal(), eta=0.1, loss=rn.CrossEntropy(0.1))
        *_, last = rn.train(p.net, p.W, p.x, y, steps=5, **settings)
        theory = next(islice(rn.linearized_training([p.s], y, **settings), 5, None))[0]
        errors.append(relative(last.f, theory))
    assert errors[1] < errors[0] / 2
    assert errors[1] < 0.1


def test_compare_reports_the_isotropy_of_the_whitened_outputs():
    data = datasets.split(*datasets.digits((0, 7)), 8, 0, one_hot=True)
    net = rn.Network((64, 60, 60, 2))
    data = datasets.Data(*on(list(vars(data).values())))
    W = on(net.init(0))
    result = compare(net, W, data, rn.BlockDiagonal(), 3, loss=rn.CrossEntropy(0.01))
    assert (result.alpha, result.eta) == (3, pytest.approx(1 / 3))
    assert result.isotropy.condition == pytest.approx(1)
    assert result.loss[-1] < 0.2 * result.loss[0]
    assert compare(net, W, data, rn.KFAC(), 0, loss=rn.CrossEntropy(0.01)).alpha is None  # B*_L is not the Hessian
    assert compare(net, W, data, rn.BlockDiagonal(), 0, loss=rn.cross_entropy).alpha is None  # 3 times a projector


def test_float32_stays_float32():
    p, y = classification(dtype=np.float32)
    loss = rn.CrossEntropy(np.float64(0.1))
    s, e = loss.whiten(p.s, y)
    *_, last = rn.train(p.net, p.W, p.x, y, rn.Exact(), 0.1, 2, loss=loss)
    arrays = [e, *s.delta, loss.velocity(p.s.f, y), last.f, *last.W]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "y", [np.full((4, 3), 1 / 3), np.eye(3)[[0, 1, 2, 0]] * 2, np.eye(3)[[0, 1, 2, 0]] - 0.5, np.zeros((4, 3))]
)
def test_targets_have_to_be_one_hot(y):
    p, _ = classification()
    with pytest.raises(ValueError, match="y is not one-hot with C = 3; expected one 1 in each row, else 0"):
        rn.train(p.net, p.W, p.x, on(y), rn.Exact(), 0.1, 1, loss=rn.cross_entropy)


def test_bad_arguments():
    p = problem((6, 9, 1))
    with pytest.raises(ValueError, match="y has C = 1 column"):
        rn.train(p.net, p.W, p.x, on(np.ones((4, 1))), rn.Exact(), 0.1, 1, loss=rn.cross_entropy)
    with pytest.raises(ValueError, match="rho is -1; expected a finite number >= 0"):
        rn.CrossEntropy(-1)
    with pytest.raises(ValueError, match=r"loss is 'mse'; expected a Loss such as refngd\.mse"):
        rn.train(p.net, p.W, p.x, p.e, rn.Exact(), 0.1, 1, loss="mse")
    with pytest.raises(FloatingPointError, match="the linearised training diverges"):
        list(islice(rn.linearized_training([p.s], p.e, rn.Identity(), 1e200), 5))


# ---------------------------------------------------------------------------------------- logits of any size, THEORY 7


def exact_system(f, target, rho):
    """Lambda + rho I, its Cholesky factor R, e = R^{-T} (p - y) and dp/dt of one sample, at 700 digits."""
    with mpmath.workdps(700):
        p = [mpmath.exp(mpmath.mpf(float(v))) for v in f]
        p = [v / sum(p) for v in p]
        C, g = len(p), [v - (i == target) for i, v in enumerate(p)]
        H = mpmath.matrix(C, C)
        for i in range(C):
            for j in range(C):
                H[i, j] = (i == j) * (p[i] + rho) - p[i] * p[j]
        R, S, e = mpmath.matrix(C, C), H.copy(), [mpmath.mpf(0)] * C
        for j in range(C if rho else C - 1):
            for i in range(j, C):
                R[j, i] = S[j, i] / mpmath.sqrt(S[j, j])
            e[j] = (g[j] - sum(R[k, j] * e[k] for k in range(j))) / R[j, j]
            S -= R[j, :].T * R[j, :]
        if not rho:
            return H, R, e, [-v for v in g]
        v = mpmath.lu_solve(H, mpmath.matrix(g))
        return H, R, e, [rho * a - b for a, b in zip(v, g, strict=True)]  # -Lambda H^{-1} g


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rho", [0.0, 1e-30, 1e-12, 1e-3])
def test_every_entry_of_the_whitening_is_right_to_rounding(dtype, rho):
    """Within 30 u times the range of the logits, which is the condition number of softmax."""
    rng, info = generator(2), np.finfo(dtype)
    largest = 700 if dtype == np.float64 else 80
    for size, C in ((1, 2), (1, 4), (10, 3), (10, 5), (largest / 2, 2), (largest / 2, 3), (largest / 2, 4)):
        f = np.clip(size * rng.standard_normal(C), -largest / 2, largest / 2).astype(dtype)
        target = int(rng.integers(C))
        y = on(np.eye(C, dtype=dtype)[[target]])
        H, R, e, velocity = exact_system(f, target, rho)
        bound = 15 * float(info.eps) * max(1, float(np.ptp(f)))
        computed = [v for table in hessian_root(on(f[None]), y, rho) for v in host(table).ravel()]
        exact = [*[R[i, j] for i in range(C) for j in range(C)], *e]
        if not rho:
            computed += [*host(output_hessian(on(f[None]))).ravel()]
            exact += [H[i, j] for i in range(C) for j in range(C)]
        for a, b in zip(computed, exact, strict=True):
            assert a.dtype == dtype
            assert abs(mpmath.mpf(float(a)) - b) <= bound * abs(b) + float(info.tiny)
        actual = host(rn.CrossEntropy(rho).velocity(on(f[None]), y))[0]
        error = max(abs(mpmath.mpf(float(a)) - b) for a, b in zip(actual, velocity, strict=True))
        assert error <= bound * max(abs(v) for v in velocity) + float(info.tiny)


def with_logits(p, logit):
    """The signals of p with outputs of a confident sample and of unsure ones, and targets."""
    dtype = p.s.f.dtype
    f = np.array([[logit, 0, 1], [0.3, 0.5, 0], [1, 2, 0.5], [0.1, -0.2, 0]], dtype)
    return replace(p.s, f=on(f)), on(np.eye(C, dtype=dtype)[[0, 1, 2, 0]])


def centred_condition(s):
    """The condition number of J of the outputs less their mean over classes."""
    t = np.linalg.svd(np.asarray(host(rn.jacobian(centred(s))), float), compute_uv=False)
    return t[0] / t[N * (C - 1) - 1]


CONFIDENT = [(np.float64, a) for a in (2.0, 14.0, 34.0, 60.0, 300.0, 700.0)]
CONFIDENT += [(np.float32, a) for a in (2.0, 14.0, 18.0, 34.0, 80.0)]


@pytest.mark.parametrize(("dtype", "logit"), CONFIDENT)
@pytest.mark.parametrize(
    ("fisher", "L"),
    [(rn.Exact(), 3), (rn.BlockDiagonal(), 3), (rn.BlockTridiagonal(), 3), (rn.BlockTridiagonal(), 5)],
    ids=["Exact", "BlockDiagonal", "BlockTridiagonal", "BlockTridiagonal-5"],
)
def test_confident_samples_move_with_unsure_ones_as_by_equation_s163(fisher, L, dtype, logit):
    """Lambda df = -alpha (y - p), so df = -alpha (y - 1 / C) / p_y up to one number for each sample."""
    p, _ = classification((8, *[64] * (L - 1), C), dtype=dtype)
    s, y = with_logits(p, logit)
    df = np.asarray(host(rn.push(s, fisher.direction(*rn.cross_entropy.whiten(s, y)))), float)
    exact = softmax(np.asarray(host(s.f), float))
    y = np.asarray(host(y), float)
    desired = -fisher.alpha(p.net, N) * (y - 1 / C) / (exact * y).sum(1, keepdims=True)
    for row, row_desired in zip(df - df.mean(1, keepdims=True), desired, strict=True):  # the confident one alone, too
        assert_close(row, row_desired, centred_condition(s), dtype)


@pytest.mark.parametrize(("dtype", "logit"), CONFIDENT)
@pytest.mark.parametrize("fisher", [rn.KFAC(last="gram"), rn.Unitwise()], ids=["KFAC", "Unitwise"])
def test_confident_samples_move_at_their_limit_in_blocks_of_factors_and_units(fisher, dtype, logit):
    """Margins of a confident sample have the velocity of infinite logits, on which p_y -> 1 has no more effect."""
    p, _ = classification((8, 64, 64, C))
    velocities = []
    for q, a in ((p, 40.0), (classification((8, 64, 64, C), dtype=dtype)[0], max(logit, 14.0))):
        s, y = with_logits(q, a)
        df = np.asarray(host(rn.push(s, fisher.direction(*rn.cross_entropy.whiten(s, y)))), float)
        velocities.append(df[0] - df[0].mean())
    assert relative(velocities[1], velocities[0]) < (1e-3 if dtype == np.float32 else 1e-4)


def test_a_target_whose_probability_underflows_is_said_to_be_lost():
    p, y = classification()
    s = replace(p.s, f=on(np.array([[0.0, 0, 800], [0, 1, 0], [1, 0, 0], [0, 0, 0]])))
    y = on(np.eye(C)[[0, 1, 2, 0]])
    with pytest.warns(RuntimeWarning, match="the target underflows in 1 of 4 samples, which are not trained"):
        rn.cross_entropy.whiten(s, y)
    whitened, e = rn.CrossEntropy(1e-3).whiten(s, y)
    gradient = rn.flatten(rn.pull(s, rn.cross_entropy.residual(s.f, y)))
    assert_close(rn.flatten(rn.pull(whitened, e)), host(gradient), 1e3)


def test_one_output_is_told_to_take_two():
    p, y = problem((6, 9, 1), N=N), on(np.ones((N, 1)))
    with pytest.raises(ValueError, match=r"y has C = 1 column; .* take two, of which it is the difference f_1 - f_0"):
        rn.train(p.net, p.W, p.x, y, rn.Exact(), 0.1, 1, loss=rn.cross_entropy)


def test_two_outputs_have_the_logistic_loss_of_their_difference():
    f, y = generator().standard_normal((N, 2)), np.eye(2)[[0, 1, 1, 0]]
    signs = 2 * y[:, 1] - 1
    logistic = np.log1p(np.exp(-signs * (f[:, 1] - f[:, 0]))).mean()
    assert rn.cross_entropy.value(on(f), on(y)) == pytest.approx(logistic, rel=1e-14)


# --------------------------------------------------------------------------------------------- the flow in closed form


FLOWS = [
    (rn.Exact(), (8, 40, 40, C)),
    (rn.BlockDiagonal(), (8, 40, 40, C)),
    (rn.BlockTridiagonal(), (8, 40, 40, 40, 40, C)),  # a singular Sigma
    (rn.Layerwise([[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]]), (8, 40, 40, C)),
]


@pytest.mark.long
@pytest.mark.parametrize(("fisher", "widths"), FLOWS, ids=["Exact", "BlockDiagonal", "BlockTridiagonal-5", "Layerwise"])
def test_the_flow_is_the_solution_of_the_linearised_training_at_finite_width(fisher, widths):
    """ "By an integrator of order 8, to its tolerance, on training and test samples; by small steps, to their size."""
    p, y = classification(widths)
    eta, t = 0.7, 0.8

    def velocity(_, z):
        s = replace(p.s, f=on(z[: N * C].reshape(N, C)))
        dW = fisher.direction(*rn.cross_entropy.whiten(s, y))
        return -eta * np.concatenate([host(rn.push(q, dW)).ravel() for q in (p.s, p.test)])

    start = np.concatenate([host(q.f).ravel() for q in (p.s, p.test)])
    end = solve_ivp(velocity, (0, t), start, "DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
    f, f_test = end[: N * C].reshape(N, C), end[N * C :].reshape(-1, C)
    flow = rn.CrossEntropyFlow(p.s.f, y, eta, fisher.alpha(p.net, N))
    np.testing.assert_allclose(host(flow.probabilities(t)), softmax(f), rtol=0, atol=3e-8)
    for q, desired in ((p.s, f), (p.test, f_test)):
        cross = fisher.coefficient(q, centred(p.s))
        np.testing.assert_allclose(host(flow.predict(cross, q.f, t)), desired, rtol=0, atol=3e-8)
    errors = []
    for steps in (64, 128):
        training = rn.linearized_training([p.s, p.test], y, fisher, eta * t / steps, loss=rn.cross_entropy)
        last = next(islice(training, steps, None))
        errors.append(np.linalg.norm(host(last[0]) - f) + np.linalg.norm(host(last[1]) - f_test))
    assert 1.8 < errors[0] / errors[1] < 2.6
    assert errors[1] < 0.2


def test_steps_of_the_linearised_training_are_a_recursion_of_one_number_a_sample():
    """THEORY 7: m <- m + alpha eta (1 + e^{-m}) for the margin of the target above the log-sum of the others."""
    p, y = classification((8, 40, 40, C))
    f, target = host(p.s.f), host(y) > 0
    m = f[target] - np.log(np.exp(f[~target]).reshape(N, C - 1).sum(1))
    training = rn.linearized_training([p.s], y, rn.BlockDiagonal(), 0.1, loss=rn.cross_entropy)
    for outputs in islice(training, 6):
        f = host(outputs[0])
        np.testing.assert_allclose(f[target] - np.log(np.exp(f[~target]).reshape(N, C - 1).sum(1)), m, rtol=1e-12)
        m = m + 3 * 0.1 * (1 + np.exp(-m))


def test_infinitely_wide_networks_have_the_flow_of_their_kernels():
    """Its error at finite width falls as M^{-1/2}; C is general, since kernels of infinite width serve all outputs."""
    errors, fisher = {}, rn.BlockDiagonal()
    for M in (100, 1600):
        p, y = classification((8, M, M, C))
        x_test = p.x[:2] + p.x[1:3]
        test = p.net.signals(p.W, x_test)
        wide = rn.analytic_kernels(p.net, x_test, p.x), rn.analytic_kernels(p.net, p.x, p.x)
        flow = rn.CrossEntropyFlow(p.s.f, y, 0.7, 3)
        change = [
            host(flow.predict(cross, test.f, 1.3)) - host(test.f)
            for cross in (fisher.kernel_coefficient(*wide), fisher.coefficient(test, centred(p.s)))
        ]
        errors[M] = relative(*(a - a.mean(1, keepdims=True) for a in change))
    assert errors[1600] < errors[100] / 2
    assert errors[1600] < 0.15


def test_the_flow_neither_overflows_nor_cancels():
    y = on(np.eye(2)[[0, 0, 0]])
    flow = rn.CrossEntropyFlow(on(np.array([[0.0, 0], [-1000, 0], [1000, 0]])), y, 1.0)
    assert (host(flow.accumulated(0)) == 0).all()
    a = 2 * host(flow.accumulated(1e-9))[:, 0]
    np.testing.assert_allclose(a, [2e-9, 1000 + np.log(1e-9), 1e-9], rtol=1e-8)
    np.testing.assert_allclose(host(flow.probabilities(1e-9))[1], [1e-9, 1 - 1e-9], rtol=1e-8)
    assert 2 * host(flow.accumulated(1e3))[2, 0] == pytest.approx(1e3)
    single = rn.CrossEntropyFlow(on(np.zeros((3, 2), np.float32)), on(np.eye(2, dtype=np.float32)[[0, 1, 0]]), 0.1)
    cross = on(np.eye(3, dtype=np.float32))
    arrays = [single.accumulated(2), single.probabilities(np.float64(2)), single.predict(cross, single.f0, 1)]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.ones((3, 2))}, "y is not one-hot"),
        ({"y": np.eye(3)}, r"y is .* \(3, 3\); expected an array .* \(3, 2\)"),
        ({"eta": -1.0}, "eta is -1.0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"t": -1}, "t is -1"),
        ({"t": np.inf}, "t is inf"),
        ({"cross": np.ones((3, 4))}, r"cross is .* \(3, 4\); expected"),
        ({"f0_test": np.ones((3, 3))}, r"f0 is .* \(3, 3\); expected"),
    ],
)
def test_what_the_flow_does_not_take_is_refused(change, message):
    a = {"f0": np.zeros((3, 2)), "y": np.eye(2)[[0, 1, 0]], "eta": 0.1, "alpha": 1.0, "t": 1.0}
    a |= {"cross": np.eye(3), "f0_test": np.zeros((3, 2))} | change
    a = {key: on(v) if isinstance(v, np.ndarray) else v for key, v in a.items()}
    with pytest.raises(ValueError, match=message):
        rn.CrossEntropyFlow(a["f0"], a["y"], a["eta"], a["alpha"]).predict(a["cross"], a["f0_test"], a["t"])


@pytest.mark.parametrize("loss", [rn.mse, rn.cross_entropy], ids=["mse", "cross-entropy"])
def test_the_rate_of_the_linearised_training_is_checked_and_does_not_promote(loss):
    p, y = classification(dtype=np.float32)
    training = rn.linearized_training([p.s, p.test], y, rn.BlockDiagonal(), np.float64(0.1), np.float64(0.0), loss=loss)
    for outputs in islice(training, 4):
        assert {f.dtype for f in outputs} == {np.dtype(np.float32)}
    for eta in (-1, 0.0, np.nan):
        with pytest.raises(ValueError, match="eta is"):
            next(rn.linearized_training([p.s], y, rn.BlockDiagonal(), eta, loss=loss))
