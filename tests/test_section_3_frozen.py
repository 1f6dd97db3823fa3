"""Any set of layers may be kept fixed, and the output bias: THEORY 3.

The definitions are held to loops over entries in `test_section_2_definitions`; here the factored forms are held to the
definitions, and both to what they are of the whole network.
"""

from itertools import islice

import numpy as np
import pytest
from support import (
    ACTIVATIONS,
    DEFINED,
    FISHERS,
    FISHERS_AT_INFINITE_WIDTH,
    assert_close,
    assert_same,
    condition,
    generator,
    host,
    literal,
    on,
    problem,
)

import refngd as rn
from refngd import definitions
from refngd.preprocess import unit_norm

BIAS = "output-bias"
OF_THREE = [(2,), (3,), (1, 2), (1, 3), (2, 3), [2, BIAS], (BIAS,), (1, 2, BIAS)]


def frozen_problem(frozen, *args, **options):
    """`problem`, with the signals of what is trained."""
    p = problem(*args, **options)
    p.s, p.test = p.s.above(frozen), p.test.above(frozen)
    return p


def trained_entries(net, frozen):
    """Places in theta of the parameters that are trained, by a loop."""
    fixed, L, kept, place = set(frozen), len(net.shapes), [], 0
    for l, (M, k) in enumerate(net.shapes, 1):
        for _ in range(M):
            for j in range(k):
                if l not in fixed and not (l == L and BIAS in fixed and j == k - 1):
                    kept.append(place)
                place += 1
    return np.array(kept)


@pytest.mark.parametrize("frozen", OF_THREE, ids=str)
@pytest.mark.parametrize("name", FISHERS)
def test_g_of_what_is_trained_is_that_part_of_the_whole(name, frozen):
    """Such as: no block (1, 3) of the tri-diagonal if layer 2 is fixed, and B*_L = I / N of the output layer alone."""
    p, fisher = problem((3, 4, 4, 2), rn.tanh, 0.7, N=5), FISHERS[name]
    s, kept = p.s.above(frozen), trained_entries(p.net, frozen)
    assert_close(rn.jacobian(s), p.J[:, kept])
    for rho in (0.0, 0.3):
        whole = host(fisher.matrix(p.s, rho))[np.ix_(kept, kept)]
        if name == "QuasiDiagonal" and BIAS in frozen:  # units of the last layer are diagonal: there is no A_0i
            own = slice(len(kept) - s.h[-1].shape[1] * s.delta[-1].shape[2], None)
            whole[own, own] = np.diag(np.diag(whole[own, own]))
        assert_close(fisher.matrix(s, rho), whole)


@pytest.mark.parametrize("frozen", [(2,), (3,), (1, 3), [2, BIAS]], ids=str)
@pytest.mark.parametrize(("C", "N"), [(1, 3), (3, 3), (1, 60)])  # N C below and above the number of parameters
@pytest.mark.parametrize("name", FISHERS)
def test_factored_forms_are_the_definitions(name, C, N, frozen):
    p = frozen_problem(frozen, (4, 5, 5, C), rn.tanh, 0.7, N=N)
    for rho, q in ((0.5, 1), (0.5, 2), (0.5, float("inf"))):
        if q != 2 or (name != "BlockTridiagonal" and (name != "QuasiDiagonal" or not any(p.s.trained.bias))):
            assert_same(name, p, rho, q)


