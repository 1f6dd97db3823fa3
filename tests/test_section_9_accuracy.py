"""THEORY 9: updates of deep linear networks to the condition number of J, not of K = J^T J, and at any scale."""

import functools
import math
import re
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from support import generator, host, on, relative

from refngd import deep_linear as dl
from refngd import experiments as ex
from refngd import linear_training as lt
from refngd import modes
from refngd.jacobian import flatten

EPS = {np.float64: 2.0**-52, np.float32: 2.0**-23}
CONDITIONS = {np.float64: [10, 1e3, 4e3, 1e5, 1e7, 1e9, 1e12], np.float32: [10, 1e2, 1e4]}


def problem(d, white, cond, seed=0, dtype=np.float64, spread=0.5):
    """d layers (3, 3), not aligned with the map wanted; J has the condition number `cond` up to a factor of 30 or so.

    spread: 0 for balanced layers, where eigenvalues of K come in pairs.
    """
    rng = generator(seed)
    Q = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(d + 1)]
    s = (
        np.array([1.0, 1 / cond, 1 / cond]) ** (1 / (d - 1))
        if spread == 0
        else np.geomspace(1, 1 / cond, 3) ** (1 / (d - 1))
    )
    w = [(Q[i + 1] * s * rng.uniform(1 - spread, 1, 3)) @ Q[i].T for i in range(d)]
    w_star, S = rng.standard_normal((3, 3)), np.diag([1.0, 0.5, 2.0]) + 0.1 * rng.standard_normal((3, 3))
    data = dl.Statistics(on(w_star.astype(dtype)), None if white else on(S.astype(dtype)))
    return on([w_i.astype(dtype) for w_i in w]), data


def exactly(w, data, q, rho=0.0, rcond=0.0):
    """Lambda and u of a full rule, from the eigenvalues of K with 80 digits, 40 of them in singular values; cond(J).

    As `mpmath` matrices, of the weights as they are in their dtype. rcond: of singular values.
    """
    with mpmath.workdps(80):
        w, w_star, S = (
            [mpmath.matrix(host(a).astype(float).tolist()) for a in b] for b in (w, [data.w_star], [data.root])
        )
        L, R = dl._chains(_Mp.of(w), _Mp(S[0]), _Mp(mpmath.eye(w[-1].rows)))
        L, R = [l.a for l in L], [r.a for r in R]
        E = (L[0] * w[0] - w_star[0]) * S[0]
        n_out, n_in = E.rows, E.cols
        index = [(b, a) for a in range(n_in) for b in range(n_out)]  # input-major
        K = mpmath.zeros(len(index))
        for l, r in zip(L, R, strict=True):
            A, B = l * l.T, r.T * r
            for i, (b, a) in enumerate(index):
                for j, (c, e) in enumerate(index):
                    K[i, j] += B[a, e] * A[b, c]
        k, V = mpmath.eigsy(K)
        live = [x > (rcond**2) * max(k) for x in k]
        c = V.T * mpmath.matrix([E[b, a] for b, a in index])
        c = mpmath.matrix(
            [y * (x + rho) ** (-1 / mpmath.mpf(q)) if alive else 0 for x, y, alive in zip(k, c, live, strict=True)]
        )
        columns, Lambda = V * c, mpmath.matrix(n_out, n_in)
        for i, (b, a) in enumerate(index):
            Lambda[b, a] = columns[i]
        cond = mpmath.sqrt((max(k) + rho) / (min(x for x, alive in zip(k, live, strict=True) if alive) + rho))
        return Lambda, [l.T * Lambda * r.T for l, r in zip(L, R, strict=True)], float(cond)


class _Mp:
    """A matrix of mpmath with the operator @."""

    def __init__(self, a):
        self.a = a

    @classmethod
    def of(cls, matrices):
        return [cls(a) for a in matrices]

    def __matmul__(self, other):
        return _Mp(self.a * other.a)


def error(actual, exact):
    """||actual - exact|| / ||exact|| over a list of matrices."""
    with mpmath.workdps(80):
        pairs = [
            (mpmath.mpf(float(x)), y)
            for a, b in zip(host(actual), exact, strict=True)
            for x, y in zip(np.ravel(a), b, strict=True)
        ]
        return float(mpmath.sqrt(sum((x - y) ** 2 for x, y in pairs) / sum(y**2 for _, y in pairs)))


