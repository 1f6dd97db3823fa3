"""THEORY 6: kernels at infinite width against independent quadrature and wide networks, and predictions from them."""

import math
import re
from itertools import pairwise, product

import numpy as np
import pytest
from mpmath import mp
from scipy.integrate import quad
from scipy.stats import norm
from support import ACTIVATIONS, FISHERS_AT_INFINITE_WIDTH, generator, host, on, relative
from test_section_6_duals import CLOSED

import refngd as rn
from refngd import activations

SMOOTH = [rn.tanh, rn.erf, rn.linear]
KINKED = [rn.relu, rn.shifted_relu(0.6), rn.shifted_relu(-0.7), rn.shifted_relu(2.0)]
SCALES = [(1.0, 1.0), (0.7, 1.6), (2.2, 2.2), (1.5, 0.2)]


class Softplus(activations.Smooth):
    """A user's own activation."""

    def phi(self, u):
        return np.logaddexp(0, u)

    def derivative(self, u):
        return 1 / (1 + np.exp(-u))


def dual(activation, r, a, b):
    """(A, Xi) for floats."""
    features = (on(activation.features(np.array([scale]))) for scale in (a, b))
    return tuple(float(host(k)[0, 0]) for k in activation.dual(on(np.array([[r]])), *features))


def trapezoid(activation, r, a, b):
    """E[phi(u) phi(v)], E[phi'(u) phi'(v)] of a smooth activation by a two-dimensional trapezoid rule."""
    z, step = np.linspace(-12, 12, 1201, retstep=True)
    u, v = a * z[:, None], b * (r * z[:, None] + math.sqrt(1 - r * r) * z)
    weight = norm.pdf(z) * step
    return [weight @ (f(u) * f(v)) @ weight for f in (activation.phi, activation.derivative)]


def split_at_the_kink(activation, r, a, b):
    """The same for a shifted ReLU: v given u is Gaussian, and the integral over u is cut at the kink."""
    s, width = activation.s, b * math.sqrt(1 - r * r)

    def above(u):  # E[(v + s)_+ | u], P(v > -s | u)
        m = b * r * u / a + s
        return (
            (m * norm.cdf(m / width) + width * norm.pdf(m / width), norm.cdf(m / width))
            if width
            else (max(m, 0), m > 0)
        )

    points = dict(epsabs=1e-13, epsrel=1e-13, limit=400)
    cuts = sorted({-14 * a, *(c for c in (-s, -s * a / (b * r) if r else -s) if abs(c) < 14 * a), 14 * a})

    def integrate(f):
        return sum(quad(lambda u: f(u) * norm.pdf(u / a) / a, *ends, **points)[0] for ends in pairwise(cuts))

    return integrate(lambda u: max(u, -s) * (above(u)[0] - s)), integrate(lambda u: (u > -s) * above(u)[1])


