"""THEORY 9 and 13.7, singular modes: Huh's rules for the layers, what they conserve, the solution for any exponent."""

import functools
import math

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support import generator, host, on

from refngd import modes

EPS = 2.0**-52
POWERS = [1, 1.5, 2, 3, math.inf]
FULL_AND_BLOCK = pytest.mark.parametrize("block", [False, True], ids=["full", "block"])
EXPONENTS = [0, 0.25, 0.5, 0.75, 1 - 1e-9, 1, 1 + 1e-6, 4 / 3, 1.5, 1.9, 2]


def velocity(s, s_star, q=1, block=False, eta=1.0):
    """`modes.velocity` of host arrays, computed on the device under test."""
    return host(modes.velocity(on(np.asarray(s, float)), s_star, q, block, eta))


def jacobian(s):
    return np.array([np.prod(np.delete(s, i, axis=0), axis=0) for i in range(len(s))])


def flow(s, s_star, t, q=1, block=False):
    """s(t) (times, d) by integration, each step to 1e-12."""
    path = solve_ivp(
        lambda _, s: velocity(s, s_star, q, block),
        (0, np.max(t)),
        s,
        "DOP853",
        np.atleast_1d(t),
        rtol=1e-12,
        atol=1e-15,
    )
    assert path.success
    return path.y.T