def close(actual, expected, tolerance):
    """Of the largest entry, which may be far from 1."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * abs(expected).max())


def spy(taken, name, route):
    def called(*args):
        taken.append(name)
        return route(*args)

    return called


@pytest.fixture
def routes(monkeypatch):
    """The names of the routes that are taken, in order."""
    taken = []
    for name in ("inverse", "eigen", "_by_singular_values", "_one_layer", "_two_layers"):
        monkeypatch.setattr(dl, name, spy(taken, name, getattr(dl, name)))
    return taken


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("spread", [0.5, 0], ids=["", "paired"])
@pytest.mark.parametrize("white", [True, False], ids=["white", "raw"])
@pytest.mark.parametrize("d", [2, 3, 4])
@pytest.mark.parametrize("q", [1, 1.5, 2, 3])
def test_updates_are_right_to_the_condition_number_of_j(q, d, white, spread, dtype):
    for cond in CONDITIONS[dtype]:
        w, data = problem(d, white, cond, dtype=dtype, spread=spread)
        _, exact, kappa = exactly(w, data, q)
        assert cond / 3 < kappa < 100 * cond
        assert error(dl.Rule(q).update(w, data), exact) <= 15 * EPS[dtype] * kappa, cond


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_multipliers_are_right_to_the_condition_number_of_k(q, d):
    """They are K^{-1/q} E, of which the smallest modes make most, and each of these is right to cond(J)."""
    for cond in (10, 1e5, 1e9):
        w, data = problem(3, True, cond)
        w, data = w[:d], dl.Statistics(data.w_star, None if d < 3 else on(np.eye(3)))
        exact, _, kappa = exactly(w, data, q)
        assert error([dl.multiplier(w, data, q)], [exact]) <= 30 * EPS[np.float64] * kappa


@pytest.mark.parametrize("rho", [1e-3, 1e-9, 1e-15])
@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("d", [2, 3])
def test_damped_updates_are_right_to_the_condition_number_of_the_damped_root(q, d, rho):
    w, data = problem(d, True, 1e7)
    _, exact, kappa = exactly(w, data, q, rho)
    assert error(dl.Rule(q, rho=rho).update(w, data), exact) <= 15 * EPS[np.float64] * kappa


def test_k_serves_where_its_eigenvectors_can_be_mended_and_j_elsewhere(routes):
    for q, cond, taken in [
        (1, 1e2, ["inverse"]),
        (1, 1e4, ["inverse", "eigen"]),
        (1, 1e8, ["inverse", "eigen", "_by_singular_values"]),
        (2, 10, ["eigen"]),
        (2, 1e4, ["eigen"]),
        (2, 1e8, ["eigen", "_by_singular_values"]),
    ]:
        dl.Rule(q).update(*problem(3, False, cond))
        assert routes == taken, (q, cond)
        routes.clear()
    dl.Rule(2, rcond=1e-4).update(*problem(3, False, 1e2))  # K with its damping no longer says what is small
    assert routes == ["_by_singular_values"]
    routes.clear()
    dl.Rule(2).update(*problem(2, True, 1e8))
    dl.Rule(2, block=True).update(*problem(2, False, 1e8))
    assert routes == ["_two_layers", "_one_layer", "_one_layer"]
    routes.clear()
    dl.Rule(math.inf).update(*problem(3, True, 1e8))
    assert routes == []


def test_memory_is_asked_for_before_k_and_j_are_formed(monkeypatch):
    """Four times their own, 9 x 9 and 27 x 9."""
    asked = []
    monkeypatch.setattr(dl, "require_memory", lambda xp, nbytes, what, instead: asked.append((nbytes, what[:10])))
    dl.Rule(2).update(*problem(3, False, 1e8))
    assert asked == [(4 * 9 * 9 * 8, "K (9 x 9) "), (4 * 27 * 9 * 8, "J (27 x 9)")]


@pytest.mark.parametrize("q", [1, 1.5, 2, 7])
def test_divided_differences_are_right_to_half_of_the_digits(q):
    """They multiply what is itself below half of the digits; of eigenvalues equal, near, and far apart."""
    w = np.array([1, 1, 1 + 1e-13, 1 + 1e-9, 1 + 1e-7, 1 + 1e-3, 2, 1e6])
    actual = host(dl._divided_differences(on(w), q))
    with mpmath.workdps(40):
        m = [mpmath.mpf(float(x)) for x in w]
        f = [x ** (-1 / mpmath.mpf(q)) for x in m]
        for i, j in np.ndindex(8, 8):
            exact = (f[i] - f[j]) / (m[i] - m[j]) if m[i] != m[j] else -f[i] / (q * m[i])
            assert actual[i, j] == pytest.approx(float(exact), rel=5e-8, abs=0)


@pytest.mark.long
@pytest.mark.parametrize(("start", "dtype", "steps", "limit"), [
    (dict(seed=0), np.float32, 30, 1e-5),
    (dict(seed=0), np.float64, 30, 1e-12),
    (dict(seed=0, width=8, depth=6, sigma_w=0.02), np.float64, 70, 1e-12),
    *((dict(seed=seed, whiten=False), np.float64, 25, 1e-12) for seed in (0, 1, 5, 7)),
], ids=str)  # fmt: skip
def test_square_root_ngd_is_as_long_as_the_error(start, dtype, steps, limit):
    """||u|| = ||E||, THEORY 9: section 6 in float32, a deep network from small weights, and Fig. S.I.1."""
    w, data, _ = ex.teacher_student_problem(**start)
    root = None if data.S is None else on(data.S.astype(dtype))
    w, data = on([w_i.astype(dtype) for w_i in w]), dl.Statistics(on(data.w_star.astype(dtype)), root)
    rule, eta, _ = ex.RULES["sqrt-NGD"]
    for state in lt.descend(w, data, rule, eta, steps):
        ratio = dl.norm(rule.update(state.w, data)) / dl.norm([dl.displacement(state.w, data)])
        assert ratio == pytest.approx(1, rel=0, abs=limit), state.t


@pytest.mark.long
def test_square_root_ngd_in_float32_learns_what_it_learns_in_float64():
    """Section 6, seed 0, as it ships: 0.0399, where K alone would end at 0.226."""
    w, data, _ = ex.teacher_student_problem(0)
    small = [w_i.astype(np.float32) for w_i in w], dl.Statistics(data.w_star.astype(np.float32))
    rule, eta, steps = ex.RULES["sqrt-NGD"]
    double, single = ([*lt.descend(*start, rule, eta, steps)][-1].loss for start in ((w, data), small))
    assert double == pytest.approx(0.0399286, rel=1e-6)
    assert single == pytest.approx(double, rel=1e-5)


# ---------------------------------------------------------------------------------------------------------- the cut-off


def test_what_rounding_leaves_of_a_zero_is_below_the_cut_off():
    """Exact zeros of J, from a narrow layer: their computed size, over what the cut-off allows."""
    worst = 0.0
    for widths in [(2, 1, 2), (2, 2, 1, 2, 2), (2, 2, 2, 2, 2, 2, 2, 1, 2), (3, 3, 2, 3, 3), (8, 8, 4, 8, 8)]:
        n, r = widths[0] * widths[-1], min(widths)
        for seed in range(100):
            rng = generator(seed)
            w = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]
            J = np.concatenate([np.kron(R, L.T) for L, R in dl.partial_pairs(w, None)])
            s = np.linalg.svd(J, compute_uv=False)
            worst = max(worst, s[r * (widths[0] + widths[-1] - r)] / s[0] / dl.singular_cutoff(n, float))
    assert worst < 0.6


def test_the_cut_off_is_twice_the_bound_that_the_frobenius_norm_gives():
    assert dl.singular_cutoff(9, np.float64) == 6 * 2.0**-52
    assert dl.singular_cutoff(256, np.float32) == 32 * 2.0**-23
    assert dl.singular_cutoff(256, np.float32, 0.25) == 0.25
    assert dl.singular_cutoff(256, np.float32, 0) == 0


@functools.cache
def graded(d, white):
    """Singular values of J from 1 to 1e-6, three decades a step, and what rcond = 1e-4 leaves of them."""
    w, data = problem(d, white, 1e6)
    return w, data, exactly(w, data, 1, rcond=1e-4), exactly(w, data, 2, rcond=1e-4)


@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("d", [2, 3])
def test_rcond_is_a_share_of_the_largest_singular_value_of_j(d, white):
    w, data, *exact = graded(d, white)
    for q, (Lambda, u, kappa) in enumerate(exact, 1):
        assert 1e2 < kappa < 1e4
        assert error(dl.Rule(q, rcond=1e-4).update(w, data), u) < 1e-9
        assert error([dl.multiplier(w, data, q, rcond=1e-4)], [Lambda]) < 1e-9
        assert error(dl.Rule(q).update(w, data), u) > 1e-3


def test_k_is_not_taken_for_regular_where_rcond_says_it_is_not():
    """cond(K) = 1e4 or so, where LU would do, and the smaller singular values do not count."""
    w, data = problem(3, False, 1e2)
    _, u, kappa = exactly(w, data, 1, rcond=0.1)
    assert kappa < 10
    assert error(dl.Rule(1, rcond=0.1).update(w, data), u) < 1e-12


def test_rcond_zero_keeps_all_that_there_is():
    for d, white in ((2, True), (3, True)):
        w, data = problem(d, white, 1e9)
        for rule in (dl.Rule(2), dl.Rule(2, block=True)):
            kept = dl.Rule(2, rule.block, rcond=0).update(w, data)
            for a, b in zip(host(kept), host(rule.update(w, data)), strict=True):
                close(a, b, 1e-12)


def test_two_layers_keep_what_j_keeps():
    """A singular value of w_2 may be next to nothing: those of J are (a^2 + b^2)^{1/2}, here down to 8.5 eps."""
    small = 6 * 2.0**-52
    w, data = on([np.diag([small, small]), np.diag([1.0, small])]), dl.Statistics(on(np.diag([1.0, 1.0])))
    u_1, u_2 = host(dl.Rule(1).update(w, data))
    close(u_1[1, 1], np.array(-0.5 / small), 1e-12)
    close(u_2[1, 1], np.array(-0.5 / small), 1e-12)


def test_statistics_of_samples_of_any_scale():
    x, y = generator().standard_normal((5, 3)), generator(1).standard_normal((5, 2))
    one, far = dl.Statistics.of(on(x), on(y)), dl.Statistics.of(on(2.0**-700 * x), on(y))
    close(host(far.w_star), 2.0**700 * host(one.w_star), 1e-12)
    close(host(far.S), 2.0**-700 * host(one.S), 1e-12)


def test_rcond_of_a_block_rule_is_a_share_of_those_of_its_factors():
    w, data = on([np.diag([1.0, 1e-3]), np.diag([1.0, 1e-1])]), dl.Statistics(on(np.ones((2, 2))))
    E = host(dl.displacement(w, data))
    u = dl.Rule(1, block=True, rcond=1e-2).update(w, data)
    close(host(u[0]), 0.5 * E * [[1], [10]], 1e-13)  # L = w_2 keeps both
    close(host(u[1]), 0.5 * E * [1, 0], 1e-13)  # R = w_1 its first


# ------------------------------------------------------------------------------------------------------------ the scale


def shifted(w, shifts):
    return [host(w_i) * 2.0**k for w_i, k in zip(w, shifts, strict=True)]


@pytest.mark.parametrize("white", [True, False], ids=["white", "raw"])
@pytest.mark.parametrize(
    "rule", [dl.Rule(q, block) for q in (1, 1.5, 2, 3, math.inf) for block in (False, True)], ids=str
)
@pytest.mark.parametrize(
    ("d", "k"),
    [(1, -300), (2, -541), (2, -400), (3, -272), (4, -199), (6, -199), (7, -199), (7, -270), (3, 100), (2, 250)],
)
def test_updates_at_any_scale_of_the_weights(d, k, rule, white):
    """2^k w has J of 2^{(d-1)k} and, w_* being far larger or 0, E of 1 or 2^{dk}: u is scaled by a power of two."""
    w, data = problem(7, white, 10)
    w, w_star = w[:d], data.w_star if k < 0 else 0 * data.w_star
    base = -64 if k < 0 else 0  # w_bar is below the rounding of w_*
    data, w = dl.Statistics(w_star, data.S), on(shifted(w, [base] * d))
    one = rule.update(w, data)
    J, E = (d - 1) * (k - base), d * k if k > 0 else 0  # powers of two
    far = on(shifted(w, [k - base] * d))
    size = math.log2(dl.norm(one)) + J * (1 - 2 / rule.q) + E
    if not -1000 < size < 1000:
        if size > 1030:
            with pytest.raises(FloatingPointError, match="the update is beyond the range of float64"):
                rule.update(far, data)
        return
    for a, b in zip(host(rule.update(far, data)), host(one), strict=True):
        rest = math.fmod(2 * J, rule.q)  # J (1 - 2/q) is large
        expected = np.ldexp(b * 2 ** (-rest / rule.q), J + E + round((rest - 2 * J) / rule.q))
        close(a, expected, 1e-12)


def test_equal_layers_of_tiny_scale_move_as_their_modes():
    """Each mode of c^{d-1} I is (12): -s_Delta j / ||j||^{2/q}."""
    for d, c in [(4, 1e-60), (2, 1e-163), (3, 1e-82), (6, 1e-60), (7, 1e-60)]:
        w, data = on([c * np.eye(3)] * d), dl.Statistics(on(np.eye(3)))
        for q, block in [(2, False), (2, True), (3, False), (3, True)]:
            expected = modes.velocity(np.full(d, c), 1.0, q, block)
            for u_i, s in zip(host(dl.Rule(q, block).update(w, data)), expected, strict=True):
                close(u_i, -s * np.eye(3), 1e-13)


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("k", [-30, -20, 12])
def test_updates_at_any_scale_of_float32(d, k):
    w, data = problem(7, True, 10, dtype=np.float32)
    w, data = on([np.ldexp(host(w_i), k) for w_i in w[:d]]), dl.Statistics(data.w_star)
    for q, block in [(1, False), (2, False), (2, True), (3, False)]:
        double = [host(w_i).astype(float) for w_i in w], dl.Statistics(host(data.w_star).astype(float))
        expected = dl.Rule(q, block).update(*double)
        if not 1e-36 < min(abs(u_i).max() for u_i in expected) <= dl.norm(expected) < 1e38:
            continue
        u = dl.Rule(q, block).update(w, data)
        assert {u_i.dtype for u_i in u} == {np.dtype(np.float32)}
        for a, b in zip(host(u), expected, strict=True):
            assert relative(a.astype(float), b) < 1e-3


@pytest.mark.parametrize("rule", [dl.Rule(q, block) for q in (1, 2, math.inf) for block in (False, True)], ids=str)
@pytest.mark.parametrize("shifts", [(-200, 200, 0), (0, -300, 0), (300, -300, -300), (-400, 300, 100)])
def test_layers_of_different_scales(rule, shifts):
    """Where one J_i is all that counts, as modes have it: aligned weights, exact powers of two."""
    s = np.ldexp([[1.0, 0.5], [0.75, 1.25], [1.5, 1.0]], np.array(shifts)[:, None])
    w, data = on([np.diag(a) for a in s]), dl.Statistics(on(np.diag([2.0, 3.0])))
    try:
        expected = -modes.velocity(s, np.array([2.0, 3.0]), rule.q, rule.block)
    except FloatingPointError:
        with pytest.raises(FloatingPointError):
            rule.update(w, data)
        return
    for u_i, a in zip(host(rule.update(w, data)), expected, strict=True):
        close(np.diag(u_i), a, 1e-13)


def test_layers_that_do_not_count_move_where_j_has_to_be_decomposed(routes):
    """J_1 is 2^-100 of J_3, below rounding, and u_1 = L_1^T Lambda R_1^T for all that."""
    w, data = problem(3, False, 1e8)
    far = on(shifted(w, [60, -20, -40]))
    exact = exactly(far, data, 3)[1]
    u = dl.Rule(3).update(far, data)
    assert "_by_singular_values" in routes
    for u_i, exact_i in zip(u, exact, strict=True):
        assert error([u_i], [exact_i]) < 1e-6


@pytest.mark.parametrize("block", [False, True])
def test_a_layer_of_zeros_has_no_scale_of_its_own(block):
    """All moves in w_1 then, by the polar factor of w_3 w_2 at q = 2, of whatever size."""
    w, data = problem(3, False, 10)
    w[0] = 0 * w[0]
    rule = dl.Rule(2, block)
    one, far = (host(rule.update(on(shifted(w, [0, k, k])), data)[0]) for k in (0, -400))
    close(far, one, 1e-12)
    assert abs(one).max() > 0.1


def test_products_that_underflow_on_the_way_do_not_count_as_zero():
    """w_3 w_2 and w_5 w_4 are 1e-200 I, and L_1 = 1e-400 I; E is of the size of 1."""
    a, b = np.diag([1.0, 1e-200]), np.diag([1e-200, 1.0])
    w, data = on([np.eye(2), a, b, a, b]), dl.Statistics(on(np.eye(2)))
    u = host(dl.Rule(2, block=True).update(w, data))
    close(u[0], -np.eye(2) / 5**0.5, 1e-14)


def test_large_weights_are_damped_and_clipped_as_small_ones_are():
    w, _ = problem(3, True, 10)
    big = on(shifted(w, [300] * 3))  # K is 2^1200
    data = dl.Statistics(on(np.zeros((3, 3))))
    u = dl.Rule(1).update(big, data)
    close(host(u[0]), np.ldexp(host(dl.Rule(1).update(w, data)[0]), 300), 1e-12)
    clipped = dl.Rule(1, clip=2.0).update(big, data)
    assert dl.norm(clipped) == pytest.approx(2, rel=1e-14)
    assert relative(clipped[0], 2 / dl.norm(u) * host(u[0])) < 1e-14
    tiny = on(shifted(w, [-600] * 3))
    data = dl.Statistics(on(np.eye(3)))
    with pytest.raises(FloatingPointError, match="beyond the range"):
        dl.Rule(1).update(tiny, data)  # 2^1200
    assert dl.norm(dl.Rule(1, clip=2.0).update(tiny, data)) == pytest.approx(2, rel=1e-14)


@pytest.mark.parametrize("k", [-190, -20, 240])
@pytest.mark.parametrize("block", [False, True])
def test_damping_at_any_scale(k, block):
    """2^k w with 2^4k rho, d = 3: J is scaled by 2^2k, E not at all, at w_* = 0 by 2^3k, and u by 2^-2k of that."""
    w, data = problem(3, True, 10)
    base = 0 if k > 0 else -64
    w, rho = on(shifted(w, [base] * 3)), 2.0 ** (4 * base - 2)
    data = dl.Statistics(0 * data.w_star) if k > 0 else data
    one = dl.Rule(1, block, rho).update(w, data)
    far = dl.Rule(1, block, rho * 2.0 ** (4 * k)).update(on(shifted(w, [k] * 3)), data)
    for a, b in zip(host(far), host(one), strict=True):
        close(a, np.ldexp(b, k if k > 0 else -2 * k), 1e-12)


def test_damping_far_above_j_makes_it_gradient_descent():
    """rho^{-1/q} of the gradient, where J^T J / rho underflows: J is 2^-600."""
    w, data = problem(3, True, 10)
    w = on(shifted(w, [-300] * 3))
    g = [np.ldexp(host(g_i), 600) for g_i in dl.gradient(w, data)]
    for q, block in [(1, False), (2, False), (1, True), (2, True)]:
        u = dl.Rule(q, block, 2.0**20).update(w, data)
        for a, b in zip(host(u), g, strict=True):
            expected = np.ldexp(b, -600) * 2.0 ** (-20 / q) * (3 ** (-1 / q) if block else 1)
            close(a, expected, 1e-12)


def test_zero_weights_and_errors_do_not_move():
    w, data = problem(3, True, 10)
    for rule in [dl.Rule(q, block, rho) for q in (1, 2, math.inf) for block in (False, True) for rho in (0, 0.1)]:
        for still, where in ((on([np.zeros((3, 3))] * 3), data), (w, dl.Statistics(dl.product(w)))):
            assert dl.norm(rule.update(still, where)) <= 1e-13


# ----------------------------------------------------------------------------------- steps that jump over a singular J


def opposed(seed, d, scale, balanced):
    """Square weights and a map wanted whose determinant has the sign that w_bar's has not."""
    rng = generator(seed)
    w = [rng.standard_normal((3, 3)) for _ in range(d)]
    w = [scale * (np.linalg.qr(w_i)[0] if balanced else w_i) for w_i in w]
    w_star = rng.standard_normal((3, 3))
    w_star[0] *= -np.sign(np.linalg.det(w_star) * np.linalg.det(dl.product(w)))
    return on(w), dl.Statistics(on(w_star))


