"""THEORY 7, the cross-entropy: whitened signals hand every approximation the Fisher matrix of section D."""

from itertools import islice

import numpy as np
import pytest
from support import FISHERS, assert_close, generator, host, on, problem, relative

import refngd as rn
from refngd import datasets
from refngd.experiments import compare

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
    s = rn.Signals(on(f), p.s.h, p.s.delta, p.s.bias)
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
    with pytest.raises(ValueError, match="y is not one-hot with C = 3; expected one 1 in each row, else 0, and C >= 2"):
        rn.train(p.net, p.W, p.x, on(y), rn.Exact(), 0.1, 1, loss=rn.cross_entropy)


def test_bad_arguments():
    p = problem((6, 9, 1))
    with pytest.raises(ValueError, match="y is not one-hot with C = 1"):
        rn.train(p.net, p.W, p.x, on(np.ones((4, 1))), rn.Exact(), 0.1, 1, loss=rn.cross_entropy)
    with pytest.raises(ValueError, match="rho is -1; expected a finite number >= 0"):
        rn.CrossEntropy(-1)
    with pytest.raises(ValueError, match=r"loss is 'mse'; expected a Loss such as refngd\.mse"):
        rn.train(p.net, p.W, p.x, p.e, rn.Exact(), 0.1, 1, loss="mse")
    with pytest.raises(FloatingPointError, match="the linearised training diverges"):
        list(islice(rn.linearized_training([p.s], p.e, rn.Identity(), 1e200), 5))