def layers(d, seed=0):
    """d layers of different sizes, an even number of them negative."""
    s = generator(seed).uniform(0.4, 1.1, d)
    s[: 2 * (d // 2)] *= -1
    return s


# ------------------------------------------------------------------------------------------------------------ the rules


@pytest.mark.parametrize("d", range(1, 6))
@pytest.mark.parametrize("q", POWERS)
def test_velocity_is_the_pseudo_inverse_power_of_the_hessian_applied_to_the_gradient(d, q):
    """(12) with H_+ = j j^T, g = j s_Delta, hence (5), (10); block-diagonal (19) with d^{-1/q}, hence (20), (21)."""
    s, s_star, eta = layers(d), 1.7, 0.3
    j = jacobian(s)
    s_Delta = s.prod() - s_star
    w, V = np.linalg.eigh(np.outer(j, j))
    power = np.array([0.0] * (d - 1) + [w[-1] ** (-1 / q)])  # rank one
    expected = -eta * (V * power) @ V.T @ j * s_Delta
    np.testing.assert_allclose(velocity(s, s_star, q, eta=eta), expected, rtol=1e-13)
    expected = -eta * d ** (-1 / q) * (j**2) ** (-1 / q) * j * s_Delta
    np.testing.assert_allclose(velocity(s, s_star, q, True, eta), expected, rtol=1e-13)


def test_named_rules_are_as_the_paper_prints_them():
    s, s_star, eta, d = layers(3), 2.0, 0.7, 3
    j, s_Delta = jacobian(s), s.prod() - 2.0
    for (q, block), expected in {
        (math.inf, False): -eta * s_Delta * j,  # (5)
        (1, False): -eta * s_Delta * j / (j**2).sum(),  # (10)
        (1, True): -eta * s_Delta / (d * j),  # (20)
        (2, True): -eta * s_Delta / d**0.5 * np.sign(j),  # (21)
    }.items():
        np.testing.assert_allclose(velocity(s, s_star, q, block, eta), expected, rtol=1e-14)


def test_jacobian_is_right_where_layers_are_zero():
    s = np.array([[2.0, 0, 0, 5], [3, 7, 0, 6], [4, 8, 9, 7]])
    assert (host(modes.jacobian(on(s))) == jacobian(s)).all()
    assert host(modes.jacobian(on(s[:1]))).tolist() == [[1, 1, 1, 1]]


def test_modes_are_independent_and_have_targets_of_their_own():
    s, s_star = generator().standard_normal((3, 4, 5)), generator(1).uniform(0.1, 3, (4, 5))
    together = host(modes.velocity(on(s), on(s_star), 1.5))
    for k in np.ndindex(4, 5):
        np.testing.assert_allclose(
            together[(slice(None), *k)], velocity(s[(slice(None), *k)], s_star[k], 1.5), rtol=1e-14
        )


@pytest.mark.parametrize("q", POWERS)
def test_speeds(q):
    """(7), (11), (13): eta |s_Delta| ||j||^{1-2/q}; exactly eta |s_Delta| for sqrt-NGD, (14), also block-diagonal."""
    for d in range(1, 6):
        s, s_star, eta = layers(d), 1.7, 0.3
        speed = float(modes.speed(on(s), s_star, q, eta))
        formula = eta * abs(s.prod() - s_star) * np.linalg.norm(jacobian(s)) ** (1 - 2 / q)
        assert speed == pytest.approx(formula, rel=1e-14)
        assert np.linalg.norm(velocity(s, s_star, q, eta=eta)) == pytest.approx(speed, rel=1e-14)
        if q == 2:
            assert speed == eta * abs(s[0] * jacobian(s)[0] - s_star)
            assert np.linalg.norm(velocity(s, s_star, 2, True, eta)) == pytest.approx(speed, rel=1e-14)


@pytest.mark.parametrize("d", range(1, 6))
@pytest.mark.parametrize("s_star", [0.5, 3.0])
def test_block_diagonal_ngd_moves_the_map_as_ngd_does_and_the_layers_never_slower(d, s_star):
    """Section 5: the map at the rate eta s_Delta for both; Jensen for the speeds, equal where |s_i| are."""
    for seed in range(10):
        s, eta = layers(d, seed), 0.3
        full, block = velocity(s, s_star, 1, eta=eta), velocity(s, s_star, 1, True, eta)
        for v in (full, block):
            assert (jacobian(s) * v).sum() == pytest.approx(-eta * (s.prod() - s_star), rel=1e-13)
        assert np.linalg.norm(block) >= np.linalg.norm(full) * (1 - 1e-15)
    s = 0.8 * np.sign(s)
    np.testing.assert_allclose(velocity(s, s_star, 1, True), velocity(s, s_star, 1), rtol=1e-14)


@pytest.mark.parametrize("q", POWERS)
def test_the_map_under_block_rules(q):
    """sum_i (j_i^2)^{1-1/q} / d^{1/q} for ||j||^{2(1-1/q)} in (16): never more, by Jensen; equal at q = 1 and inf."""
    for d in range(1, 6):
        s = layers(d)
        j = jacobian(s)
        full, block = ((j * velocity(s, 2.0, q, block)).sum() for block in (False, True))
        assert block == pytest.approx((2 - s.prod()) * (abs(j) ** (2 - 2 / q)).sum() / d ** (1 / q), rel=1e-13)
        assert block <= full * (1 + 1e-14)
        assert (block == pytest.approx(full, rel=1e-13)) == (q in (1, math.inf) or d == 1)


@pytest.mark.parametrize("q", POWERS)
def test_balanced_block_rules_are_the_full_rules(q):
    for d in range(1, 6):
        s = 0.8 * np.sign(layers(d))
        np.testing.assert_allclose(velocity(s, 2.0, q, True), velocity(s, 2.0, q), rtol=1e-14)


def test_regularised_ngd_lies_between_ngd_and_sgd_with_sqrt_ngd_at_a_equal_to_1():
    """(S.I.16), and (S.I.15) from which it follows, for d = 1 to 5."""
    for d in range(1, 6):
        s, s_star = layers(d), 1.7
        j = jacobian(s)
        norm = np.linalg.norm(j)
        rule = lambda eps, s=s, s_star=s_star: host(modes.regularised(on(s), s_star, eps, 0.3))  # noqa: E731
        for eps in (1e-3, 0.4, 30.0):
            g = j * (s.prod() - s_star)
            expected = -0.3 * (eps + 1) * np.linalg.solve(eps * np.eye(d) + np.outer(j, j), g)
            np.testing.assert_allclose(rule(eps), expected, rtol=1e-11)
            a = eps / norm
            printed = -0.3 * (s.prod() - s_star) * j / norm * (a * norm + 1) / (a + norm)
            np.testing.assert_allclose(rule(eps), printed, rtol=1e-13)
        np.testing.assert_allclose(rule(norm), velocity(s, s_star, 2, eta=0.3), rtol=1e-14)
        np.testing.assert_allclose(rule(0), velocity(s, s_star, 1, eta=0.3), rtol=1e-14)
        np.testing.assert_allclose(rule(1e-14), velocity(s, s_star, 1, eta=0.3), rtol=1e-12)
        np.testing.assert_allclose(rule(1e14), velocity(s, s_star, math.inf, eta=0.3), rtol=1e-12)


# -------------------------------------------------------------------------------------------- saddles and small numbers


@FULL_AND_BLOCK
@pytest.mark.parametrize("q", POWERS)
def test_inactive_layers_stay(q, block):
    """Footnote 2, by the pseudo-inverse: those with j_i = 0; all of them at the saddle j = 0."""
    assert (velocity(np.zeros((3, 2)), 1.0, q, block) == 0).all()
    v = velocity([0.0, 0.5, 2.0], 1.0, q, block)  # j = (1, 0, 0)
    assert v[0] > 0
    assert v[1:].tolist() == [0, 0]
    assert float(modes.speed(on(np.zeros(3)), 1.0, q)) == 0
    assert (host(modes.regularised(on(np.zeros(3)), 1.0, 0.1)) == 0).all()


def test_a_layer_at_zero_slows_block_rules_and_not_the_full_ones():
    """Only j_1 of (0, s_2, s_3) is non-zero: NGD-d moves the map at eta / d, sqrt-NGD-d the layers at eta / d^{1/2}."""
    s = np.array([0.0, 0.5, 2.0])
    for block, rate in ((False, 1), (True, 1 / 3)):
        assert (jacobian(s) * velocity(s, 2.0, 1, block)).sum() == pytest.approx(2 * rate, rel=1e-14)
        assert np.linalg.norm(velocity(s, 2.0, 2, block)) == pytest.approx(2 * rate**0.5, rel=1e-14)


def test_si12_needs_j_in_place_of_sigma_for_more_than_two_layers():
    """H_+ s' + eta g = 0 is j_i s_S = 0. At (0, 0, 1) all j_i are 0, and s_S = -s_Delta is not, whatever s_Lambda."""
    s = np.array([0.0, 0.0, 1.0])
    s_Delta, s_Lambda = s.prod() - 2.0, generator().standard_normal()
    s_S = (jacobian(s) ** 2).sum() * s_Lambda - s_Delta  # (S.I.13)
    assert (jacobian(s) * s_S == 0).all()
    assert s[2] * s_S == 2.0  # (S.I.12) as printed asks for 0
    assert (velocity(s, 2.0) == 0).all()


@pytest.mark.parametrize("size", [1e-150, 1e-100, 1e60])
@pytest.mark.parametrize("d", [2, 4])
def test_rules_scale_with_the_layers_wherever_the_result_can_be_represented(d, size):
    """j(size s) = size^{d-1} j(s): against the formula at size 1, where only the powers of `size` are left to take."""
    s = layers(d)
    for q in POWERS:
        for block in (False, True):
            exponent = (d - 1) * (1 - 2 / q)
            if abs(math.log10(size) * exponent) > 300 or math.log10(size) * (exponent + d) > 300:
                continue
            s_Delta = (size * s).prod() - 1.0
            expected = velocity(s, 0.0, q, block) / s.prod() * s_Delta * size**exponent
            np.testing.assert_allclose(velocity(size * s, 1.0, q, block), expected, rtol=1e-13)


def test_regularised_rule_of_tiny_layers():
    s = 1e-150 * layers(3)
    unit = velocity(s, 1.0, 2)
    np.testing.assert_allclose(host(modes.regularised(on(s), 1.0, 0)), velocity(s, 1.0, 1), rtol=1e-14)
    np.testing.assert_allclose(
        host(modes.regularised(on(s), 1.0, 1e-5)),
        unit * np.linalg.norm(jacobian(s) * 1e300) * 1e-295 * 1.00001,
        rtol=1e-13,
    )


@pytest.mark.parametrize(
    ("s", "q", "block", "expected"),
    [
        ([1e200] * 3, 1, False, [-1e200 / 3] * 3),  # s_bar is 1e600
        ([1e200] * 3, 1, True, [-1e200 / 3] * 3),
        ([1e-200] * 2, 2, False, [0.5**0.5] * 2),
        ([1.0, 1e-200, 1e-200], 1, False, [0.5, 5e199, 5e199]),  # j is (1e-400, 1e-200, 1e-200)
        ([0.0, 1e200, -1e200], 2, False, [-1.0, 0, 0]),  # j is (-1e400, 0, 0)
        ([0.0, 1e200, 1e200], 2, True, [3**-0.5, 0, 0]),
        ([0.0, 1e-200, 1e-200], 3, False, [10 ** (-400 / 3), 0, 0]),
    ],
)
def test_velocity_is_right_wherever_it_can_be_represented(s, q, block, expected):
    np.testing.assert_allclose(velocity(s, 1.0, q, block), expected, rtol=1e-13)


@pytest.mark.parametrize("q", [1, 1.5, 2, 3])
def test_velocity_in_float32_is_right_wherever_it_can_be_represented(q):
    for size in (1e-25, 1e12):
        s = (size * layers(3)).astype(np.float32)
        expected = velocity(s, 1.0, q)
        if abs(expected).max() < 1e38 and abs(expected).min() > 1e-37:
            actual = host(modes.velocity(on(s), 1.0, q))
            assert actual.dtype == np.float32
            np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_targets_far_from_the_layers_count():
    assert velocity([1e-200, 1e-200], 1e300, 2)[0] == pytest.approx(1e300 / 2**0.5, rel=1e-14)
    np.testing.assert_allclose(velocity([1e-200, 1e-200], 0.0, 1), -5e-201, rtol=1e-14)
    assert velocity([2.0**600, 2.0**-610], 2.0**-12, 1)[1] == -(2.0**-10 - 2.0**-12) / 2.0**600


@pytest.mark.parametrize("eps", [1e-300, 1e-150, 1.7e308])
@pytest.mark.parametrize("size", [1e-120, 1.0, 1e60])
def test_damping_of_any_size(eps, size):
    """Against mpmath: -(eps+1) s_Delta j / (eps + ||j||^2)."""
    s = size * layers(3)
    with mpmath.workdps(30):
        m, e = [mpmath.mpf(float(x)) for x in s], mpmath.mpf(eps)
        j = [m[1] * m[2], m[0] * m[2], m[0] * m[1]]
        factor = -(e + 1) * (m[0] * m[1] * m[2] - 1) / (e + sum(x * x for x in j))
        exact = [float(factor * x) for x in j]
    np.testing.assert_allclose(host(modes.regularised(on(s), 1.0, eps)), exact, rtol=1e-13)


def test_results_out_of_range_are_refused():
    big = on(np.full(3, 1e200))
    for call in (
        lambda: modes.velocity(big, 1.0, math.inf),
        lambda: modes.speed(big, 1.0, 3),
        lambda: modes.velocity(on(np.full(3, 1e-200)), 1.0, 1),
        lambda: modes.regularised(big, 1.0, 1e300),
        lambda: modes.invariants(big),
        lambda: modes.velocity(on(np.full(3, 1e20, np.float32)), 1.0, math.inf),
    ):
        with pytest.raises(FloatingPointError, match="a result is beyond the range of float"):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept(dtype):
    s = on(layers(3).astype(dtype))
    results = [modes.velocity(s, 2.0, 1.5), modes.velocity(s, 2.0, 1, True), modes.speed(s, 2.0), modes.jacobian(s)]
    results += [modes.regularised(s, 2.0, 0.1), modes.invariants(s), modes.invariants(s, 1, True)]
    assert {r.dtype for r in results} == {np.dtype(dtype)}


# --------------------------------------------------------------------------------------------------------- conservation


@pytest.mark.long
@FULL_AND_BLOCK
@pytest.mark.parametrize("q", POWERS)
@pytest.mark.parametrize("d", [2, 3, 5])
def test_invariants_are_conserved_in_continuous_time(d, q, block):
    """(6) for all full rules, and what footnote 4 says of the block rules, with ln at q = 1; from below and above."""
    s = layers(d)
    for s_star in (0.05, 2.0):
        path = flow(s, s_star, np.linspace(0, 1.5, 4), q, block)
        kept = host(modes.invariants(on(path.T.copy()), q, block))
        assert kept.shape == (d - 1, 4)
        np.testing.assert_allclose(kept, kept[:, :1] * np.ones(4), rtol=0, atol=1e-10)
        assert abs(path[-1] - s).max() > 0.005


def test_block_rules_do_not_conserve_what_full_rules_do():
    path = flow(layers(3), 2.0, [0, 1.5], 1, True).T.copy()
    assert abs(np.diff(host(modes.invariants(on(path))))).max() > 0.1
    path = flow(layers(3), 2.0, [0, 1.5], 2, True).T.copy()
    assert abs(np.diff(host(modes.invariants(on(path))))).max() > 0.02


def test_block_rules_conserve_the_ratio_and_the_difference_of_absolute_values():
    """Section 5: s_i / s_{i+1} of NGD-d; |s_i| - |s_{i+1}| of sqrt-NGD-d, which is its invariant at q = 2."""
    (a, b), s = flow(layers(3), 2.0, [0, 1.5], 1, True), layers(3)
    np.testing.assert_allclose(a[:-1] / a[1:], b[:-1] / b[1:], rtol=1e-11)
    invariants = host(modes.invariants(on(s), 2, True))
    np.testing.assert_allclose(invariants, abs(s)[:-1] - abs(s)[1:], rtol=1e-14)
    assert (host(modes.invariants(on(s), math.inf, True)) == host(modes.invariants(on(s)))).all()


def test_footnote_4_needs_absolute_values():
    """A negative layer at q = 2: s_i - s_{i+1} is not conserved, and at q = 1.5 the power has no real value."""
    a, b = flow(np.array([-0.5, -0.6, 0.9]), 2.0, [0, 1.5], 2, True)
    assert abs((b[1] - b[2]) - (a[1] - a[2])) > 0.3
    assert (abs(b[1]) - abs(b[2])) - (abs(a[1]) - abs(a[2])) == pytest.approx(0, abs=1e-11)
    with np.errstate(invalid="ignore"):
        assert np.isnan(a[0] ** (2 * (1 - 1 / 1.5)))


def test_full_rules_are_orthogonal_to_the_null_space_and_block_rules_are_not():
    """(6) as orthogonality: the null space is {v: j v = 0}."""
    s = layers(3)
    null = np.linalg.svd(jacobian(s)[None])[2][1:]
    for q in POWERS:
        v = velocity(s, 2.0, q)
        assert np.linalg.norm(null @ v) < 1e-14 * np.linalg.norm(v)
    for q in (1, 2):
        v = velocity(s, 2.0, q, True)
        assert np.linalg.norm(null @ v) > 0.1 * np.linalg.norm(v)


def test_golden_13_7():
    for q, expected in {math.inf: 1.936572140944, 1: 1.313904842215, 2: 1.626639847244}.items():
        assert flow(np.array([0.3, 0.5, 0.9]), 2.0, 1.0, q)[0].prod() == pytest.approx(expected, rel=0, abs=1e-11)


# ------------------------------------------------------------------------------------------------------ depth and power


def test_table_1():
    table = {(d, q): modes.exponent(d, q) for d in (1, 2, math.inf) for q in (1, 2, math.inf)}
    assert [table[1, q] for q in (1, 2, math.inf)] == [0, 0, 0]
    assert [table[2, q] for q in (1, 2, math.inf)] == [0, 0.5, 1]
    assert [table[math.inf, q] for q in (1, 2, math.inf)] == [0, 1, 2]


def test_exponent_and_effective_depth_are_equations_17_and_18():
    for d in range(1, 9):
        assert modes.exponent(d, 2) == pytest.approx(1 - 1 / d)
        assert modes.exponent(d, math.inf) == pytest.approx(2 - 2 / d)
        for q in (1, 1.5, 2, 7):
            assert modes.exponent(d, q) == pytest.approx(2 * (d - 1) * (q - 1) / (d * q))
            assert modes.effective_depth(d, q) == pytest.approx(d * q / (d + q - 1))
            assert modes.calibrated_rate(0.3, d, q) == pytest.approx(0.3 * d ** (1 - 1 / q))


def test_effective_depth_has_the_exponent_without_correction_its_limits_and_its_bound():
    for d in range(1, 9):
        assert modes.effective_depth(d, math.inf) == pytest.approx(d)
        assert modes.effective_depth(d, 1) == 1
        for q in (1, 1.5, 2, 7):
            depth = modes.effective_depth(d, q)
            assert modes.exponent(depth, math.inf) == pytest.approx(modes.exponent(d, q))
            assert depth <= min(d, q)
    assert modes.effective_depth(math.inf, 2) == 2
    assert modes.effective_depth(1e9, 2) < 2
    assert modes.effective_depth(math.inf, math.inf) == math.inf


@pytest.mark.parametrize("q", POWERS)
def test_map_velocity_is_equation_16_and_balanced_equation_17(q):
    for d in range(1, 6):
        for s in (layers(d), np.full(d, 0.8)):
            j, s_bar = jacobian(s), s.prod()
            rate = (j * velocity(s, 2.0, q, eta=0.3)).sum()
            assert rate == pytest.approx(-0.3 * (s_bar - 2) * np.linalg.norm(j) ** (2 * (1 - 1 / q)), rel=1e-13)
        p, eta_bar = modes.exponent(d, q), modes.calibrated_rate(0.3, d, q)
        assert rate == pytest.approx(float(modes.map_velocity(s_bar, 2.0, p, eta_bar)), rel=1e-13)


@pytest.mark.long
@pytest.mark.parametrize(("d", "q"), [(1, 3), (2, 2), (2, math.inf), (3, 1), (3, 2), (4, math.inf), (5, 1.5)])
@FULL_AND_BLOCK
def test_balanced_layers_follow_the_solution(d, q, block):
    p, eta_bar, t = modes.exponent(d, q), modes.calibrated_rate(1.0, d, q), np.array([0.3, 1.0, 2.5])
    for s, s_star in ((0.7, 2.0), (1.1, 0.3)):
        expected = modes.solution(t, s_star, s**d, p, eta_bar)
        np.testing.assert_allclose(flow(np.full(d, s), s_star, t, q, block).prod(1), expected, rtol=1e-10)


# ------------------------------------------------------------------------------------------------- the solution of (17)


@pytest.mark.parametrize("p", [0, 0.5, 1, 2])
@pytest.mark.parametrize("s_star", [0.2, 1, 3])
def test_solution_is_the_closed_forms(p, s_star):
    """Below (17), with any s0; at s0 = 0 as the paper prints them. They solve (17): central differences."""
    t, h = np.linspace(0.1, 3, 11), 1e-5
    s, slope = (
        modes.closed_form(t, s_star, 0.3 * s_star, p, 0.7),
        (
            modes.closed_form(t + h, s_star, 0.3 * s_star, p, 0.7)
            - modes.closed_form(t - h, s_star, 0.3 * s_star, p, 0.7)
        )
        / (2 * h),
    )
    np.testing.assert_allclose(slope, modes.map_velocity(s, s_star, p, 0.7), rtol=1e-7, atol=1e-9)
    for x0 in (1e-3, 0.1, 0.7):
        t = np.linspace(0, 3, 11) / s_star**p * (1 + p / x0 / 10 if p > 1 else 1)
        np.testing.assert_allclose(
            modes.solution(t, s_star, x0 * s_star, p), modes.closed_form(t, s_star, x0 * s_star, p), rtol=1e-12
        )
    t = np.linspace(0, 9, 10)
    np.testing.assert_allclose(modes.solution(t, s_star, 0, 0), s_star * (1 - np.exp(-t)), rtol=1e-14)
    np.testing.assert_allclose(
        modes.solution(t, s_star, 0, 0.5), s_star * np.tanh(s_star**0.5 * t / 2) ** 2, rtol=1e-14
    )


def G(x, p):
    """The antiderivative of x^{-p} / (1 - x) by THEORY 9, by partial fractions at p = 1, 2; for x > 1 by y = 1 / x."""
    if x > 1:
        return G(1 / x, 1 - p)
    if p in (1, 2):
        return mpmath.log(x / (1 - x)) - (1 / x if p == 2 else 0)
    return x ** (1 - p) / (1 - p) * mpmath.hyp2f1(1 - p, 1, 2 - p, x)


@functools.cache
def points(p, x0):
    """Pairs of x and the time T, to 60 digits, at which x' = (1 - x) x^p has it, from x0."""
    between = [
        1e-40,
        1e-8,
        0.01,
        0.3,
        0.4999,
        0.5001,
        0.9,
        1 - 1e-6,
        1 - 1e-12,
        1 + 1e-12,
        1 + 1e-6,
        1.3,
        2.1,
        100,
        1e5,
    ]
    near = [x0 * (1 + 1e-9), x0 * 1.5] if x0 < 1 else [x0 * (1 - 1e-9)]
    with mpmath.workdps(60):
        p, x0 = mpmath.mpf(p), mpmath.mpf(x0)
        start = G(x0, p) if x0 else 0
        X = [mpmath.mpf(x) for x in between + near if min(x0, 1) < x < max(x0, 1)]
        return [(x, G(x, p) - start) for x in X]


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("x0", [0, 1e-300, 1e-30, 1e-3, 0.5, 3, 1e6])
def test_solution_and_its_inverse_to_the_last_digits(p, x0):
    """Against 60 digits: 12 eps times the condition in t and s0 (x in T: x' T / x), at each end of all scales."""
    if x0 == 0 and p >= 1:
        return  # it stays there
    for x, T in points(p, x0):
        with mpmath.workdps(60):
            rate = lambda x: (1 - x) * x ** mpmath.mpf(p)  # noqa: E731
            start = abs(rate(x) / rate(mpmath.mpf(x0)) * x0 / x) if x0 else 0
            condition, inverse = float(1 + abs(rate(x) * T / x) + start), float(abs(x / rate(x) / T) * (1 + start))
            if EPS * condition < 1e-4:  # else T as a float says little of x
                rounded = x - (T - mpmath.mpf(float(T))) * rate(x)  # x at that float
                assert abs(modes.solution(float(T), 1.0, x0, p) / rounded - 1) < 12 * EPS * condition, float(x)
            assert abs(modes.time_to(float(x), 1.0, x0, p) / T - 1) < 12 * EPS * (1 + inverse), float(x)


def test_solution_stays_between_inverts_and_composes_over_all_scales():
    """4000 points, s0 / s_star from 1e-300 to 1e20, p at and next to 0, 1, 2: errors of few eps times conditions."""
    rng, n = generator(), 4000
    p = np.where(
        rng.random(n) < 0.5, rng.choice([0, 1e-12, 1 - 1e-15, 1, 1 + 1e-15, 2 - 1e-15, 2], n), rng.uniform(0, 2, n)
    )
    x0 = 10 ** np.where(rng.random(n) < 0.5, rng.uniform(-300, 20, n), rng.uniform(-2, 1, n))
    T = modes.time_to(x0 ** rng.random(n), 1, x0, p) * 10 ** rng.uniform(-1, 1, n)
    x = modes.solution(T, 1, x0, p)
    assert ((x >= np.minimum(x0, 1) * (1 - 1e-14)) & (x <= np.maximum(x0, 1) * (1 + 1e-14))).all()
    rate, rate0 = abs(1 - x) * x ** (p - 1), abs(1 - x0) * x0 ** (p - 1)  # of ln x
    early = (x != x0) & (abs(1 - x) > 1e-15)
    error = abs(modes.time_to(x[early], 1, x0[early], p[early]) - T[early])
    assert (error < 6 * EPS * (T + 1 / np.where(early, rate, 1) + 1 / rate0)[early]).all()
    halves = modes.solution(T / 2, 1, modes.solution(T / 2, 1, x0, p), p)
    assert (abs(halves / x - 1) < 8 * EPS * (1 + rate * T + rate / rate0)).all()


@pytest.mark.parametrize("p", [1e-9, 0.1, 1 / 3])
def test_the_condition_in_p_counts_too(p):
    """1 - p is rounded where p < 1/2, which moves T = x^{1-p} / (1-p) by ln x eps: p, as x, is a float."""
    for x in (1e-250, 1e-40):
        with mpmath.workdps(60):
            T = G(mpmath.mpf(x), mpmath.mpf(p))
        assert abs(modes.time_to(x, 1.0, 0, p) / T - 1) < EPS * (4 - math.log(x) / 4)


@pytest.mark.parametrize("p", [0, 0.25, 1, 4 / 3, 2])
@pytest.mark.parametrize("x0", [0.1, 5.0])
def test_solution_solves_the_differential_equation(p, x0):
    """Independent of any antiderivative: T is the integral of 1 / ((1 - x) x^p), by quadrature with 30 digits."""
    with mpmath.workdps(30):
        for x in (x0**0.5, x0**0.1):
            T = mpmath.quad(lambda u: 1 / ((1 - u) * u ** mpmath.mpf(p)), [x0, x])
            assert modes.time_to(x, 1.0, x0, p) == pytest.approx(float(T), rel=1e-14)
            assert modes.solution(float(T), 1.0, x0, p) == pytest.approx(x, rel=1e-14)


@pytest.mark.parametrize("p", EXPONENTS)
def test_solution_scales_and_inverts(p):
    """x(T) alone matters, with T = eta_bar s_star^p t; time_to inverts solution, from either side."""
    for s_star in (1e-2, 7.0):
        for x0 in (0.01, 0.6, 1.7):
            t = np.array([0.0, 0.2, 1.0, 3.0]) / (0.4 * s_star**p)
            s = modes.solution(t, s_star, x0 * s_star, p, 0.4)
            expected = s_star * modes.solution(0.4 * s_star**p * t, 1.0, x0, p)
            np.testing.assert_allclose(s, expected, rtol=1e-13)
            np.testing.assert_allclose(modes.time_to(s / s_star, s_star, x0 * s_star, p, 0.4), t, rtol=1e-12)
            assert s[0] == x0 * s_star


def test_half_max_times():
    """The black circles of Huh Fig. 2, eta_bar = 1."""
    for s_star in (0.3, 1, 4):
        for p, x0, T in [
            (0, 0, math.log(2)),
            (0.5, 0, 2 * math.atanh(0.5**0.5)),
            (1, 0.01, math.log(99)),
            (2, 0.01, 98 + math.log(99)),
            (0.75, 0, 3.8468227768),
            (1.5, 0.01, 18.7336493538),
        ]:
            t = modes.time_to(0.5, s_star, x0 * s_star, p)
            assert t * s_star**p == pytest.approx(T, rel=1e-10 if p in (0.75, 1.5) else 1e-14)
            assert modes.solution(t, s_star, x0 * s_star, p) == pytest.approx(s_star / 2, rel=1e-13)
    for number, T in [(0.6931471806, 0), (1.7627471740, 0.5), (4.5951198501, 1), (102.5951198501, 2)]:
        assert modes.time_to(0.5, 1, 0 if T < 1 else 0.01, T) == pytest.approx(number, rel=0, abs=6e-11)


def test_time_scales_as_a_power_of_the_target_only_at_fixed_s0_over_s_star():
    """Huh 4.2, THEORY 11: at a fixed s0 the times to half the target scale otherwise, by the escape from s0."""
    s_star = np.array([1.0, 10.0])
    for p in (0.5, 1, 2):
        fixed_ratio, fixed_s0 = (modes.time_to(0.5, s_star, s0, p) for s0 in (1e-6 * s_star, 1e-6))
        assert np.log10(fixed_ratio[0] / fixed_ratio[1]) == pytest.approx(p, abs=1e-12)
        if p < 1:
            assert np.log10(fixed_s0[0] / fixed_s0[1]) == pytest.approx(p, abs=1e-3)
        else:
            assert abs(np.log10(fixed_s0[0] / fixed_s0[1]) - p) > 0.05
    assert np.log10(fixed_s0[0] / fixed_s0[1]) == pytest.approx(1, abs=1e-4)  # p = 2: 1 / (s0 s_star)


@pytest.mark.parametrize("p", [0, 0.5, 0.99, 1, 1.5, 1.9])
def test_escape_time_is_the_leading_term(p):
    """Huh 4.2: -ln s0 at p = 1 and s0^{1-p} for p > 1; time_to less it converges as s0 -> 0, as x0^{2-p}."""
    s0 = np.array([1e-100, 1e-120, 1e-140]) ** (1 / max(p, 1))
    escape = modes.escape_time(2.0, s0, p, 0.5)
    expected = -np.log(s0 / 2) if p == 1 else (1 - (s0 / 2) ** (1 - p)) / (1 - p)
    np.testing.assert_allclose(escape, expected / (0.5 * 2**p), rtol=1e-12)
    s0 = 2 * np.array([1e-4, 1e-8, 1e-12]) ** (1 / (2 - p))
    rest = modes.time_to(0.5, 2.0, s0, p, 0.5) - modes.escape_time(2.0, s0, p, 0.5)
    noise = 1e-14 * modes.escape_time(2.0, s0, p, 0.5)
    assert abs(rest[1] - rest[0]) < 1e-3
    assert abs(rest[2] - rest[1]) < 1e-6 + noise[2]


def test_at_p_2_the_escape_takes_a_logarithm_longer():
    """T = 1/x0 - 1/x + ln(x (1-x0) / (x0 (1-x))): only the leading term is finite-depth-like."""
    s0 = np.array([1e-3, 1e-6])
    rest = modes.time_to(0.5, 1.0, s0, 2) - modes.escape_time(1.0, s0, 2)
    np.testing.assert_allclose(rest, -1 - np.log(s0), atol=2e-3)


def test_escape_from_zero_is_finite_only_below_p_1():
    for p in EXPONENTS:
        finite = p < 1
        assert math.isfinite(modes.escape_time(1.0, 0, p)) == math.isfinite(modes.time_to(0.5, 1.0, 0, p)) == finite
        assert (modes.solution(1e3, 1.0, 0, p) > 0) == (finite and p < 0.999)  # 1e-9 below 1 it takes longer
    assert modes.escape_time(1.0, 0, 0.75) == 4


def test_sqrt_ngd_escapes_from_zero_in_finite_time_that_grows_with_depth():
    """Huh 4.2: d / s_star^{1-1/d} over eta_bar = eta d^{1/2} to leave the saddle, so d^{1/2} over eta at s_star = 1."""
    for d in (2, 4, 9, 100):
        p, eta_bar = modes.exponent(d, 2), modes.calibrated_rate(1.0, d, 2)
        assert modes.escape_time(1.0, 0, p, eta_bar) == pytest.approx(d**0.5, rel=1e-13)
        assert d**0.5 < modes.time_to(0.9, 1.0, 0, p, eta_bar) < d**0.5 + 3


@pytest.mark.parametrize("d", [2, 4, 9])
def test_sqrt_ngd_leaves_zero_as_a_power_of_time(d):
    """Huh 4.2: t^{1/(1-p)} = t^d near zero, with the factor (1-p)^d s_star^d, eta_bar = 1."""
    p, t = modes.exponent(d, 2), np.array([1e-6, 1e-3])
    np.testing.assert_allclose(modes.solution(t, 3.0, 0, p), ((1 - p) * 3.0 * t) ** d, rtol=2e-3**d + 1e-12)


def test_zero_is_a_second_solution_below_p_1_and_a_tiny_seed_selects_the_other():
    """THEORY 9: the velocity at 0 is 0, so layers at 0 stay; from 1e-9 each they follow the solution from s0 = 0."""
    assert (flow(np.zeros(2), 1.0, 5.0, 2) == 0).all()
    t = np.array([0.5, 2.0, 5.0])
    seeded = flow(np.full(2, 1e-9), 1.0, t, 2).prod(1)
    from_zero = modes.solution(t, 1.0, 0.0, 0.5, modes.calibrated_rate(1.0, 2, 2))
    np.testing.assert_allclose(seeded, from_zero, rtol=3e-8)


def test_limits_of_the_solution():
    assert modes.solution(0, 1.0, 0.3, 1.5) == 0.3
    assert modes.solution(5, 1.0, 0, 1) == 0
    assert modes.solution(1e3, [2, 2, 2], [2, 0.5, 9], [0.3, 1, 2]).tolist() == pytest.approx([2, 2, 2], rel=1e-3)
    assert modes.solution(1e200, 1e100, 1e-100, 2) == 1e100  # T overflows
    np.testing.assert_allclose(modes.solution([0, 1], 2.0, -1.0, 0), [-1, 2 - 3 / math.e], rtol=1e-15)
    assert modes.time_to(0.25, 2.0, -1.0, 0) == pytest.approx(math.log(2))
    assert modes.solution(np.zeros((3, 1)), 1.0, [0.1, 0.2], 1).shape == (3, 2)


def test_solution_where_powers_of_the_target_are_out_of_range():
    """s_star^p is 1e390, 1e310 and 1e-400; T is of the size of 1 or 0."""
    assert modes.solution(0, 1e300, 0.5, 1.3) == 0.5
    T = 1e-308 * 10.0**2 * 1e308
    s = modes.solution(1e-308, 1e200, 1e198, 1.55)
    assert s == pytest.approx(1e200 * modes.solution(T, 1.0, 0.01, 1.55), rel=1e-12)
    assert modes.time_to(0.5, 1e200, 1e198, 1.55) * 1e305 == pytest.approx(
        modes.time_to(0.5, 1.0, 0.01, 1.55) * 1e-5, rel=1e-12
    )
    assert modes.solution(1.0, 1e-200, 1e-201, 2) == 1e-201  # at rest but for 1e-400
    assert modes.solution(1e-170, 1.0, 0.0, 0.5) == 0  # t^2 / 4 underflows
    assert modes.solution(1e300, 1e-200, 1e-201, 2, 1e100) == pytest.approx(1e-201, rel=1e-13)


def test_starts_and_times_out_of_range_are_refused():
    apart = "s0 and s_star are too far apart: their ratio is out of range"
    for s_star, s0 in ((1e200, 1e-200), (1e-200, 1e200)):
        for call in (
            lambda s0=s0, s_star=s_star: modes.solution(1.0, s_star, s0, 1),
            lambda s0=s0, s_star=s_star: modes.time_to(0.5, s_star, s0, 0),
            lambda s0=s0, s_star=s_star: modes.escape_time(s_star, s0, 1.5),
        ):
            with pytest.raises(FloatingPointError, match=apart):
                call()
    assert modes.solution(1.0, 1e-200, 0.0, 1) == 0
    with pytest.raises(FloatingPointError, match=r"eta_bar s_star\^p t underflows"):
        modes.solution(1e-10, 1e-158, 1e149, 2)
    with pytest.raises(FloatingPointError, match="s_bar' overflows"):
        modes.map_velocity(1e200, 1.0, 2)


def test_time_to_what_is_never_reached_is_infinite():
    never = modes.time_to([0.5, 1, 1.5, 0.2, 3, 1], 1.0, [1, 0.5, 0.5, 0.3, 2, 2], 1)
    assert (never == math.inf).all()
    assert modes.time_to([0.5, 1, 3], 1.0, [0.5, 1, 3], [0, 1, 2]).tolist() == [0, 0, 0]  # already there


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"s": np.ones((0, 2))}, r"s is .* float64 \(0, 2\); expected an array of float32 or float64 \(d, 2\)"),
        ({"s": np.ones(3, int)}, r"s is .* int64 \(3,\); expected an array of float32 or float64 \(d,\)"),
        ({"s": np.ma.array([1.0, 2.0])}, r"s is MaskedArray \(2,\); expected an array of"),
        ({"s": [1.0, 2.0]}, r"s is a list of 2; expected an array of float32 or float64 \(d,\)"),
        ({"s": np.array([1, math.nan])}, "s has non-finite entries"),
        ({"s_star": -1.0}, "s_star has an entry that is negative or not finite"),
        ({"s_star": math.inf}, "s_star has an entry that is negative or not finite"),
        ({"s_star": np.ones(3)}, r"s_star has shape \(3,\); expected a number or \(\)"),
        ({"eta": 0}, "eta is 0; expected a finite number > 0"),
        ({"q": 0.5}, r"q is 0.5; expected a number in \[1, inf\]"),
        ({"q": math.nan}, "q is nan"),
    ],
)
def test_bad_layers_are_refused(arguments, message):
    given = {"s": np.ones(2), "s_star": 1.0, "eta": 1.0, "q": 2} | arguments
    given = {name: on(value) if type(value) is np.ndarray else value for name, value in given.items()}
    for rule in (modes.velocity, modes.speed):
        with pytest.raises(ValueError, match=message):
            rule(**given)


