"""Properties that hold for every network and data set: what must not depend on an arbitrary choice."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import FISHERS, condition, host, on, problem, relative

import refngd as rn

pytestmark = pytest.mark.filterwarnings("ignore:rho = .* lies among the negative eigenvalues:RuntimeWarning")

problems = st.builds(
    lambda L, C, N, activation, sigma_b, seed: problem((6, *[7] * (L - 1), C), activation, sigma_b, N, seed),
    L=st.integers(1, 4),
    C=st.integers(1, 3),
    N=st.integers(1, 5),
    activation=st.sampled_from([rn.relu, rn.tanh]),
    sigma_b=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 10**6),
)
fishers = st.sampled_from(list(FISHERS))
dampings = st.sampled_from([0.0, 20.0])
quick = settings(max_examples=60, deadline=None, derandomize=True)


def flat(dW):
    return host(rn.flatten(dW))


def well_posed(p, fisher, rho):
    """Only problems on which rounding leaves nine digits or so."""
    assume(np.linalg.norm(host(rn.flatten(rn.pull(p.s, p.e)))) > 0)
    assume(condition(host(fisher.matrix(p.s, rho))) < 1e7)


@quick
@given(p=problems, name=fishers, rho=dampings, seed=st.integers(0, 10**6))
def test_order_of_the_samples(p, name, rho, seed):
    fisher, N = FISHERS[name], len(p.e)
    well_posed(p, fisher, rho)
    order = np.random.default_rng(seed).permutation(N)
    s = p.net.signals(p.W, on(host(p.x)[order]))
    assert relative(flat(fisher.direction(s, on(host(p.e)[order]), rho)), flat(fisher.direction(p.s, p.e, rho))) < 1e-6


@quick
@given(p=problems, name=fishers, rho=dampings, seed=st.integers(0, 10**6))
def test_order_of_the_outputs(p, name, rho, seed):
    """Rows of W_L and columns of e permuted together: the direction's rows are permuted."""
    fisher, C = FISHERS[name], p.e.shape[1]
    well_posed(p, fisher, rho)
    order = np.random.default_rng(seed).permutation(C)
    W = host(p.W)
    s = p.net.signals(on([*W[:-1], W[-1][order]]), p.x)
    *hidden, last = host(fisher.direction(p.s, p.e, rho))
    permuted = flat(fisher.direction(s, on(host(p.e)[:, order]), rho))
    assert relative(permuted, np.concatenate([dw.ravel() for dw in [*hidden, last[order]]])) < 1e-6


@quick
@given(p=problems, name=fishers, rho=dampings, seed=st.integers(0, 10**6))
def test_order_of_the_hidden_units(p, name, rho, seed):
    assume(len(p.W) > 1)
    fisher, order = FISHERS[name], np.random.default_rng(seed).permutation(7)
    well_posed(p, fisher, rho)
    first, second, *rest = host(p.W)
    columns = np.concatenate([order, np.arange(7, second.shape[1])])  # the bias column stays
    s = p.net.signals(on([first[order], second[:, columns], *rest]), p.x)
    dW = host(fisher.direction(p.s, p.e, rho))
    desired = [dW[0][order], dW[1][:, columns], *dW[2:]]
    assert relative(flat(fisher.direction(s, p.e, rho)), np.concatenate([dw.ravel() for dw in desired])) < 1e-6


@quick
@given(p=problems, name=fishers, rho=dampings, a=st.floats(-3, 3), q=st.sampled_from([1, np.inf]))
def test_direction_is_linear_in_e(p, name, rho, a, q):
    fisher = FISHERS[name]
    well_posed(p, fisher, rho)
    other = p.e * p.e
    combined = flat(fisher.direction(p.s, a * p.e + other, rho, q))
    separate = a * flat(fisher.direction(p.s, p.e, rho, q)) + flat(fisher.direction(p.s, other, rho, q))
    assert np.linalg.norm(combined - separate) <= 1e-6 * np.linalg.norm(separate) + 1e-12


@quick
@given(
    p=problems,
    name=st.sampled_from(["Exact", "BlockDiagonal", "Unitwise", "Entrywise", "KFAC"]),
    c=st.sampled_from([0.25, 8.0]),
)
def test_undamped_step_in_function_space_does_not_see_the_scale_of_the_outputs(p, name, c):
    """f -> c f, e -> c e (W_L scaled): J direction scales with c for the pseudo-inverse, whatever the approximation."""
    assume(len(p.W) == 1 or name != "Exact")  # scaling W_L changes the balance of the layers in the exact matrix
    fisher = FISHERS[name]
    well_posed(p, fisher, 0.0)
    scaled = rn.Signals(c * p.s.f, p.s.h, [c * d for d in p.s.delta], p.s.trained)
    if name == "KFAC":  # its last factor is fixed at I / N
        scaled = rn.Signals(c * p.s.f, p.s.h, [*(c * d for d in p.s.delta[:-1]), p.s.delta[-1]], p.s.trained)
        step, desired = (host(rn.push(s, fisher.direction(s, p.e))) for s in (scaled, p.s))
    else:
        step, desired = (
            host(rn.push(scaled, fisher.direction(scaled, c * p.e))),
            c * host(rn.push(p.s, fisher.direction(p.s, p.e))),
        )
    assert relative(step, desired) < 1e-6


@quick
@given(p=problems, name=st.sampled_from(["BlockDiagonal", "Unitwise", "Entrywise", "KFAC"]))
def test_block_approximations_do_not_see_the_parameterization(p, name):
    """Scaling a layer's parameters together leaves the undamped step in function space as it is."""
    assume(p.net.sigma_b == 0)
    fisher = FISHERS[name]
    well_posed(p, fisher, 0.0)
    standard = rn.Network(p.net.widths, p.net.activation, p.net.sigma_w, 0.0, "standard")
    s = standard.signals([w * (2 / M) ** 0.5 for w, M in zip(p.W, p.net.widths, strict=False)], p.x)
    assert relative(rn.push(s, fisher.direction(s, p.e)), rn.push(p.s, fisher.direction(p.s, p.e))) < 1e-6


@quick
@given(p=problems, name=fishers)
def test_strong_damping_is_gradient_descent(p, name):
    """G ~ rho I (K-FAC damped by factors: rho^2 I, its own bias block rho): rho^k direction tends to the gradient."""
    fisher, rho = FISHERS[name], 1e9
    gradient, direction = rn.pull(p.s, p.e / len(p.e)), fisher.direction(p.s, p.e, rho)
    for g, dw in zip(host(gradient), host(direction), strict=True):
        power = np.full(g.shape, rho**2 if name.startswith("KFAC") and name != "KFAC-product" else rho)
        if name == "KFAC-separate" and p.net.sigma_b:
            power[:, -1] = rho
        np.testing.assert_allclose(power * dw, g, rtol=1e-5, atol=1e-6 * abs(g).max())


@quick
@given(p=problems, name=fishers, rho=dampings)
def test_theta_bar_is_symmetric_on_the_training_set(p, name, rho):
    fisher = FISHERS[name]
    well_posed(p, fisher, rho)
    Theta_bar = host(fisher.coefficient(p.s, p.s, rho))
    assert relative(Theta_bar.T, Theta_bar) < 1e-6
