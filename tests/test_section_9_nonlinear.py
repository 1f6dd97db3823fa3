"""THEORY 9, Kronecker powers. Huh's block rules (19), (21) for nonlinear nets, (B (x) A)^{-1/q}, by K-FAC (S.I.3)."""

import itertools

import numpy as np
import pytest
from support import assert_close, condition, generator, host, on, relative

import refngd as rn
from refngd import definitions

C, N, RCOND = 3, 7, 1e-10
POWERS = [1, 2, 3, np.inf]


def literal_power(K, q):
    """K^{-1/q} on the range of K >= 0."""
    w, V = np.linalg.eigh(K)
    live = w > RCOND * w.max()
    return (V[:, live] * w[live] ** (-1 / q)) @ V[:, live].T


def literal_step(net, W, x, y, loss, q):
    """K-FAC with every B*_l the mean of delta_l^T H_n delta_l, from the explicit roots of both factors."""
    s, kind = definitions.signals(net, W, x), "mse" if loss is rn.mse else "cross-entropy"
    return definitions.direction(*definitions.whiten(s, y, kind), definitions.Fisher("KFAC", last="gram"), q=q)


def relu_problem(gain=1.0, widths=(5, 6, 4, C), n=N, dtype=np.float64, seed=0):
    """Network, weights gain times semi-orthogonal, inputs, one-hot targets."""
    net, rng = rn.Network(widths, parameterization="standard"), generator(seed)
    x, y = rng.standard_normal((n, widths[0])), np.eye(C)[rng.integers(0, C, n)]
    return net, on(net.semi_orthogonal(rng, gain, dtype)), on(x.astype(dtype)), on(y.astype(dtype))


def step(net, W, x, y, q, loss=rn.cross_entropy):
    rcond = RCOND if x.dtype == np.float64 else None  # RCOND is below the rounding of float32
    return rn.KFAC(last="gram", rcond=rcond).direction(*loss.whiten(net.signals(W, x), y), q=q)


@pytest.mark.parametrize("q", POWERS)
@pytest.mark.parametrize(("rank_a", "rank_b"), [(5, 4), (2, 4), (2, 1)])
def test_power_of_a_kronecker_product_is_the_product_of_the_powers(q, rank_a, rank_b):
    """(A (x) B)^{-1/q} = A^{-1/q} (x) B^{-1/q}, pseudo-inverses included; (A (x) B)^{-1/inf} projects on the range."""
    rng = generator()
    X, Y = rng.standard_normal((5, rank_a)), rng.standard_normal((4, rank_b))
    A, B = X @ X.T, Y @ Y.T
    product = np.kron(literal_power(A, q), literal_power(B, q))
    assert_close(rn.inverse_power(on(np.kron(A, B)), q=q, rcond=1e-12), product, condition(A) * condition(B))


@pytest.mark.parametrize("q", POWERS)
@pytest.mark.parametrize("loss", [rn.mse, rn.cross_entropy], ids=str)
@pytest.mark.parametrize(("widths", "n"), [((5, 6, 4, C), 7), ((9, 4, 12, C), 5), ((3, 8, 8, C), 20)], ids=str)
def test_kfac_is_the_power_of_the_dense_kronecker_product(q, loss, widths, n):
    """Huh (19), (21) less d^{-1/q}: factors smaller on the side of the samples, of the widths, and singular ones."""
    net, W, x, y = relu_problem(widths=widths, n=n)
    literal = literal_step(net, host(W), *host([x, y]), loss, q)
    for dw, desired in zip(step(net, W, x, y, q, loss), literal, strict=True):
        assert relative(dw, desired) < 1e-8  # the product has eigenvalues down to RCOND


@pytest.mark.parametrize("loss", [rn.mse, rn.cross_entropy], ids=str)
def test_training_in_batches_takes_the_literal_steps(loss):
    net, W, x, y = relu_problem()
    eta, order = 0.2 / len(W) ** 0.5, generator(1).permutation(N)
    fisher, settings = rn.KFAC(last="gram", rcond=RCOND), dict(q=2, loss=loss, batch=4, rng=1)
    steps = list(rn.train(net, W, x, y, fisher, eta, 2, **settings))
    for (a, b), rows in zip(itertools.pairwise(steps), (order[:4], order[4:]), strict=True):
        desired = literal_step(net, host(a.W), host(x)[rows], host(y)[rows], loss, 2)
        for w, w_next, dw in zip(host(a.W), host(b.W), desired, strict=True):
            assert relative(w_next, w - eta * dw) < 1e-8


def test_damping_is_on_each_factor_and_not_levenberg_and_marquardts():
    """Huh's is eps I + B (x) A; (B + rho I) (x) (A + rho I) at rho = sqrt(eps) has rho (B (x) I + I (x) A) on top."""
    net, W, x, y = relu_problem()
    eps = 0.01
    s, _ = rn.cross_entropy.whiten(net.signals(W, x), y)
    damped, plain = (host(rn.KFAC(last="gram").matrix(s, rho)) for rho in (eps**0.5, 0.0))
    start = 0
    for h, delta, w in zip(host(s.h), host(s.delta), W, strict=True):
        rows, M, k = slice(start, start + w.size), *w.shape
        A, B = h.T @ h / N, delta.reshape(-1, M).T @ delta.reshape(-1, M) / N
        extra = eps * np.eye(w.size) + eps**0.5 * (np.kron(B, np.eye(k)) + np.kron(np.eye(M), A))
        assert_close(damped[rows, rows], plain[rows, rows] + extra)
        start += w.size