def test_bad_damping_and_logarithms_of_zero_are_refused():
    for eps in (-1, math.inf):
        with pytest.raises(ValueError, match=f"eps is {eps}; expected a finite number >= 0"):
            modes.regularised(on(np.ones(2)), 1.0, eps)
    with pytest.raises(ValueError, match="s has a zero; expected none"):
        modes.invariants(on(np.array([0.0, 1])), 1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"s_star": [1, -1]}, "s_star is -1; expected finite numbers >= 0"),
        ({"s_star": math.inf}, "s_star is inf; expected finite numbers >= 0"),
        ({"p": 2.5}, r"p is 2.5; expected finite numbers in \[0, 2\]"),
        ({"p": math.nan}, "p is nan"),
        ({"s0": math.inf}, "s0 is inf; expected finite numbers"),
        ({"eta_bar": 0}, "eta_bar is 0; expected finite numbers > 0"),
        ({"s0": [0.1, 0.2], "p": [1, 1, 2]}, r"the shapes are s0 \(2,\), .*p \(3,\).*; expected shapes that broadcast"),
    ],
)
def test_bad_modes_are_refused(arguments, message):
    given = {"s_star": 1.0, "s0": 0.1, "p": 1.0} | arguments
    for call in (
        lambda: modes.solution(1.0, **given),
        lambda: modes.time_to(0.5, **given),
        lambda: modes.escape_time(**given),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_bad_times_fractions_and_depths_are_refused():
    for call, message in [
        (lambda: modes.solution(-1, 1, 0.1, 1), "t is -1; expected finite numbers >= 0"),
        (lambda: modes.time_to(math.nan, 1, 0.1, 1), "fraction is nan; expected finite numbers"),
        (lambda: modes.time_to(0.5, 0, 0.1, 1), "s_star is 0; expected finite numbers > 0"),
        (lambda: modes.escape_time(0, 0.1, 1), "s_star is 0; expected finite numbers > 0"),
        (lambda: modes.escape_time(1, -0.1, 1), "s0 is -0.1 where p > 0; expected numbers >= 0"),
        (lambda: modes.exponent(0, 2), r"d is 0; expected a number in \[1, inf\]"),
        (lambda: modes.effective_depth(2, 0.9), "q is 0.9"),
        (lambda: modes.calibrated_rate(-1, 2, 2), "eta is -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_times_on_the_device_are_refused():
    t = on(np.ones(2))
    if isinstance(t, np.ndarray):
        assert modes.solution(t, 1.0, 0.5, 1).shape == (2,)
    else:
        with pytest.raises(ValueError, match="t is on the GPU; expected a number or a NumPy array"):
            modes.solution(t, 1.0, 0.5, 1)


@pytest.mark.parametrize(
    ("s0", "p", "message"),
    [
        (0.1, 1.5, "p is 1.5; expected 0, 1/2, 1 or 2, or call solution"),
        (1.0, 1, "s0 is not below s_star"),
        ([0.1, 2.0], 0, "s0 is not below s_star"),
        (0.1, 3, r"p is 3; expected finite numbers in \[0, 2\]"),
    ],
)
def test_closed_forms_are_refused_where_they_do_not_hold(s0, p, message):
    with pytest.raises(ValueError, match=message):
        modes.closed_form(1.0, 1.0, s0, p)


# --------------------------------------------------- below the saddle, without a target, and two layers out of balance

BELOW = [-1e-6, -0.3, -2.0, -50.0]
SINKING = [0.25, 0.5, 0.75, 0.999, 1.0, 1.001, 1.5, 2.0]


def time_below(p, u0, u):
    """The integral of 1 / ((1 + u) u^p) from u to u0, in ln u, in which it is smooth."""
    with mpmath.workdps(30):
        pieces = mpmath.linspace(mpmath.log(u), mpmath.log(u0), 9)
        return mpmath.quad(lambda v: mpmath.exp((1 - mpmath.mpf(p)) * v) / (1 + mpmath.exp(v)), pieces)


@pytest.mark.long
@pytest.mark.parametrize("p", SINKING)
@pytest.mark.parametrize("s0", BELOW)
def test_a_mode_below_the_saddle_rises_by_its_own_integral(s0, p):
    """To a few rounding errors of ln u and of the time, u = -s_bar / s_star."""
    s_star, eta_bar, seen = 2.0, 1.3, 0
    for t in (1e-6, 0.01, 0.1, 0.4, 5.0, 100.0):
        s_bar = float(modes.solution(t, s_star, s0, p, eta_bar))
        if s_bar > -1e-300:  # it has come to the saddle, or next to it
            continue
        u0, u, T = -mpmath.mpf(s0) / 2, -mpmath.mpf(s_bar) / 2, mpmath.mpf(eta_bar) * mpmath.mpf(2) ** p * t
        speed = (1 + u) * u ** (mpmath.mpf(p) - 1)  # of ln u
        error, size = float(abs(time_below(p, u0, u) - T) * speed), 1 + abs(float(mpmath.log(u))) + float(T * speed)
        eps, own = np.finfo(float).eps, float(speed * T / t)
        assert error < 16 * eps * size
        if p in (0.5, 1, 2):
            assert float(modes.closed_form(t, s_star, s0, p, eta_bar)) == pytest.approx(s_bar, rel=1e-13 * size)
        assert float(modes.time_to(s_bar / s_star, s_star, s0, p, eta_bar)) == pytest.approx(
            t, rel=1e-13, abs=16 * eps * size / own
        )
        seen += 1
    assert seen


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
def test_a_mode_from_below_passes_the_saddle_in_time_and_goes_on_as_from_zero(p):
    arrival = float(modes.time_to(0.0, 2.0, -0.3, p, 1.3))
    assert arrival == pytest.approx(float(time_below(p, 0.15, 1e-80)) / (1.3 * 2**p), rel=1e-12)
    assert -1e-6 < modes.solution(arrival * (1 - 1e-9), 2.0, -0.3, p, 1.3) < 0
    for later in (0.1, 1.0):
        expected = modes.solution(later, 2.0, 0.0, p, 1.3)
        assert modes.solution(arrival + later, 2.0, -0.3, p, 1.3) == pytest.approx(expected, rel=1e-12)
    half = float(modes.time_to(0.5, 2.0, -0.3, p, 1.3))
    assert half == pytest.approx(arrival + float(modes.time_to(0.5, 2.0, 0.0, p, 1.3)), rel=1e-14)
    assert modes.closed_form([0.2, 3.0], 2.0, -0.3, 0.5) == pytest.approx(modes.solution([0.2, 3.0], 2.0, -0.3, 0.5))


@pytest.mark.parametrize("p", [1, 1.5, 2])
def test_a_mode_from_below_never_passes_the_saddle_at_large_exponents(p):
    s_bar = modes.solution([1.0, 100.0, 1e4], 2.0, -0.3, p)
    assert (np.diff(s_bar) > 0).all()
    assert s_bar[-1] <= 0
    assert math.isinf(modes.time_to(0.0, 2.0, -0.3, p))
    assert math.isinf(modes.time_to(0.5, 2.0, -0.3, p))


@pytest.mark.parametrize("p", [0, 0.5, 1, 2, 0.7])
@pytest.mark.parametrize("s0", [-3.0, -0.2, 0.0, 0.4, 5.0])
def test_a_mode_without_target_decays(s0, p):
    """s' = -eta_bar s |s|^p, with an integrator and, where it is listed, the closed form."""
    t = np.array([0.0, 0.3, 2.0])
    solved = solve_ivp(
        lambda _, s: modes.map_velocity(s, 0.0, p, 0.8), (0, 2), [s0], "DOP853", t, rtol=1e-13, atol=1e-15
    )
    s_bar = modes.solution(t, 0.0, s0, p, 0.8)
    np.testing.assert_allclose(s_bar, solved.y[0], rtol=1e-10, atol=1e-14)
    if p != 0.7:
        np.testing.assert_allclose(modes.closed_form(t, 0.0, s0, p, 0.8), s_bar, rtol=1e-14)


def test_the_map_velocity_is_that_of_balanced_layers_below_zero():
    s = np.array([[-0.5, -0.5], [0.5, 0.5], [0.5, 0.5]])
    moved = (modes.jacobian(s) * modes.velocity(s, 2.0, 2)).sum(0)
    expected = modes.map_velocity(-(0.5**3), 2.0, modes.exponent(3, 2), modes.calibrated_rate(1.0, 3, 2))
    np.testing.assert_allclose(moved, expected, rtol=1e-13)


STARTS = [(0.3, 0.3), (0.0, 0.3), (0.02, 1.5), (-0.4, 0.9), (-2.0, -0.1), (1.4, -1.3), (3.0, 2.9), (-0.5, 0.5)]


@pytest.mark.parametrize("q", [1, math.inf])
@pytest.mark.parametrize("s_star", [0.0, 0.5, 3.0])
def test_two_layers_out_of_balance_in_time(q, s_star):
    starts = [start for start in STARTS if q != 1 or start != (-0.5, 0.5)]
    s, t = np.array(starts).T, 1.3
    solved = solve_ivp(
        lambda _, v: modes.velocity(v.reshape(2, -1), s_star, q, eta=0.7).ravel(), (0, t), s.ravel(), "DOP853",
        rtol=1e-13, atol=1e-15,
    )  # fmt: skip
    result = host(modes.unbalanced(t, on(s), s_star, q, 0.7))
    np.testing.assert_allclose(result, solved.y[:, -1].reshape(2, -1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result[0] ** 2 - result[1] ** 2, s[0] ** 2 - s[1] ** 2, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(host(modes.unbalanced(0.0, on(s), s_star, q)), s, rtol=1e-14, atol=1e-15)


def test_two_layers_to_the_last_digits():
    """Against the Riccati solution in 40 digits: s_1 = 1e-3, s_2 = 2, where sums cancel in double precision."""
    with mpmath.workdps(40):
        s, s_star, t = (mpmath.mpf("0.001"), mpmath.mpf(2)), mpmath.mpf(3), mpmath.mpf("0.5")
        A, B = s[0] + s[1], s[0] - s[1]
        r = mpmath.sqrt(4 * s_star**2 + (A * B) ** 2)
        high, low, E = 2 * s_star + r, 2 * s_star - r, mpmath.exp(-r * t)
        x = A * A
        A_t = mpmath.sqrt((high * (x - low) - low * (x - high) * E) / ((x - low) - (x - high) * E))
        expected = [float((A_t + A * B / A_t) / 2), float((A_t - A * B / A_t) / 2)]
    result = host(modes.unbalanced(0.5, on(np.array([0.001, 2.0])), 3.0))
    np.testing.assert_allclose(result, expected, rtol=2e-15)


def test_balanced_layers_are_those_of_the_solution():
    s_bar = host(modes.unbalanced(0.8, on(np.array([0.2, 0.2])), 2.0)).prod()
    assert s_bar == pytest.approx(float(modes.solution(0.8, 2.0, 0.04, 1, 2.0)), rel=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(s=np.ones(3)), "s has 3 layers and q is inf; expected 2 layers, and 1 or inf"),
        (dict(q=2), "s has 2 layers and q is 2; expected 2 layers, and 1 or inf"),
        (dict(t=-1), "t has an entry that is negative or not finite"),
        (dict(s_star=-1.0), "s_star has an entry that is negative"),
        (dict(s=np.array([0.5, -0.5]), q=1), "s has s_1 = -s_2, with which NGD runs into the saddle"),
    ],
)
def test_unbalanced_layers_that_are_refused(arguments, message):
    given = dict(t=1.0, s=np.array([0.5, 0.2]), s_star=1.0) | arguments
    with pytest.raises(ValueError, match=message):
        modes.unbalanced(given.pop("t"), on(given.pop("s")), **given)
