"""THEORY 1: signals, Jacobian, and the order of everything."""

import pickle

import mpmath
import numpy as np
import pytest
from support import ACTIVATIONS, assert_close, generator, host, on, problem

import refngd as rn

EVERY_NETWORK = [
    pytest.param(widths, sigma_b, parameterization, id=f"{widths}-{sigma_b}-{parameterization}")
    for widths in ((3, 1), (4, 3, 2), (3, 5, 4, 3), (2, 3, 3, 3, 3, 1))
    for sigma_b in (0.0, 0.7)
    for parameterization in ("ntk", "standard")
]


def literal_forward(net, W, x):
    """K&O (1), sample by sample and unit by unit."""
    outputs = []
    for row in x:
        phi = list(row)
        for l, w in enumerate(W):
            M = net.widths[l]
            u = []
            for i in range(net.widths[l + 1]):
                weights = sum(w[i, j] * phi[j] for j in range(M))
                bias = w[i, M] if net.sigma_b else 0.0
                if net.parameterization == "ntk":
                    weights, bias = net.sigma_w / M**0.5 * weights, net.sigma_b * bias
                u.append(weights + bias)
            phi = host(net.activation.phi(on(np.array(u))))
        outputs.append(u)
    return np.array(outputs)


def difference_jacobian(net, W, x, h=1e-5):
    """d f / d theta by central differences, (N*C, P) in the order of THEORY 1."""
    theta = host(rn.flatten(W))
    columns = []
    for p in range(len(theta)):
        step = np.zeros_like(theta)
        step[p] = h
        up, down = (host(net.forward(rn.unflatten(net, on(theta + d)), x)) for d in (step, -step))
        columns.append((up - down).ravel() / (2 * h))
    return np.array(columns).T


@pytest.mark.parametrize(("widths", "sigma_b", "parameterization"), EVERY_NETWORK)
def test_forward_is_equation_1(widths, sigma_b, parameterization):
    p = problem(widths, rn.tanh, sigma_b, parameterization=parameterization)
    assert_close(p.s.f, literal_forward(p.net, host(p.W), host(p.x)))
    assert_close(p.net.forward(p.W, p.x), host(p.s.f))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize(("widths", "sigma_b", "parameterization"), EVERY_NETWORK)
def test_jacobian_is_the_derivative(widths, sigma_b, parameterization, activation):
    p = problem(widths, activation, sigma_b, N=2, parameterization=parameterization)
    np.testing.assert_allclose(p.J, difference_jacobian(p.net, p.W, p.x), rtol=0, atol=2e-8 * abs(p.J).max())


def test_theta_is_layer_major_then_row_major_and_outputs_are_sample_major():
    p = problem((3, 4, 2), sigma_b=0.5)
    h, delta = host(p.s.h), host(p.s.delta)
    J, P_1 = p.J, 4 * (3 + 1)
    n, c, i, j = 2, 1, 3, 3  # j = 3 is the bias of the first layer
    assert J[n * 2 + c, i * 4 + j] == delta[0][n, c, i] * h[0][n, j]
    assert h[0][n, 3] == 0.5
    i, j = 1, 2
    assert J[n * 2 + c, P_1 + i * 5 + j] == delta[1][n, c, i] * h[1][n, j]
    assert_close(rn.flatten(p.W), np.concatenate([w.ravel() for w in host(p.W)]))


@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_bias_exists_if_and_only_if_sigma_b_is_positive(sigma_b):
    net = rn.Network((3, 4, 2), sigma_b=sigma_b)
    extra = int(sigma_b > 0)
    assert net.shapes == [(4, 3 + extra), (2, 4 + extra)]
    assert [w.shape for w in net.init(0)] == net.shapes


def test_the_last_delta_is_the_identity():
    p = problem((3, 4, 3))
    assert (host(p.s.delta[-1]) == np.eye(3)).all()


@pytest.mark.parametrize(("widths", "sigma_b", "parameterization"), EVERY_NETWORK)
def test_push_and_pull_are_the_products_with_the_explicit_jacobian(widths, sigma_b, parameterization):
    p = problem(widths, rn.relu, sigma_b, parameterization=parameterization)
    J, dtheta, v = p.J, generator(1).standard_normal(p.J.shape[1]), host(p.e)
    assert_close(rn.push(p.s, rn.unflatten(p.net, on(dtheta))), (J @ dtheta).reshape(v.shape))
    assert_close(rn.flatten(rn.pull(p.s, p.e)), J.T @ v.ravel())


def test_unflatten_inverts_flatten():
    p = problem((3, 4, 2), sigma_b=0.5)
    for w, same in zip(host(p.W), host(rn.unflatten(p.net, rn.flatten(p.W))), strict=True):
        assert (w == same).all()


@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_both_parameterizations_are_the_same_function_of_rescaled_weights(sigma_b):
    ntk = problem((3, 6, 5, 2), rn.erf, sigma_b)
    standard = rn.Network(ntk.net.widths, rn.erf, 2**0.5, sigma_b, "standard")
    W = []
    for w, M in zip(host(ntk.W), ntk.net.widths, strict=False):
        W.append(np.concatenate([w[:, :M] * (2 / M) ** 0.5, w[:, M:] * sigma_b], axis=1))
    assert_close(standard.forward(on(W), ntk.x), ntk.s.f)