@pytest.mark.parametrize("frozen", [(2,), (1, 3), (4,), (2, BIAS)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_they_are_at_other_depths_activations_and_precisions(activation, dtype, frozen):
    p = frozen_problem(frozen, (6, 8, 7, 8, 2), activation, 0.6, N=3, dtype=dtype)
    for name in FISHERS:
        kappa = condition(definitions.matrix(literal(p.s), DEFINED[name], 0.5))
        assert_same(name, p, 0.5, 1, kappa, dtype)


@pytest.mark.parametrize("frozen", [(2,), (1, 3), (4,)], ids=str)
@pytest.mark.parametrize("name", [name for name in FISHERS if name not in ("Unitwise", "QuasiDiagonal", "Entrywise")])
def test_undamped_steps_without_bias(name, frozen):
    p = frozen_problem(frozen, (6, 30, 31, 32, 2), rn.tanh, N=4)
    kappa = condition(host(rn.ntk(p.s, p.s))) * max(condition(host(T)) for T in rn.empirical_kernels(p.s, p.s).Theta)
    assert_same(name, p, 0.0, 1, kappa)


@pytest.mark.parametrize("frozen", [(2,), (1, 3), (4,)], ids=str)
def test_any_sigma_has_a_row_for_each_layer_that_is_trained(frozen):
    p = frozen_problem(frozen, (6, 30, 31, 32, 2), rn.tanh, N=4)
    k = len(p.s.h)
    A = generator(1).standard_normal((k, k))
    Sigma = A @ A.T + np.eye(k)
    assert_same((rn.Layerwise(Sigma), definitions.Fisher("Layerwise", Sigma)), p, 0.5)


SIGMA = [[2, 0.5], [0.5, 1.5]]
ALPHAS = [  # fisher, frozen, alpha for L = 4, N = 6 and one output, without bias
    (rn.Exact(), (2, 3), 1),
    (rn.BlockDiagonal(), (2,), 3),
    (rn.BlockDiagonal(), (4,), 3),
    (rn.BlockTridiagonal(), (2,), 2),  # 1 | 3 4
    (rn.BlockTridiagonal(), (2, 3), 2),  # 1 | 4, where neighbours among these two would give 1
    (rn.BlockTridiagonal(), (4,), 1),  # 1 2 3
    (rn.Layerwise(SIGMA), (2, 3), float(np.linalg.inv(SIGMA).sum())),
    (rn.KFAC(), (2,), 18),
    (rn.KFAC(), (4,), 18),  # of hidden layers with their own B
    (rn.KFAC(last="gram"), (1, 3), 7),
    (rn.KFAC(last="gram"), (4,), 18),
    (rn.KFAC(damping="product"), (1, 4), 12),
    (rn.Unitwise(), (2,), 121),
    (rn.Unitwise(), (4,), 180),
    (rn.Identity(), (2,), None),
]


@pytest.mark.parametrize(("fisher", "frozen", "alpha"), ALPHAS, ids=str)
def test_alpha_and_one_step_convergence(fisher, frozen, alpha):
    """The outputs of the linearised network are the targets after one step with eta = 1 / alpha."""
    N = 6
    p = problem((8, 60, 60, 60, 1), rn.tanh, N=N)
    assert fisher.alpha(p.net, N, frozen) == (alpha if alpha is None else pytest.approx(alpha, rel=1e-14))
    if alpha is None:
        return
    s = p.s.above(frozen)
    kernels = rn.empirical_kernels(s, s)
    kappa = max(condition(host(K)) for K in (*kernels.A, *kernels.Theta)) * condition(host(sum(kernels.Theta)))
    assert_close(fisher.coefficient(s, s), alpha * np.eye(N), kappa)
    _, step = rn.train(p.net, p.W, p.x, p.e, fisher, 1 / alpha, 1, frozen=frozen)
    assert_close(rn.linearized(s, s.weights(p.W), s.weights(step.W)), p.e, kappa)


@pytest.mark.parametrize(
    ("fisher", "frozen", "alpha"),
    [
        (rn.KFAC("separate"), 0, None),  # the output bias adds 1 1^T
        (rn.KFAC("separate"), (BIAS,), 25),  # N (2 L - 1), below (S.123)
        (rn.KFAC("separate", "gram"), (BIAS,), 21),
        (rn.KFAC("separate"), (1, BIAS), 15),
        (rn.KFAC("separate"), (3,), 20),
        (rn.KFAC(), (BIAS,), 15),
        (rn.BlockDiagonal(), (BIAS,), 3),
        (rn.Unitwise(), (2, BIAS), 61),
    ],
    ids=str,
)
@pytest.mark.parametrize("C", [1, 2])
def test_alpha_with_the_output_bias_fixed(fisher, frozen, alpha, C):
    N = 5
    p = problem((8, 60, 60, C), rn.tanh, 0.7, N=N)
    if alpha and type(fisher) is rn.Unitwise:
        alpha = 60 / C + 1
    assert fisher.alpha(p.net, N, frozen) == alpha
    s = p.s.above(frozen)
    Theta_bar = fisher.coefficient(s, s)
    if alpha is None:
        assert rn.isotropy(Theta_bar).deviation > 0.05
    elif type(fisher) is not rn.Unitwise or C == 1:  # with more outputs on average
        kernels = rn.empirical_kernels(s, s)
        kappa = max(condition(host(K)) for K in (*kernels.A, *kernels.B[:-1])) ** 2
        assert_close(Theta_bar, alpha * np.eye(N * C), kappa)


@pytest.mark.parametrize("activation", [rn.linear, rn.tanh, rn.relu], ids=str)
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
@pytest.mark.parametrize("fisher", [f for f in FISHERS.values() if type(f) is not rn.Unitwise], ids=repr)
def test_alpha_is_what_theta_bar_is_or_none(fisher, sigma_b, activation):
    """Narrow and wide networks, every set of layers: alpha I where alpha says so, never where it says None."""
    N = 4
    narrow = [(3, 40, 2, 40, 1), (5, 2, 1)] if activation != rn.relu else []  # where units of ReLU may all be dead
    for widths in [*narrow, (7, 40, 41, 42, 2), (4, 40, 1)]:
        L = len(widths) - 1
        p = problem(widths, activation, sigma_b, N=N, seed=3)
        for code in range(2**L - 1):
            frozen = [l for l in range(1, L + 1) if code >> (l - 1) & 1]
            for own in ([], [BIAS]) if sigma_b and L not in frozen else ([],):
                s = p.s.above([*frozen, *own])
                alpha, Theta_bar = fisher.alpha(p.net, N, [*frozen, *own]), host(fisher.coefficient(s, s))
                size = Theta_bar.trace() / len(Theta_bar) if alpha is None else alpha
                gap = abs(Theta_bar - size * np.eye(len(Theta_bar))).max() / size
                if alpha is not None or type(fisher) is not rn.BlockTridiagonal:  # it may be so by chance
                    assert (gap < 1e-5) == (alpha is not None), (widths, frozen, own, alpha, gap)


@pytest.mark.parametrize("frozen", [(2,), (1, 3), (3,), (2, BIAS), (BIAS,)], ids=str)
def test_at_infinite_width(frozen):
    net = rn.Network((5, 1, 1, 1), rn.relu, 2**0.5, 0.6)
    x, x_test = (on(generator(k).standard_normal((n, 5))) for k, n in ((0, 4), (1, 3)))
    train, cross = (rn.analytic_kernels(net, a, x).above(frozen) for a in (x, x_test))
    L, (biases, layers) = 3, definitions.trained(list(frozen), 3, 0.6)
    assert (list(train.trained.bias), list(train.trained.layers)) == (biases, layers)
    pairs = [(host(K.A), host(K.B)) for K in (cross, train)]
    own = definitions.Net(definitions.relu, net.sigma_w, 0.6)

    for test, (A, B) in zip((x_test, x), pairs, strict=True):
        literal_A, literal_B = definitions.wide_kernels(own, rn.relu, L, host(test), host(x), list(frozen))
        for a, b in zip([*literal_A, *literal_B], [*A, *B], strict=True):
            assert_close(b, a, 1e3)
    for fisher in FISHERS_AT_INFINITE_WIDTH:
        if fisher.__class__ is rn.Layerwise or getattr(fisher, "damping", "") == "product":
            continue
        defined = fisher._definition(train.trained)
        expected = definitions.wide_coefficient(*pairs, defined, 1.5, 1, biases, layers, L)
        assert_close(fisher.kernel_coefficient(cross, train, 1.5), expected, 1e3)


@pytest.mark.parametrize("frozen", [(2,), (1, 3), (3,), (2, BIAS), (BIAS,)], ids=str)
def test_kernels_of_the_selection_are_the_selection_of_the_kernels(frozen):
    p = problem((4, 6, 6, 2), rn.tanh, 0.7, N=3)
    own, whole = rn.empirical_kernels(p.test.above(frozen), p.s.above(frozen)), rn.empirical_kernels(p.test, p.s)
    selected = whole.above(frozen)
    assert selected.trained == own.trained
    for a, b in zip([*selected.A, *selected.B], [*own.A, *own.B], strict=True):
        assert_close(a, b, 10)
    train = rn.empirical_kernels(p.s, p.s).above(frozen)
    for name in ("Exact", "BlockTridiagonal", "KFAC", "KFAC-separate", "KFAC-gram", "KFAC-product"):
        actual = FISHERS[name].kernel_coefficient(selected, train, 1.5)
        assert_close(actual, FISHERS[name].coefficient(p.test.above(frozen), p.s.above(frozen), 1.5), 1e3)


@pytest.mark.parametrize("frozen", [2, (2,), (1, 3), (3,), (2, BIAS), (BIAS,)], ids=str)
@pytest.mark.parametrize("name", FISHERS)
def test_training_keeps_what_is_fixed_bit_by_bit_and_moves_the_others_by_the_definition(name, frozen):
    p, eta = problem((3, 6, 6, 2), rn.tanh, 0.5, N=5), 0.02
    steps = list(rn.train(p.net, p.W, p.x, p.e, FISHERS[name], eta, 3, rho=1.0, frozen=frozen))
    net = definitions.Net(definitions.tanh, p.net.sigma_w, 0.5)
    problem_of = net, host(p.W), host(p.x), host(p.e), DEFINED[name], eta
    W, losses = definitions.training(*problem_of, 3, rho=1.0, frozen=frozen)
    np.testing.assert_allclose([step.loss for step in steps], losses, rtol=1e-10)
    for before, after, literal_after in zip(host(p.W), host(steps[-1].W), W, strict=True):
        assert_close(after - before, literal_after - before, 1e4) if (literal_after != before).any() else None
        assert ((after == before) == (literal_after == before)).all()
    assert steps[-1].loss < steps[0].loss
    batches = [generator(k).permutation(5)[start : start + 2] for k in (0, 1) for start in (0, 2, 4)]
    W, losses = definitions.batch_training(*problem_of, batches[:4], rho=1.0, frozen=frozen)
    old, fixed = host(p.W), (1, 2) if frozen == 2 else frozen
    assert [bool((a == b).all()) for a, b in zip(old, W, strict=True)] == [l in fixed for l in (1, 2, 3)]
    assert (old[2][:, -1] == W[2][:, -1]).all() == (BIAS in fixed or 3 in fixed)


def test_predictions_at_every_step_of_the_linearised_network():
    p, fisher, frozen = problem((4, 9, 9, 2), rn.tanh, 0.5, N=3), rn.KFAC("separate"), (2, BIAS)
    s, test = p.s.above(frozen), p.test.above(frozen)
    dynamics = rn.Dynamics(fisher.coefficient(s, s, 0.1), s.f, p.e, 0.05)
    cross, steps = fisher.coefficient(test, s, 0.1), rn.linearized_training([s, test], p.e, fisher, 0.05, 0.1)
    outputs = list(islice(steps, 4))
    for t, (_, f_test) in enumerate(outputs):
        assert_close(dynamics.predict(cross, test.f, t), f_test, 1e3)
    change = fisher.direction(s, dynamics.accumulated(3), 0.1)  # (22)
    assert_close(s.f + rn.push(s, change), outputs[-1][0], 1e3)


def test_a_number_is_the_first_layers_and_selecting_twice_keeps_both():
    p = problem((3, 4, 4, 2), rn.tanh, 0.7)
    assert p.s.above(2).trained == p.s.above((2, 1)).trained == p.s.above({1}).above({2}).trained
    assert p.s.above(()).trained == p.s.above(0).trained == p.s.trained
    assert p.s.above(range(1, 3)).trained.layers == (3,)
    with pytest.raises(ValueError, match=r"frozen has the layers \(1, 3\), all that are trained"):
        p.s.above((2,)).above((1, 3))


def test_signals_of_other_layers_do_not_fit_though_their_shapes_do():
    p = problem((4, 4, 4, 4), rn.tanh)
    a, b = p.s.above((1,)), p.test.above((2,))
    assert a.shapes == b.shapes
    with pytest.raises(ValueError, match=r"test has Trained\(L=3, layers=\(1, 3\), .* as train"):
        rn.Exact().coefficient(b, a)
    with pytest.raises(ValueError, match=r"s\[1\] belongs to weights"):
        rn.linearized_training([a, b], p.e, rn.Exact(), 0.1)
    kernels = rn.empirical_kernels(p.s, p.s)
    with pytest.raises(ValueError, match=r"cross has Trained\(L=3, .* as train"):
        rn.Exact().kernel_coefficient(kernels.above((1,)), kernels.above((2,)))
    with pytest.raises(ValueError, match=r"trained has the layers \(1, 2, 3\); expected 2 of them"):
        rn.Signals(a.f, a.h, a.delta, p.s.trained)


MESSAGES = [
    ("output-bias", "frozen is 'output-bias'; expected an integer >= 0, or a list of layers from 1 to L and "),
    (None, "frozen is None; expected an integer >= 0, or a list"),
    (True, "frozen is True; expected an integer >= 0"),
    (3, "frozen is 3; expected an integer < L = 3, since one layer at least is trained"),
    ((0,), 'frozen has 0; expected integers from 1 to L = 3, and "output-bias"'),
    ((4,), "frozen has 4; expected integers from 1 to L = 3"),
    ((True,), "frozen has True; expected integers"),
    ((1.0,), r"frozen has 1.0; expected integers"),
    (("bias",), "frozen has 'bias'; expected integers"),
    ((1, 1), r"frozen has an entry twice, \[1, 1\]; expected different ones"),
    ((1, 2, 3), "frozen has all L = 3 layers; expected one at least that is trained"),
    ((3, BIAS), 'frozen has "output-bias" and L = 3, the layer that it belongs to; expected one of them'),
]


@pytest.mark.parametrize(("frozen", "message"), MESSAGES, ids=str)
def test_messages(frozen, message):
    p = problem((4, 5, 5, 1), rn.tanh, 0.5)
    for call in (
        lambda: p.s.above(frozen),
        lambda: p.net.trained(frozen),
        lambda: rn.empirical_kernels(p.s, p.s).above(frozen),
        lambda: rn.Exact().alpha(p.net, 4, frozen),
        lambda: rn.train(p.net, p.W, p.x, p.e, rn.Exact(), 0.1, 1, frozen=frozen),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("fisher", [rn.Exact(), rn.BlockDiagonal(), rn.KFAC(), rn.Unitwise()], ids=repr)
def test_no_alpha_for_samples_that_the_network_cannot_tell_apart(fisher):
    """h(-x) = -h(x) and delta(-x) = delta(x) for odd phi without bias; a sample twice is so for every network."""
    x = unit_norm(generator(5).standard_normal((3, 8)))
    for sigma_b, activation, other, has_alpha in (
        (0.0, rn.tanh, -x[:1], False),
        (0.0, rn.erf, -x[:1], False),
        (0.5, rn.tanh, -x[:1], True),
        (0.5, rn.tanh, x[:1], False),
        (0.0, rn.relu, x[:1], False),
        (0.0, rn.tanh, x[:1] @ np.diag([-1.0, *[1.0] * 7]), True),
    ):
        net, samples = rn.Network((8, 60, 60, 1), activation, 2**0.5, sigma_b), on(np.concatenate([x, other]))
        assert (fisher.alpha(net, 4, x=samples) is not None) == has_alpha
        s = net.signals(on(net.init(0)), samples)
        regular = [np.linalg.matrix_rank(host(T), tol=1e-9) == 4 for T in rn.empirical_kernels(s, s).Theta]
        assert all(regular) == has_alpha


def test_a_network_without_bias_has_no_output_bias():
    p = problem((4, 5, 1), rn.tanh)
    for call in (lambda: p.s.above((BIAS,)), lambda: rn.Exact().alpha(p.net, 4, (BIAS,))):
        with pytest.raises(
            ValueError, match='frozen has "output-bias"; expected layers alone, since the output layer has'
        ):
            call()