@pytest.mark.long
@pytest.mark.parametrize(
    ("d", "block", "scale", "balanced"),
    [(2, False, 0.5, True), (3, False, 0.5, True), (2, True, 0.5, False), (3, True, 0.5, False), (3, True, 0.1, False)],
)
def test_steps_that_jump_over_a_singular_map_are_reported(d, block, scale, balanced):
    """20 of 20 of NGD-d. From balanced weights one may go around: its steps are off by enough to turn a layer alone."""
    silent = []
    for seed in range(20):
        w, data = opposed(seed, d, scale, balanced)
        try:
            *_, last = lt.descend(w, data, dl.Rule(1, block), 0.02, 500)
            silent.append(last.loss / dl.loss(w, data))
        except FloatingPointError as error:
            assert re.match(r"training diverged at t = \d+: .* a? ?step.* have opposite signs", str(error))  # noqa: PT017
    assert len(silent) <= balanced
    assert all(share < 1e-4 for share in silent)


def test_a_trajectory_says_why_it_stopped():
    w, data = opposed(0, 2, 0.5, True)
    r = ex.trajectory(w, data, data.w_star, dl.Rule(1), 0.02, 500)
    assert "det of w_1 and w_2 changed sign in one step, which jumped over a singular J" in r.stopped
    assert r.stopped.endswith("lower eta = 0.02, damp it (rho > 0), or choose other initial weights")
    assert 0 < len(r.t) == len(r.loss) < 500


