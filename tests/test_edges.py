"""Edges at which a slip of the pen once passed every test: extreme scales, cut-offs, options that are rarely given."""

import warnings
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from support import FISHERS, assert_close, assert_same, host, literal, on, problem, relative

import refngd as rn
from refngd import datasets, definitions, experiments, preprocess
from refngd import deep_linear as dl
from refngd.linear_training import descend


def linear_problem(rng, widths, dtype=np.float64):
    """Weights of these widths, and statistics of white inputs."""
    w = [rng.standard_normal(shape).astype(dtype) for shape in zip(widths[1:], widths, strict=False)]
    return on(w), dl.Statistics(on(rng.standard_normal((widths[-1], widths[0])).astype(dtype)))


# ---------------------------------------------------------------------------------------------- deep linear networks


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (3, 4, 3, 2)])
@pytest.mark.parametrize(("q", "rho"), [(1, 0.3), (1.5, 0.2), (2, 0.0)])
def test_the_multiplier_has_its_power_and_its_damping(rng, widths, q, rho):
    w, data = linear_problem(rng, widths)
    J = definitions.linear_jacobian(host(w), np.eye(3))
    Lambda = definitions.inverse_power(J @ J.T, rho, q) @ host(dl.displacement(w, data)).T.ravel()
    assert_close(host(dl.multiplier(w, data, q, rho)).T.ravel(), Lambda, np.linalg.cond(J) ** 2)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("block", [False, True])
def test_rcond_of_a_rule_leaves_out_small_singular_values(d, block):
    """Of diagonal weights each mode is on its own; J of the third is 1e-3, or its square, of the others."""
    w, data = on([np.diag([1.0, 0.9, 1e-3])] * d), dl.Statistics(on(2 * np.eye(3)))
    kept, left = (host(dl.Rule(1, block=block, rcond=rcond).update(w, data)) for rcond in (None, 0.1))
    for a, b in zip(kept, left, strict=True):
        np.testing.assert_allclose(a[:2, :2], b[:2, :2], rtol=1e-12)
        assert abs(a[2, 2]) > 100 * b[2, 2] == 0


def test_descend_yields_the_start_and_every_step(rng):
    w, data = linear_problem(rng, (3, 4, 2))
    states = list(descend(w, data, dl.Rule(2), 0.1, 3))
    assert [state.t for state in states] == [0, 1, 2, 3]
    assert len(list(descend(w, data, dl.Rule(2), 0.1, 0))) == 1


def test_with_covariance_keeps_the_least_loss(rng):
    w, data = linear_problem(rng, (3, 2))
    Sigma_x = on(np.diag([1.0, 2.0, 0.5]))
    with_const = dl.Statistics.with_covariance(data.w_star, Sigma_x, const=0.75)
    without = dl.Statistics.with_covariance(data.w_star, Sigma_x)
    assert with_const.const == 0.75
    assert dl.loss(w, with_const) == pytest.approx(dl.loss(w, without) + 0.75, rel=1e-15)


def test_norms_neither_over_nor_underflow():
    for size in (1e200, 1e-200):
        assert dl.norm(on([np.array([[3 * size, 4 * size]])])) == pytest.approx(5 * size, rel=1e-15)
        rows = host(preprocess.unit_norm(on(np.array([[3 * size, 4 * size]]))))
        np.testing.assert_allclose(rows, [[0.6, 0.8]], rtol=1e-15)


def test_polar_factors_of_layers_of_very_different_size(rng):
    """sqrt-NGD-d multiplies polar factors, which no size of the weights changes."""
    (w_1, w_2), data = linear_problem(rng, (3, 3, 3))
    large, small = (dl.Rule(2, block=True).update([a * w_1, w_2 / a], data) for a in (1e150, 1.0))
    for a, b in zip(large, small, strict=True):
        assert relative(a, b) < 1e-13


def test_raw_inputs_of_teacher_and_student_are_gaussian():
    """Kurtosis 3; uniform ones would have 1.8. 4e4 numbers, with a standard deviation of sqrt(24 / 4e4) = .025."""
    x, _, _ = datasets.teacher_student(0, 200, 200, (4.0,), 0.3, whiten=False)
    x = np.asarray(x)
    assert (x**4).mean() / (x**2).mean() ** 2 == pytest.approx(3, abs=0.15)
    assert x.mean() == pytest.approx(0, abs=0.03)


def test_the_rules_of_section_6_have_the_papers_settings():
    rules = experiments.RULES
    assert [name for name, (rule, _, _) in rules.items() if rule.rho] == ["NGD", "NGD-d"]
    assert {rule.rho for rule, _, _ in rules.values()} == {0.0, 1e-5}
    assert {rule.clip for name, (rule, _, _) in rules.items() if "NGD" in name and "sqrt" not in name} == {10}
    assert [eta for _, eta, _ in rules.values()] == [0.02] * 5
    assert [steps for _, _, steps in rules.values()] == [8000, 300, 250, 300, 500]
    assert experiments.RULES_RAW["SGD"][1:] == (0.005, 16000)