def test_initial_weights_are_one_standard_normal_draw_a_layer():
    net, rng = rn.Network((3, 5, 2), sigma_b=0.5), generator(7)
    for w, expected in zip(net.init(7), [rng.standard_normal(shape) for shape in net.shapes], strict=True):
        assert (w == expected).all()
    for w, w32 in zip(net.init(generator(7)), net.init(7, np.float32), strict=True):
        assert w32.dtype == np.float32
        assert (w.astype(np.float32) == w32).all()


def test_standard_weights_have_the_variances_of_the_docstring():
    W = rn.Network((200, 300, 2), sigma_w=1.5, sigma_b=0.3, parameterization="standard").init(0)
    assert W[0][:, :-1].std() == pytest.approx(1.5 / 200**0.5, rel=0.02)
    assert W[0][:, -1].std() == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize(("dtype", "gain"), [(np.float64, 1e-6), (np.float32, 3.0), (np.float64, 1e-200)])
def test_semi_orthogonal_weights_have_the_gain_as_their_only_singular_value(sigma_b, parameterization, dtype, gain):
    """Wide, square and tall; the last column is the bias, 0."""
    net = rn.Network((4, 7, 7, 2), sigma_w=1.5, sigma_b=sigma_b, parameterization=parameterization)
    W = net.semi_orthogonal(0, gain, dtype)
    assert [w.shape for w in W] == net.shapes
    for w, M in zip(W, net.widths, strict=False):
        assert w.dtype == dtype
        assert not w[:, M:].any()
        s = np.linalg.svd(w[:, :M].astype(float), compute_uv=False) / gain
        np.testing.assert_allclose(s, 1, rtol=30 * float(np.finfo(dtype).eps))


def test_semi_orthogonal_weights_are_drawn_once_and_scaled():
    net, small = rn.Network((4, 6, 2)), 2.0**-20
    drawn = net.semi_orthogonal(3), net.semi_orthogonal(generator(3), small), net.semi_orthogonal(3, dtype=np.float32)
    for w, w_small, w32 in zip(*drawn, strict=True):
        assert (w * small == w_small).all()
        assert (w.astype(np.float32) == w32).all()


@pytest.mark.parametrize("widths", [(3, 3), (2, 5), (5, 2)], ids=str)
def test_semi_orthogonal_weights_are_uniform(widths):
    """Haar: entries have mean 0 and variance 1 / max(m, n), rotated or not. QR alone has W_11 < 0 always."""
    net, rng, draws = rn.Network(widths), generator(1), 4000
    W = np.array([net.semi_orthogonal(rng)[0] for _ in range(draws)])
    n = max(widths)
    np.testing.assert_allclose(W.mean(0), 0, atol=5 / (n * draws) ** 0.5)
    np.testing.assert_allclose((W**2).mean(0), 1 / n, atol=5 / draws**0.5 / n)
    rotated = W @ np.linalg.qr(rng.standard_normal((widths[0], widths[0])))[0]  # as uniform as before
    np.testing.assert_allclose((rotated**2).mean(0), 1 / n, atol=5 / draws**0.5 / n)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("q", [0.1, 1.0, 2.5])
def test_gaussian_averages_of_the_activations(activation, q):
    """mean_square and gamma against a sum over the quantiles of u ~ N(0, q)."""
    from scipy.stats import norm

    u = q**0.5 * norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    phi, derivative = host(activation.phi(on(u))), host(activation.derivative(on(u)))
    assert activation.mean_square(q) == pytest.approx((phi**2).mean(), rel=2e-4)
    assert activation.gamma(q) == pytest.approx((derivative != 0).mean(), abs=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_networks_compare_hash_and_pickle_by_value(activation):
    net = rn.Network((3, 4, 1), activation, 1.5, 0.3)
    assert pickle.loads(pickle.dumps(net)) == net == rn.Network([3, 4, 1], activation, np.float64(1.5), 0.3)
    assert hash(pickle.loads(pickle.dumps(net))) == hash(net)
    assert rn.shifted_relu(0) == rn.relu != rn.shifted_relu(0.6)


def test_derivative_of_tanh_does_not_cancel_where_units_saturate():
    u = np.array([0.0, 1.0, -20.0, 30.0, 300.0, -300.0])
    with mpmath.workdps(50):
        exact = [float(mpmath.sech(v) ** 2) for v in u]
    np.testing.assert_allclose(host(rn.tanh.derivative(on(u))), exact, rtol=1e-14)


def test_shifted_relu_keeps_the_kink_at_minus_s():
    phi = rn.shifted_relu(0.5)
    u = on(np.array([-2.0, -0.5, -0.25, 0.0, 3.0]))
    assert host(phi.phi(u)).tolist() == [-0.5, -0.5, -0.25, 0.0, 3.0]
    assert host(phi.derivative(u)).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    phi, u = rn.shifted_relu(-0.5), on(np.array([-2.0, 0.0, 0.25, 0.5, 3.0]))
    assert host(phi.phi(u)).tolist() == [0.5, 0.5, 0.5, 0.5, 3.0]
    assert host(phi.derivative(u)).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert host(rn.relu.derivative(on(np.zeros(1)))).tolist() == [0.0]