@pytest.mark.long
def test_one_layer_that_turns_singular_does_no_harm():
    """w_bar crosses a singular map, and ||E|| falls by 1 - eta in every step."""
    w, data = opposed(1, 3, 0.6, False)
    signs = []
    for state in lt.descend(w, data, dl.Rule(1), 0.01, 700):
        signs.append([lt._sign(w_i) for w_i in state.w])
    flips = np.abs(np.diff(signs, axis=0)).sum(1) / 2
    assert flips.max() == 1
    assert state.loss < 1e-5 * dl.loss(w, data)


@pytest.mark.parametrize("n", [4, 2])
def test_j_is_singular_where_two_square_layers_are_but_between_narrower_ends(n):
    """Also if they lie apart; hidden layers wider than both ends may be singular as they like."""
    rng = generator(2)
    w = [rng.standard_normal((4, n)), rng.standard_normal((4, 4)), rng.standard_normal((n, 4))]
    w[1:1] = [rng.standard_normal((4, 4)) for _ in range(2)]
    for i in (1, 3):
        U, s, Vt = np.linalg.svd(w[i])
        w[i] = (U * [*s[:3], 0]) @ Vt
    s = np.linalg.svd(host(dl.kernel(on(w))), compute_uv=False)
    assert (s[-1] / s[0] < 1e-14) == (n == 4)
    before, after = ([*w[:1], w[1] + h * np.eye(4), w[2], w[3] + h * np.eye(4), w[4]] for h in (-1e-3, 1e-3))
    data = dl.Statistics(on(np.ones((n, n))))
    assert (lt.jump(on(before), on(before), on(after), data) is not None) == (n == 4)