@pytest.mark.parametrize(("a", "b"), SCALES)
@pytest.mark.parametrize("r", [-0.95, -0.3, 0.0, 0.3, 0.999])
def test_duals_of_smooth_activations_are_the_gaussian_averages(r, a, b):
    for activation in [*SMOOTH, Softplus()]:
        np.testing.assert_allclose(dual(activation, r, a, b), trapezoid(activation, r, a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("activation", KINKED, ids=str)
@pytest.mark.parametrize(("a", "b"), SCALES)
@pytest.mark.parametrize("r", [-0.95, -0.3, 0.3, 0.99])
def test_duals_of_shifted_relu_are_the_gaussian_averages(activation, r, a, b):
    np.testing.assert_allclose(
        dual_on_the_host(activation, r, a, b), split_at_the_kink(activation, r, a, b), atol=2e-12
    )


def dual_on_the_host(activation, r, a, b):
    """`dual` for floats with NumPy arrays, since Owen's T function is SciPy's."""
    features = (activation.features(np.array([scale])) for scale in (a, b))
    return [float(k[0, 0]) for k in activation.dual(np.array([[r]]), *features)]


@pytest.mark.parametrize("activation", [*SMOOTH, *KINKED], ids=str)
@pytest.mark.parametrize("a", [0.2, 1.0, 2.2])
def test_duals_at_full_correlation_are_the_one_sample_averages(activation, a):
    A, Xi = dual_on_the_host(activation, 1.0, a, a)
    np.testing.assert_allclose(A, activation.mean_square(a * a), rtol=1e-12)
    derivative = {"linear": 1.0, "erf": 4 / math.pi / math.sqrt(1 + 4 * a * a)}
    if isinstance(activation, activations.ShiftedReLU):
        assert Xi == pytest.approx(activation.gamma(a * a), rel=1e-13)
    elif str(activation) in derivative:
        assert Xi == pytest.approx(derivative[str(activation)], rel=1e-13)


@pytest.mark.parametrize("activation", KINKED[1:], ids=str)
def test_parallel_inputs_of_different_norms_have_the_limits_of_the_duals(activation):
    for r in (1.0, -1.0):
        near = dual_on_the_host(activation, r * (1 - 1e-12), 0.7, 1.6)
        np.testing.assert_allclose(dual_on_the_host(activation, r, 0.7, 1.6), near, atol=1e-5)


def test_closed_form_and_series_agree_for_erf():
    series = type("Series", (activations.Smooth,), {"phi": rn.erf.phi, "derivative": rn.erf.derivative})()
    for r, (a, b) in zip((-0.5, 0.2, 1.0, 0.9), SCALES, strict=True):
        np.testing.assert_allclose(dual_on_the_host(series, r, a, b), dual_on_the_host(rn.erf, r, a, b), rtol=1e-12)


def test_a_series_that_does_not_converge_is_refused():
    kinked = type("Kinked", (activations.Smooth,), {"phi": rn.relu.phi, "derivative": rn.relu.derivative})()
    with pytest.raises(ArithmeticError, match=r"2000 polynomials do not resolve kinked\(a z\) for a = 1: a kink"):
        kinked.features(np.ones(1))


def test_relu_kernels_have_the_golden_values():
    """THEORY 13.1 and 13.2."""
    np.testing.assert_allclose(dual(rn.relu, 0.3, 1.0, 1.0), (0.2413721419177438, 0.2984933420103392), rtol=1e-15)
    np.testing.assert_allclose(dual(rn.erf, 0.3, 1.0, 1.0), (0.12818843369795, 0.43316488957426), rtol=3e-14)
    net, x = rn.Network((4, 9, 9, 1), rn.relu, 2**0.5, 0.5**0.5), on(np.array([[1.0, 0, 0, 0], [0.3, 0.91**0.5, 0, 0]]))
    Theta = [2 * host(T) for T in rn.analytic_kernels(net, x, x).Theta]
    np.testing.assert_allclose(
        [T[0, 1] for T in Theta], [0.37708092925126, 0.97053480791767, 1.75128263485490], rtol=3e-14
    )
    np.testing.assert_allclose(np.diag(sum(Theta)), 4.5, rtol=1e-15)
    assert rn.order_parameters(net)[:2] == pytest.approx([1, 1.5], rel=1e-15)


def inputs(seed=0, unit=False, N=5, N_test=3, M_0=10):
    rng = generator(seed)
    x, x_test = rng.standard_normal((N, M_0)), rng.standard_normal((N_test, M_0))
    scale = [np.linalg.norm(v, axis=1, keepdims=True) if unit else 1 for v in (x, x_test)]
    return x / scale[0], x_test / scale[1]


@pytest.mark.long
@pytest.mark.parametrize("unit", [True, False], ids=["unit norm", "any norm"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_wide_networks_approach_the_analytic_kernels(activation, unit):
    """Every A_l and B_l, train and test, within M^-1/2, and half of the error at four times the width."""
    x, x_test = inputs(unit=unit)
    errors = []
    for M in (500, 2000):
        net, squares = rn.Network((10, M, M, M, 1), activation, 1.3, 0.4), []
        for seed in range(4):
            W = on(net.init(seed))
            s, test = net.signals(W, on(x)), net.signals(W, on(x_test))
            for pair, arrays in (((test, s), (x_test, x)), ((s, s), (x, x))):
                finite, limit = rn.empirical_kernels(*pair), rn.analytic_kernels(net, *arrays)
                kernels = zip(finite.A + finite.B, limit.A + limit.B, strict=True)
                squares.append([relative(K, K_limit) ** 2 for K, K_limit in kernels])
        errors.append(np.sqrt(np.mean(squares)))
        assert errors[-1] < 4 / M**0.5
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("C", [1, 2])
def test_outputs_decouple_at_infinite_width(C):
    x, _ = inputs()
    net = rn.Network((10, 4000, 4000, C), rn.relu)
    s = net.signals(on(net.init(0)), on(x))
    limit = np.kron(host(rn.analytic_ntk(net, on(x), on(x))), np.eye(C))
    assert relative(rn.ntk(s, s), limit) < 0.1


@pytest.mark.parametrize("unit", [True, False], ids=["unit norm", "any norm"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("L", [1, 2, 4])
def test_ntk_in_blocks_is_the_sum_of_the_kernels(activation, L, unit, monkeypatch):
    x, x_test = inputs(unit=unit, N=13)
    net = rn.Network((10, *[9] * (L - 1), 1), activation, 1.3, 0.4)
    whole = [rn.analytic_kernels(net, *pair) for pair in ((x, x), (x_test, x))]
    monkeypatch.setattr(
        "refngd.kernels.batches", lambda like, n, each, limit: [slice(i, min(i + 2, n)) for i in range(0, n, 2)]
    )
    for kernels, pair in zip(whole, ((x, x), (x_test, x)), strict=True):
        np.testing.assert_allclose(rn.analytic_ntk(net, *pair), sum(kernels.Theta), rtol=1e-13, atol=1e-16)
    own = whole[0]
    assert all((K == K.T).all() for K in [*own.A, *own.B])
    copy = rn.analytic_kernels(net, x.copy(), x)
    for K, K_copy in zip([*own.A, *own.B], [*copy.A, *copy.B], strict=True):
        np.testing.assert_allclose(K, K_copy, rtol=1e-12, atol=1e-15)
    for l, q in enumerate(np.transpose([rn.order_parameters(net, size) for size in np.linalg.norm(x, axis=1)])):
        np.testing.assert_allclose(np.diag(own.A[l]), q, rtol=1e-12)


COUPLED = (rn.BlockTridiagonal, rn.Layerwise)  # no power, and 0.5 lies among its negative eigenvalues


@pytest.mark.long
@pytest.mark.parametrize(
    ("fisher", "rho", "q"),
    [
        pytest.param(fisher, rho, q, id=f"{fisher}-{rho}-{q}")
        for fisher in FISHERS_AT_INFINITE_WIDTH
        for rho, q in [(0.0, 1), (0.5, 1), (0.01, 2), (0.01, math.inf)]
        if not isinstance(fisher, COUPLED) or (rho, q) in [(0.0, 1), (0.01, math.inf)]
    ],
)
@pytest.mark.parametrize("C", [1, 2])
def test_coefficients_of_wide_networks_approach_those_of_the_analytic_kernels(fisher, rho, q, C):
    x, x_test = (on(v) for v in inputs(unit=True, M_0=30))
    errors = []
    for M in (150, 1200):
        net, squares = rn.Network((30, M, M, C), rn.tanh, 1.3, 0.4), []
        for seed in range(3):
            W = on(net.init(seed))
            s, test = net.signals(W, x), net.signals(W, x_test)
            cross, own = rn.analytic_kernels(net, x_test, x), rn.analytic_kernels(net, x, x)
            limit = np.kron(host(fisher.kernel_coefficient(cross, own, rho, q)), np.eye(C))
            squares.append(relative(fisher.coefficient(test, s, rho, q), limit) ** 2)
        errors.append(np.sqrt(np.mean(squares)))
    assert errors[1] < 0.6 * errors[0]


def test_kernel_coefficient_checks_the_power_as_coefficient_does():
    x, _ = inputs()
    net = rn.Network((10, 20, 20, 1), rn.tanh)
    k = rn.analytic_kernels(net, x, x)
    with pytest.raises(ValueError, match="q is 2; expected 1 or inf"):
        rn.BlockTridiagonal().kernel_coefficient(k, k, 0.1, 2)
    np.testing.assert_allclose(rn.BlockTridiagonal().kernel_coefficient(k, k, 0.1, math.inf), sum(k.Theta))


@pytest.mark.parametrize("fisher", [rn.Exact(), rn.BlockDiagonal(), rn.BlockTridiagonal(), rn.KFAC()], ids=str)
def test_isotropy_holds_at_infinite_width(fisher):
    x, _ = inputs(unit=True, M_0=30)
    net = rn.Network((30, 5000, 5000, 1), rn.relu)
    k = rn.analytic_kernels(net, x, x)
    np.testing.assert_allclose(fisher.kernel_coefficient(k, k), fisher.alpha(net, 5) * np.eye(5), atol=1e-9)


def test_predictions_for_all_outputs_from_one_kernel_are_those_of_the_full_one():
    rng, (x, x_test) = generator(1), inputs()
    net = rn.Network((10, 50, 50, 3), rn.tanh, 1.3, 0.4)
    K, cross = host(rn.analytic_ntk(net, on(x), on(x))), host(rn.analytic_ntk(net, on(x_test), on(x)))
    f0, y, f0_test = (rng.standard_normal(shape) for shape in ((5, 3), (5, 3), (3, 3)))
    eta = rn.optimal_rate(on(K))
    one = rn.Dynamics(on(K), on(f0), on(y), eta)
    all_outputs = rn.Dynamics(on(np.kron(K, np.eye(3))), on(f0), on(y), eta)
    for t in (0, 1, 10, math.inf):
        desired = host(all_outputs.predict(on(np.kron(cross, np.eye(3))), on(f0_test), t))
        np.testing.assert_allclose(host(one.predict(on(cross), on(f0_test), t)), desired, rtol=1e-8)


@pytest.mark.long
def test_predictions_of_wide_networks_approach_those_at_infinite_width():
    """The error falls as M^-1/2, given the f_0 of each network."""
    x, x_test = (on(v) for v in inputs(unit=True, M_0=30))
    y, errors = on(generator(2).standard_normal((5, 1))), []
    for M in (200, 1600):
        net, squares = rn.Network((30, M, M, 1), rn.relu), []
        for seed in range(5):
            W = on(net.init(seed))
            *_, last = rn.train(net, W, x, y, rn.BlockDiagonal(), 0.2, 10)
            cross, own = rn.analytic_kernels(net, x_test, x), rn.analytic_kernels(net, x, x)
            Theta_bar, Theta_bar_test = (rn.BlockDiagonal().kernel_coefficient(k, own) for k in (own, cross))
            theory = rn.Dynamics(Theta_bar, net.forward(W, x), y, 0.2)
            squares.append(
                relative(net.forward(last.W, x_test), theory.predict(Theta_bar_test, net.forward(W, x_test), 10)) ** 2
            )
        errors.append(np.sqrt(np.mean(squares)))
    assert errors[1] < 0.6 * errors[0]


def test_float32_kernels_stay_float32():
    x, x_test = (on(v.astype(np.float32)) for v in inputs())
    for activation in (rn.relu, rn.tanh, rn.erf, rn.linear):
        net = rn.Network((10, 20, 20, 1), activation, np.float64(1.3), np.float64(0.4))
        k = rn.analytic_kernels(net, x_test, x)
        assert {K.dtype for K in [*k.A, *k.B, rn.analytic_ntk(net, x, x)]} == {np.dtype(np.float32)}
        double = rn.analytic_ntk(net, *(on(host(v).astype(float)) for v in (x_test, x)))
        assert relative(rn.analytic_ntk(net, x_test, x), double) < 1e-5


@pytest.mark.parametrize("call", [rn.analytic_kernels, rn.analytic_ntk])
def test_duplicate_samples_are_named_and_their_targets_averaged(call):
    x, x_test = inputs(unit=True)
    net, y = rn.Network((10, 20, 1), rn.relu), generator(3).standard_normal((5, 1))
    x[4] = x[1]
    with pytest.warns(RuntimeWarning, match="samples 1 and 4 are duplicates, or nearly so: the kernels are singular"):
        call(net, x, x)
    with pytest.warns(RuntimeWarning, match="samples 1 and 4 are duplicates"):
        Theta = rn.analytic_ntk(net, x, x)
    dynamics = rn.Dynamics(Theta, 0 * y, y, rn.optimal_rate(Theta))
    with pytest.warns(RuntimeWarning, match="eigenvalues of Theta_bar count as zero in directions that hold"):
        f = dynamics.predict(Theta, 0 * y, math.inf)
    np.testing.assert_allclose(f[[1, 4], 0], y[[1, 4], 0].mean(), rtol=1e-9)
    call(net, x_test, x)  # in silence


@pytest.mark.filterwarnings("ignore:samples .* are duplicates")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("unit", [True, False], ids=["unit norm", "any norm"])
@pytest.mark.parametrize("fisher", [rn.Exact(), rn.BlockDiagonal(), rn.KFAC()], ids=str)
def test_every_duplicate_takes_one_from_the_rank(fisher, unit, dtype):
    x, _ = inputs(unit=unit, N=40, M_0=100)
    x = np.concatenate([x, x[:10]]).astype(dtype)
    net = rn.Network((100, 20, 20, 1), rn.relu)
    k = rn.analytic_kernels(net, x, x)
    w = rn.isotropy(fisher.kernel_coefficient(k, k)).eigenvalues
    assert (abs(w) < 1e-3 * w[-1]).sum() == 10
    np.testing.assert_allclose(rn.analytic_ntk(net, x.copy(), x), rn.analytic_ntk(net, x, x), rtol=3e-6)


def test_a_quadrature_that_does_not_resolve_phi_says_so():
    class Steep(Softplus):
        def phi(self, u):
            return np.tanh(60 * u)

    with pytest.raises(ArithmeticError, match=r"1281 points do not resolve steep\(a z\) for a = 2"):
        Steep().mean_square(4.0)


def test_bad_input_to_the_analytic_kernels():
    x, x_test = inputs()
    net = rn.Network((10, 20, 1), rn.relu)
    zero = x.copy()
    zero[2] = 0
    for call in (rn.analytic_kernels, rn.analytic_ntk):
        with pytest.raises(ValueError, match="sample 2 of x is zero; expected inputs of positive norm"):
            call(net, x_test, zero)
        with pytest.raises(ValueError, match=r"test is .* \(.*, 9\); expected an array of .* \(N', 10\)"):
            call(net, x[:, :9], x)
        with pytest.raises(
            ValueError, match="parameterization is 'standard'; expected 'ntk': the other has no wide limit"
        ):
            call(rn.Network((10, 20, 1), parameterization="standard"), x, x)
        with pytest.raises(ValueError, match=r"test is .* float32 .*; expected an array of .* float64"):
            call(net, x_test.astype(np.float32), x)
    many = np.broadcast_to(x[:1], (10**7, 10))
    with pytest.raises(MemoryError, match=r"kernels .* would take .* GiB"):
        rn.analytic_ntk(net, many, many)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_opposite_inputs_share_no_live_unit_of_relu(dtype):
    """r = -1: E[phi' phi'] = 0, not the root of a rounding error."""
    net, x = rn.Network((3, 4, 1), rn.relu), generator(5).standard_normal((6, 3)).astype(dtype)
    kernels = rn.analytic_kernels(net, on(-x), on(x))
    assert (host(kernels.B[0]).diagonal() == 0).all()
    np.testing.assert_allclose(host(kernels.A[1]).diagonal(), 0, atol=1e-6 * np.finfo(dtype).eps ** 0.5)


# ------------------------------------------------------------------------------------------------------ at the edges


def exact_kernels(net, x, y):
    """Q_l, B_l between x and y, and what they are allowed to be off by: (q_l(x) q_l(y))^{1/2}, and likewise of B."""
    with mp.workdps(60):
        x, y = ([mp.mpf(float(v)) for v in z] for z in (x, y))
        return _exact_kernels(net, *(mp.fdot(u, v) / len(x) for u, v in ((x, x), (y, y), (x, y))))


def _exact_kernels(net, *m):
    Q, Xi, L = [], [], len(net.shapes)
    for l in range(1, L + 1):
        Q.append([mp.mpf(net.sigma_w) ** 2 * v + mp.mpf(net.sigma_b) ** 2 for v in m])
        if l < L:
            a, b = mp.sqrt(Q[-1][0]), mp.sqrt(Q[-1][1])
            r = min(max(Q[-1][2] / (a * b), mp.mpf(-1)), mp.mpf(1))
            m, slopes = zip(*(CLOSED[net.activation](*of) for of in ((1, a, a), (1, b, b), (r, a, b))), strict=True)
            Xi.append(slopes)
    B = [[mp.mpf(1)] * 3]
    for slopes in reversed(Xi):
        B.insert(0, [mp.mpf(net.sigma_w) ** 2 * s * v for s, v in zip(slopes, B[0], strict=True)])
    return [(v, mp.sqrt(p * q)) for kernels in (Q, B) for p, q, v in kernels]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sigma_b", [0.0, 0.3, 3.0])
@pytest.mark.parametrize(("activation", "sigma_w"), [(rn.relu, 1.4), (rn.erf, 1.4), (rn.erf, 30.0)], ids=str)
def test_kernels_of_samples_at_any_angle_are_right_to_rounding(activation, sigma_w, sigma_b, dtype):
    """Angles down to 1e-13 from 0 and pi, norms that differ and that do not: 1 - r is lost where r is rounded."""
    rng, u = generator(7), np.finfo(dtype).eps
    for L, exponent, opposite, ratio in product((2, 4), (0, -2, -4, -8, -13), (1, -1), (1.0, 1.0001, 1.5)):
        x, away = rng.standard_normal((2, 5))
        away -= x * (away @ x) / (x @ x)
        away *= np.linalg.norm(x) / np.linalg.norm(away)
        y = ratio * opposite * (x * math.cos(10.0**exponent) + away * math.sin(10.0**exponent))
        x, y = x.astype(dtype), y.astype(dtype)
        net = rn.Network((5, *[3] * (L - 1), 1), activation, sigma_w, sigma_b)
        kernels = rn.analytic_kernels(net, on(x[None]), on(y[None]))
        for K, (exact, size) in zip([*kernels.A, *kernels.B], exact_kernels(net, x, y), strict=True):
            assert abs(float(host(K)[0, 0]) - exact) <= 100 * u * size


@pytest.mark.parametrize("activation", [rn.shifted_relu(0.5), rn.shifted_relu(-0.5)], ids=str)
@pytest.mark.parametrize("ratio", [1.0, 1.0001])
def test_kernels_of_shifted_relu_have_the_kink_of_nearly_parallel_samples(activation, ratio):
    """(Xi(x, x) + Xi(y, y)) / 2 - Xi(x, y) is 1 / (2 pi) e^{-k^2 / 2} of the angle: in float32 as in float64."""
    x = np.array([[1.0, 0.0], [math.cos(1e-3), math.sin(1e-3)]])
    x[1] *= ratio
    net = rn.Network((2, 8, 8, 8, 1), activation, 1.4, 0.3)
    double, single = (rn.analytic_kernels(net, on(x.astype(t)), on(x.astype(t))) for t in (np.float64, np.float32))
    for K, K32 in zip(host([*double.A, *double.B]), host([*single.A, *single.B]), strict=True):
        gap, gap32 = ((k[0, 0].astype(float) + k[1, 1]) / 2 - k[0, 1] for k in (K, K32))
        assert abs(gap - gap32) < 20 * np.finfo(np.float32).eps * K[0, 0]


@pytest.mark.parametrize("sigma_b", [0.1, 1.0])
@pytest.mark.parametrize("L", [2, 3])
def test_a_fine_grid_in_one_dimension_loses_nothing_in_float32(L, sigma_b):
    grid = np.linspace(-1, 1, 400)[:, None].astype(np.float32)
    net = rn.Network((1, *[8] * (L - 1), 1), rn.relu, 2**0.5, sigma_b)
    K, K32 = (host(rn.analytic_ntk(net, x, x)) for x in (on(grid.astype(float)), on(grid)))
    size = np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    assert (abs(K32 - K) <= 20 * np.finfo(np.float32).eps * size).all()


def test_the_kernels_that_were_once_wrong():
    one = rn.Network((1, 8, 1), rn.erf, sigma_w=1.0)

    def ntk(net, value, dtype=np.float64):
        x = on(np.array([[value]], dtype))
        return float(host(rn.analytic_ntk(net, x, x))[0, 0])

    assert ntk(one, 1e8) == pytest.approx(63661978.2367581, rel=1e-14)
    assert ntk(one, 1e4, np.float32) == pytest.approx(6367.19765, rel=1e-6)
    for s in (1.0, 5.0):
        shifted = rn.Network((1, 8, 1), rn.shifted_relu(s), sigma_w=1.0)
        assert ntk(shifted, 1e-7) == pytest.approx(2e-14, rel=1e-14)
        assert ntk(shifted, 1e-8) == pytest.approx(2e-16, rel=1e-14)


@pytest.mark.parametrize("activation", [rn.shifted_relu(1.0), rn.shifted_relu(5.0), rn.shifted_relu(-0.02)], ids=str)
def test_float32_is_as_good_as_its_rounding_where_the_shift_is_large(activation):
    x, _ = inputs(unit=True, N=30, M_0=3072)
    net = rn.Network((3072, 8, 1), activation, 2**0.5)
    K, K32 = (host(rn.analytic_ntk(net, z, z)) for z in (on(x), on(x.astype(np.float32))))
    assert (abs(K32 - K) <= 20 * np.finfo(np.float32).eps * K.max()).all()


def test_pixels_as_they_come_are_as_good_in_float32():
    rng = generator(3)
    x = rng.integers(0, 256, (30, 784)) * (rng.random((30, 784)) < 0.2)
    net = rn.Network((784, 8, 1), rn.erf)
    K, K32 = (host(rn.analytic_ntk(net, z, z)) for z in (on(x.astype(float)), on(x.astype(np.float32))))
    np.testing.assert_allclose(K32, K, rtol=20 * np.finfo(np.float32).eps)


def outcome(call, net, x):
    """Theta or B_1, and None; or None and the message of the error."""
    try:
        K = call(net, x, x)
    except ArithmeticError as error:
        return None, str(error)
    return host(K if call is rn.analytic_ntk else K.B[0]), None


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_inputs_of_any_norm_are_right_or_refused_by_layer(dtype, activation):
    """Scaled by powers of two, which Theta of homogeneous activations follows, and B not."""
    x = np.array([[1.0, 0.5], [0.25, -1.0]], dtype)
    net, seen = rn.Network((2, 8, 8, 1), activation), set()
    for exponent in range(-1000, 1001, 25) if dtype == np.float64 else range(-120, 121, 5):
        scaled = on(np.ldexp(x, exponent))
        for call in (rn.analytic_kernels, rn.analytic_ntk):
            K, message = outcome(call, net, scaled)
            if message:
                out_of_range = re.search(r"(q|B|Theta)_\d.* leaves the range of float", message)
                assert out_of_range or (activation is rn.tanh and "do not resolve" in message)
                seen.add("out of range")
                continue
            seen.add("right")
            assert np.isfinite(K).all()
            if activation in (rn.relu, rn.linear):
                expected, power = outcome(call, net, on(x))[0], 2 * exponent * (call is rn.analytic_ntk)
                np.testing.assert_allclose(np.ldexp(K, -power), expected, rtol=5 * np.finfo(dtype).eps)
    assert seen == {"right", "out of range"}


def test_layers_that_leave_the_range_are_named():
    x = on(np.eye(2))
    with pytest.raises(FloatingPointError, match=r"q_3, the variance of layer 3 for sample 0, is 5e\+293 and leaves"):
        rn.analytic_ntk(rn.Network((2, 8, 8, 1), rn.linear, sigma_w=1e49), x, x)
    with pytest.raises(FloatingPointError, match=r"B_1\(x, x\) is .* and leaves the range of float64: rescale"):
        rn.analytic_kernels(rn.Network((2, 8, 8, 1), rn.linear, sigma_w=1e-80, sigma_b=1.0), x, x)
    rn.analytic_ntk(rn.Network((2, 8, 8, 1), rn.linear, sigma_w=1e-80, sigma_b=1.0), 1.0 * x, x)  # where Q_3 is all
    steep = rn.Network((2, 8, 8, 8, 1), rn.linear, sigma_w=1e60)
    with pytest.raises(FloatingPointError, match=r"B_1\(x, x\) is inf and leaves the range of float64: rescale"):
        rn.analytic_kernels(steep, 1e-100 * x, 1e-100 * x)
    assert float(host(rn.analytic_ntk(steep, 1e-100 * x, 1e-100 * x))[0, 0]) == pytest.approx(1e280, rel=1e-13)
    for size in (1e200, 1e-200, 0.0):
        with pytest.raises(FloatingPointError, match=r"q_1, the variance of layer 1, is (inf|0) and leaves the range"):
            rn.order_parameters(rn.Network((2, 8, 1)), size)


def test_products_of_inputs_may_leave_the_range_if_the_variances_do_not():
    x = np.array([[1.0, 0.5], [0.25, -1.0]])
    net = rn.Network((2, 8, 1), rn.linear, sigma_w=1e-10)
    K32, K = (host(rn.analytic_ntk(net, z, z)) for z in (on((1e20 * x).astype(np.float32)), on(1e20 * x)))
    np.testing.assert_allclose(K32, K, rtol=1e-6)


def test_zero_is_an_input_of_networks_with_bias():
    x = on(np.array([[0.0, 0.0], [1.0, 2.0]]))
    net = rn.Network((2, 8, 8, 1), rn.relu, 1.4, 0.3)
    for K in (rn.analytic_kernels(net, x, x).A[0], rn.analytic_kernels(net, x[:1], x).A[0]):
        np.testing.assert_allclose(host(K)[0], [0.09, 0.09], rtol=1e-14)
    near = on(np.array([[1e-9, -1e-9], [1.0, 2.0]]))
    np.testing.assert_allclose(host(rn.analytic_ntk(net, x, x)), host(rn.analytic_ntk(net, near, near)), rtol=1e-8)


@pytest.mark.parametrize("call", [rn.analytic_kernels, rn.analytic_ntk])
@pytest.mark.parametrize("activation", [rn.tanh, rn.erf, rn.linear], ids=str)
def test_opposite_samples_are_named_where_the_activation_is_odd(activation, call):
    x, x_test = inputs()
    x[3] = -2 * x[0] if activation is rn.linear else -x[0]
    x, x_test = on(x), on(x_test)
    with pytest.warns(RuntimeWarning, match="samples 0 and 3 are opposite, or nearly so: the kernels are singular"):
        call(rn.Network((10, 20, 20, 1), activation), x, x)
    call(rn.Network((10, 20, 20, 1), activation, 1.4, 0.5), x, x)  # in silence: the bias tells them apart
    call(rn.Network((10, 20, 20, 1), rn.relu), x, x)
    call(rn.Network((10, 20, 20, 1), activation), x_test, x)


@pytest.mark.parametrize("call", [rn.analytic_kernels, rn.analytic_ntk])
def test_too_many_opposite_pairs_are_named_under_relu(call):
    """K&O's Lemma B.1 fails: with M_0 = 2 and 3 pairs, the kernel is singular if L = 2."""
    half = generator(4).standard_normal((3, 2))
    x, net = on(np.concatenate([half, -half])), rn.Network((2, 8, 1), rn.relu)
    with pytest.warns(RuntimeWarning, match="more than 2 samples, of 2 inputs, come with their opposite"):
        K = call(net, x, x)
    if call is rn.analytic_ntk:
        w = np.linalg.eigvalsh(host(K))
        assert abs(w[0]) < 1e-14 * w[-1] < 1e-3 * w[1]
    for regular in (rn.Network((2, 8, 8, 1)), rn.Network((2, 8, 1), sigma_b=0.5)):
        w = np.linalg.eigvalsh(host(rn.analytic_ntk(regular, x, x)))  # in silence
        assert w[0] > 1e-4 * w[-1]
    fewer = x[:5]
    call(net, fewer, fewer)


def test_parallel_samples_of_different_norms_are_duplicates_under_relu_alone():
    x, _ = inputs(unit=True)
    x[2] = 1.5 * x[1]
    x = on(x)
    with pytest.warns(RuntimeWarning, match="samples 1 and 2 are duplicates"):
        rn.analytic_ntk(rn.Network((10, 20, 1)), x, x)
    K = host(rn.analytic_ntk(rn.Network((10, 20, 1), rn.tanh), x, x))  # in silence
    assert np.linalg.cond(K) < 1e4


def test_kernels_in_blocks_of_the_training_set_are_those_of_the_whole():
    x, x_test = (on(z) for z in inputs(N=7))
    net = rn.Network((10, 20, 20, 2), rn.relu, 1.3, 0.4)
    W = on(net.init(0))
    s, test = net.signals(W, x), net.signals(W, x_test)
    parts = [net.signals(W, x[i]) for i in (slice(0, 3), slice(3, 7))]
    blocks = np.concatenate([host(rn.ntk(test, part, n=7)) for part in parts], axis=1)
    np.testing.assert_allclose(blocks, host(rn.ntk(test, s)), rtol=1e-12)
    blocks = np.concatenate([host(rn.analytic_ntk(net, x_test, x[i], n=7)) for i in (slice(0, 3), slice(3, 7))], axis=1)
    np.testing.assert_allclose(blocks, host(rn.analytic_ntk(net, x_test, x)), rtol=1e-12)
    for call in (lambda n: rn.ntk(test, s, n), lambda n: rn.analytic_ntk(net, x_test, x, n)):
        with pytest.raises(ValueError, match="n is 0; expected an integer >= 1"):
            call(0)


def test_empirical_kernels_that_overflow_name_the_layer():
    x, x_test = inputs(N=3)
    net = rn.Network((10, 20, 20, 1), rn.linear)
    W = on(net.init(0))
    s, test = net.signals(W, on(1e160 * x)), net.signals(W, on(x_test))
    with pytest.raises(FloatingPointError, match="A_0: a Gram matrix leaves the range of float64"):
        rn.ntk(s, s)
    with pytest.raises(FloatingPointError, match="A_0: a matrix has non-finite entries"):
        rn.ntk(net.signals(W, on(1e155 * x_test)), s)
    rn.ntk(test, s)