# ------------------------------------------------------------------------------------------------------ approximations


def test_a_sigma_of_one_layer():
    p = problem((4, 3), N=2)
    assert_same((rn.Layerwise([[2.5]]), definitions.Fisher("Layerwise", np.array([[2.5]]))), p)
    assert_same((rn.Layerwise([[2.5]]), definitions.Fisher("Layerwise", np.array([[2.5]]))), p, rho=0.1)


def test_the_alpha_of_units_asks_for_full_rank():
    """Layer 1 has one delta for each of 2 units, so that it cannot tell 3 outputs apart."""
    assert rn.Unitwise().alpha(rn.Network((5, 2, 3), rn.tanh, 1.5, 0.5), 2) is None
    assert rn.Unitwise().alpha(rn.Network((5, 40, 3), rn.tanh, 1.5, 0.5), 2) == pytest.approx(40 / 3 + 1)


@pytest.mark.parametrize("size", [1e-9, 1e9])
@pytest.mark.parametrize("name", ["QuasiDiagonal", "Unitwise", "KFAC", "BlockDiagonal", "Entrywise"])
def test_cut_offs_are_relative(name, size):
    """A layer of its own, in which inputs and bias are of one size: J is `size` times larger."""
    p = problem((4, 3, 2), rn.tanh, 0.5)
    trained = replace(p.s.trained, bias=tuple(size * b for b in p.s.trained.bias))
    own = rn.Signals(p.s.f, [size * h for h in p.s.h], p.s.delta, trained)
    steps, scaled = (rn.flatten(FISHERS[name].direction(s, p.e)) for s in (p.s, own))
    assert relative(scaled, steps / size) < 1e-9


@pytest.mark.parametrize("name", ["BlockDiagonal", "KFAC", "Unitwise", "Entrywise"])
def test_weights_times_1e90(name):
    """ReLU without bias: f is 1e90 times as large, J of the other layer too, and what their steps are divides by it."""
    p = problem((5, 6, 1), rn.relu, N=3)
    large = p.net.signals([1e90 * p.W[0], p.W[1]], p.x)
    steps, scaled = (FISHERS[name].direction(s, p.e) for s in (p.s, large))
    assert relative(scaled[0], steps[0]) < 1e-9
    assert relative(1e90 * scaled[1], steps[1]) < 1e-9


@pytest.mark.parametrize("name", ["KFAC", "KFAC-separate", "Unitwise", "BlockDiagonal", "BlockTridiagonal"])
def test_rcond_is_a_share_of_the_singular_values_of_a_block(name):
    """At rcond = 0.5 something is left out."""
    p = problem((6, 9, 9, 2), rn.tanh, 0.5)
    options = {key: value for key, value in vars(FISHERS[name]).items() if key in ("bias", "last")}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*share of the residual")
        left = rn.flatten(type(FISHERS[name])(**options, rcond=0.5).direction(p.s, p.e))
    assert relative(left, rn.flatten(FISHERS[name].direction(p.s, p.e))) > 1e-3


def test_shifted_relu_with_a_negative_shift():
    phi, u = rn.shifted_relu(-0.5), on(np.array([-1.0, 0.25, 0.5, 0.75]))
    assert host(phi.phi(u)).tolist() == [0.5, 0.5, 0.5, 0.75]
    assert host(phi.derivative(u)).tolist() == [0.0, 0.0, 0.0, 1.0]


def compared(fisher, q, **options):
    rng = np.random.default_rng(3)
    x, x_test = (rng.standard_normal((n, 5)) for n in (6, 4))
    data = datasets.Data(x, np.sign(x[:, :1]), x_test, np.sign(x_test[:, :1]))
    net = rn.Network((5, 16, 1), rn.tanh, 1.5)
    W = net.init(0)
    return net, W, data, experiments.compare(net, W, data, fisher, 3, q=q, **options)


@pytest.mark.parametrize("fisher", [rn.Exact(), rn.QuasiDiagonal()])
def test_compare_takes_the_power_in_training_and_in_theory(fisher):
    net, W, data, result = compared(fisher, 2)
    s = net.signals(W, data.x)
    Theta_bar = fisher.coefficient(s, s, 0.0, 2)
    assert result.eta == pytest.approx(1 / np.linalg.eigvalsh(Theta_bar)[-1], rel=1e-12)
    steps = islice(rn.train(net, W, data.x, data.y, fisher, result.eta, 3, q=2), 4)
    assert result.loss == pytest.approx([step.loss for step in steps], rel=1e-12)
    f = rn.Dynamics(Theta_bar, s.f, data.y, result.eta).predict(Theta_bar, s.f, 3)
    assert result.theory_loss[3] == pytest.approx(rn.mse.value(f, data.y), rel=1e-9)
    assert result.alpha is None