def test_an_error_that_grows_is_a_jump_of_an_unbounded_rule_only():
    w, data = problem(3, True, 10)
    start = on(shifted(w, [-6] * 3))
    wide = on([host(start[0])[:2], host(start[1])[:, :2], host(start[2])])  # of w_1, w_2 no determinant
    for rule in (dl.Rule(1), dl.Rule(1.5), dl.Rule(1, block=True)):
        with pytest.raises(FloatingPointError, match=r"\|\|E\|\| is .* times what it was at t = 0"):
            list(lt.descend(wide, data, rule, 0.9, 3))
    for rule in (dl.Rule(1, rho=1e-9), dl.Rule(1, clip=1e9), dl.Rule(2)):
        assert not lt.unbounded(rule)
    damped = [state.loss for state in lt.descend(wide, data, dl.Rule(1, rho=1e-9), 0.9, 1)]
    assert damped[1] > 4 * damped[0]  # and no word


class Scripted(dl.Rule):
    """A rule whose updates a test writes down; `updates` gives one for w."""

    def of(self, updates):
        object.__setattr__(self, "updates", updates)
        return self

    def update(self, w, data):
        return self.updates(w)


def test_growth_is_measured_from_the_start():
    """A rule by which ||E|| grows by half in each step."""
    rule = Scripted().of(lambda w: [-0.5 * w[0]])
    states = lt.descend(on([np.eye(3)]), dl.Statistics(on(np.zeros((3, 3)))), rule, 1.0, 5)
    with pytest.raises(FloatingPointError, match=r"training diverged at t = 2: \|\|E\|\| is 2.25 times"):
        list(states)