GAINS = [1.0, 1e-2, 1e-4, 1e-6]


@pytest.mark.parametrize("loss", [rn.mse, rn.cross_entropy], ids=str)
def test_square_root_step_does_not_shrink_with_the_gain(loss):
    """B^{-1/2} delta^T and A^{-1/2} h^T are free of scale: at equal outputs' signals R and e, so is the whole step."""
    net, W, x, y = relu_problem()
    s, e = loss.whiten(net.signals(W, x), y)
    R = s.delta[-1]
    reference = rn.KFAC(last="gram", rcond=RCOND).direction(s, e, q=2)
    for gain in GAINS:
        t = net.signals([gain * w for w in W], x)
        t = rn.Signals(t.f, t.h, [R @ delta for delta in t.delta])
        for dw, desired in zip(rn.KFAC(last="gram", rcond=RCOND).direction(t, e, q=2), reference, strict=True):
            assert_close(dw, host(desired), 1e4)


@pytest.mark.parametrize(("q", "power"), [(1, -1), (2, 0), (3, 1 / 3), (np.inf, 1)])
def test_gain_enters_a_step_of_power_q_as_its_power_d_minus_1_times_1_minus_2_over_q(q, power):
    """h_{l-1} ~ gain^{l-1}, delta_l ~ gain^{d-l}: A (x) B ~ gain^{2(d-1)}, grad ~ gain^{d-1}, at outputs near 0."""
    d, small, smaller = 3, 1e-4, 1e-5
    a, b = (step(*relu_problem(gain), q) for gain in (small, smaller))
    for dw, dw_smaller in zip(host(a), host(b), strict=True):
        assert np.linalg.norm(dw) / np.linalg.norm(dw_smaller) == pytest.approx(10 ** (power * (d - 1)), rel=1e-6)


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("gain", [1e-7, 1e-13, 1e-30])
def test_eigenvalues_far_below_any_absolute_cutoff_count(q, gain):
    """Only the relative cut-off acts: in float64 to factors of 1e-38 and below (S.I.3), here of 1e-120."""
    net, W, x, y = relu_problem(gain)
    s = net.signals(W, x)
    smallest = min(float(abs(h).max()) ** 2 for h in host(s.h))
    assert smallest < 10 * gain**4
    unit = relu_problem()
    t = net.signals(unit[1], x)
    t = rn.Signals(s.f, t.h, t.delta)  # e and R of the small outputs, at gain 1
    desired = rn.KFAC(last="gram", rcond=RCOND).direction(*rn.cross_entropy.whiten(t, y), q=q)
    scale = gain ** (2 * (1 - 2 / q))
    for dw, unscaled in zip(step(net, W, x, y, q), desired, strict=True):
        assert_close(dw, scale * host(unscaled), 1e6)


@pytest.mark.parametrize("gain", [1e-4, 1e-10])
def test_float32_is_never_promoted_and_agrees_with_float64(gain):
    exact, single = (relu_problem(gain, dtype=dtype) for dtype in (np.float64, np.float32))
    for dw, desired in zip(step(*single, 2), step(*exact, 2), strict=True):
        assert dw.dtype == np.float32
        assert relative(host(dw).astype(float), desired) < 1e-2
    *_, last = rn.train(*single, rn.KFAC(last="gram"), 0.1, 3, q=2, loss=rn.cross_entropy, batch=4)
    assert {w.dtype for w in last.W} == {np.dtype(np.float32)}


@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("gain", [1e-13, 1e-16, 1e-24, 1e-30])
def test_float32_says_where_its_range_ends_instead_of_standing_still(q, gain):
    """The outputs are about gain^3, and gain^3 < 1.2e-38."""
    with pytest.raises(FloatingPointError, match=r"u_\d underflows: rescale x or the weights"):
        step(*relu_problem(gain, dtype=np.float32), q)


@pytest.mark.parametrize("gain", GAINS)
def test_square_root_rule_leaves_the_saddle_at_every_gain_and_gradient_descent_does_not(gain):
    """Fig. S.I.2 in small: one learning rate, no damping."""
    net, W, x, y = relu_problem(gain, (5, 20, 20, 10, C), 30)
    rules = [(rn.KFAC(last="gram", rcond=RCOND), 2), (rn.Identity(), 1)]
    settings = dict(eta=0.1, steps=60, loss=rn.cross_entropy)
    root, plain = (list(rn.train(net, W, x, y, fisher, q=q, **settings))[-1].loss for fisher, q in rules)
    assert root < 0.2
    assert gain == 1 or plain == pytest.approx(np.log(C), rel=1e-2)


def test_a_cutoff_below_the_rounding_is_an_error_that_says_so():
    """As RCOND is in float32, where sums over a batch of N C leave B_L about as much below zero."""
    K = on(np.diag([1.0, -(2.0**-10)]).astype(np.float32))  # known to 2^-24 / 2^-10, which three digits do not show
    message = r"no real power -1/2: .*, -0\.000977; if it is rounding, raise rcond"
    with pytest.raises(np.linalg.LinAlgError, match=message):
        rn.inverse_power(K, q=2, rcond=RCOND)
    np.testing.assert_allclose(host(rn.inverse_power(K, q=2, rcond=1e-2)), np.diag([1.0, 0.0]), atol=30 * 2.0**-24)