def test_the_quasi_diagonal_takes_a_power_without_bias():
    p = problem((4, 5, 2))
    s, actual = literal(p.s), rn.flatten(rn.QuasiDiagonal().direction(p.s, p.e, 0.1, 2))
    K = definitions.preconditioned(s, definitions.Fisher("Entrywise"), 0.1, 2)
    assert_close(actual, K @ host(p.e).ravel() / len(s.f))


# -------------------------------------------------------------------------------------------------------- preprocessing


def array(rows):
    return on(np.array(rows, float))


def test_outputs_of_zero_are_no_underflow_and_what_underflows_is_told():
    net = rn.Network((2, 1), sigma_w=1.0)
    for W, x in (([[1.0, 0.0]], [[0.0, 1.0]]), ([[1.0, -1.0]], [[0.5, 0.5]])):
        assert host(net.forward([array(W)], array(x))).item() == 0
    for W, x in (([[2.0**-600, 0.0]], [[2.0**-600, 1.0]]), ([[0.0, 2.0**-600]], [[1.0, 2.0**-600]])):
        with pytest.raises(FloatingPointError, match="u_1 underflows"):
            net.forward([array(W)], array(x))


@pytest.mark.parametrize("fisher", ["Exact", "BlockDiagonal", "Entrywise", "Unitwise"])
@pytest.mark.parametrize("exponent", [600, 1000])
def test_a_dead_layer_has_no_say_in_the_scale_of_the_others(fisher, exponent):
    net = rn.Network((1, 1, 1), sigma_w=1.0, sigma_b=1.0)
    W = [array([[-1.0, 0.0]]), array([[1.0, 1.0]])]
    one, large = (
        FISHERS[fisher].direction(net.signals(W, array([[x]])), array([[-1.0]]), 0.25) for x in (4.0, 2.0**exponent)
    )
    for a, b in zip(host(one), host(large), strict=True):
        assert (a == b).all()


def test_one_is_in_the_range_of_sigma_or_is_not():
    """To more than half of the digits: 1 - v (v . 1) / |v|^2 is 2^-29 here, and an eigenvalue of 2^-41 not zero."""
    v = np.array([1, 1 + 2.0**-28])
    net, W = rn.Network((2, 2, 1), rn.tanh, sigma_w=1.0), [array([[1.0, 0.5], [0.25, 1.0]]), array([[1.0, 0.5]])]
    s, e = net.signals(W, array([[1.0, 0.5]])), array([[1.0]])
    Sigmas = np.outer(v, v), np.outer(v, v) + 2.0**-41 * np.eye(2)
    singular, regular = (rn.Layerwise(Sigma).direction(s, e, 2.0**-20) for Sigma in Sigmas)
    for a, b in zip(host(singular), host(regular), strict=True):
        assert relative(a, b) < 1e-5  # 1.4e-3 where 1 counts as in the range


def test_the_forster_transform_goes_on_where_convergence_is_slow():
    """Y Y^T / (N / M_0) is a projector; to stop at the first residual that is rounding left 3e-12."""
    x = [[-1.3125, 0.25, 1.5625, 1.8125], [0.1875, 0.375, 0.4375, -0.375], [-1.75, 1.1875, -0.25, 0]]
    x = array([*x, [2.0625, 0.3125, 0.25, -2.125], [0.0625, -0.125, 1.5625, -1.25]])
    Y = host(preprocess.unit_norm(x @ preprocess.forster(x)))
    G = Y @ Y.T
    assert np.linalg.norm(G @ G - 1.25 * G) < 1e-12 * np.linalg.norm(G)


def test_a_coarse_tolerance_ends_the_forster_transform_early(rng):
    x = on(rng.standard_normal((9, 4)))

    def gap(A):
        Y = host(preprocess.unit_norm(x @ A))
        return np.linalg.norm(Y.T @ Y * (4 / 9) - np.eye(4))

    assert gap(preprocess.forster(x)) < 1e-14 < 1e-4 < gap(preprocess.forster(x, tolerance=0.1)) <= 0.1
    with pytest.raises(np.linalg.LinAlgError, match="Raise steps"):
        preprocess.forster(x, steps=1)


def test_standardise_takes_mean_and_deviation_of_the_training_set():
    x, train = on(np.array([[1.0, 5.0]])), on(np.array([[0.0, 2.0], [4.0, 6.0]]))
    np.testing.assert_allclose(host(preprocess.standardise(x, train)), [[-2 / 5**0.5, 2 / 5**0.5]], rtol=1e-15)
    own = host(preprocess.standardise(train))
    assert own.mean() == pytest.approx(0, abs=1e-15)
    assert own.std() == pytest.approx(1)