def test_layers_that_turn_one_after_the_other_have_not_jumped():
    """Reflections in the first layer, then in the second."""
    turn = on(np.diag([0.0, 0.0, 2.0]))
    steps = iter([[turn, 0 * turn], [0 * turn, turn]])
    rule = Scripted().of(lambda w: next(steps))
    *_, last = lt.descend(on([np.eye(3)] * 2), dl.Statistics(on(np.zeros((3, 3)))), rule, 1.0, 2)
    assert [lt._sign(w_i) for w_i in last.w] == [-1, -1]


def test_opposite_signs_are_not_made_out_of_rounding():
    """A singular map wanted has no sign of its determinant."""
    w, _ = problem(3, True, 10)
    data = dl.Statistics(on(np.outer([1.0, 2.0, 3.0], [1.0, 0.3, 0.7])))
    for sign in (1, -1):
        start = on([sign * 2.0**-6 * host(w[0]), *shifted(w[1:], [-6, -6])])
        with pytest.raises(FloatingPointError, match="training diverged") as error:
            list(lt.descend(start, data, dl.Rule(1), 0.9, 9))
        assert "opposite" not in str(error.value)


def test_training_starts_from_weights_of_any_size():
    """L_1 = 1e-400 is no saddle point: sqrt-NGD goes as from weights of 1e-8."""
    w, data = problem(3, True, 3)
    losses = []
    for k in (-26, -700):
        *_, last = lt.descend(on(shifted(w, [k] * 3)), data, dl.Rule(2), 0.05, 200)
        losses.append(last.loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1] < 0.01 * dl.loss(on(shifted(w, [-700] * 3)), data)


def test_steps_from_where_training_ends_are_no_jumps():
    """Rounding may double a ||E|| that is itself rounding."""
    w, _ = problem(3, True, 1e3)
    rng = generator(5)
    for _ in range(5):
        near = on([host(w_i) * (1 + 1e-15 * rng.standard_normal((3, 3))) for w_i in w])
        *_, last = lt.descend(near, dl.Statistics(dl.product(w)), dl.Rule(1), 0.5, 20)
    assert last.loss < 1e-25


def test_a_jump_needs_more_than_twice_the_first_error():
    identity, data = on(np.eye(3)), dl.Statistics(on(np.zeros((3, 3))))
    for factor, jumped in ((1.99, False), (2.01, True)):
        now = [factor * identity, identity]  # E = w_bar
        assert (lt.jump([identity] * 2, now, now, data) is not None) == jumped
    assert lt.jump([identity] * 2, [identity, identity], [-1 * identity, -1 * identity], data)
    assert not lt.jump([identity] * 2, [identity, identity], [identity, -1 * identity], data)
    assert not lt.jump([identity] * 2, [0 * identity, identity], [identity, -1 * identity], data)  # one had no sign
    reached = dl.Statistics(identity)
    for growth, jumped in ((1e-9, False), (1e-7, True)):
        now = [(1 + growth) * identity, identity]  # E was 0
        assert (lt.jump([identity] * 2, now, now, reached) is not None) == jumped


@pytest.mark.parametrize("sizes", [(3, 1, 3), (3, 1, 2, 3)])
@pytest.mark.parametrize("q", [1, 1.5, 2])
def test_damping_where_layers_are_too_narrow(sizes, q):
    """J loses rank: Lambda is E / rho^{1/q} outside of its range, of which u has nothing, to rounding."""
    rng = generator(0)
    w = [rng.standard_normal((n, m)) for m, n in pairwise(sizes)]
    data = dl.Statistics(on(rng.standard_normal((3, 3))))
    K, E = (host(a) for a in (dl.kernel(on(w)), dl.displacement(on(w), data)))
    k, V = np.linalg.eigh(K)
    live, c = k > 1e-12 * k.max(), V.T @ E.T.ravel()
    for rho in 10.0 ** -np.arange(1, 16):
        inside = (V @ (live * np.where(live, k + rho, 1) ** (-1 / q) * c)).reshape(3, 3).T
        u = dl.Rule(q, rho=rho).update(on(w), data)
        exact = dl.pull(on(w), on(inside))
        assert relative(flatten(u), flatten(exact)) <= 15 * EPS[np.float64] * (1 + k.max() / rho) ** 0.5, rho
        outside = (V @ (~live * rho ** (-1 / q) * c)).reshape(3, 3).T
        assert relative(dl.multiplier(on(w), data, q, rho), inside + outside) < 1e-11, rho
