"""Huh, section 6: the teacher's data, the five rules on three seeds, and what must be said of each claim."""

import math

import numpy as np
import pytest
from support import host, on

from refngd import deep_linear as dl
from refngd import experiments as ex
from refngd import linear_training as lt
from refngd.datasets import teacher_student

SEEDS = range(3)
pytestmark = pytest.mark.long


def test_whitened_inputs_are_white_exactly_and_the_same_seed_gives_the_same_data():
    x, y, teacher = teacher_student(3)
    np.testing.assert_allclose(x.T @ x / 16, np.eye(16), atol=1e-14)
    np.testing.assert_allclose(np.linalg.svd(teacher, compute_uv=False)[:4], [4, 3, 2, 0], atol=1e-14)
    noise = (y - x @ teacher.T) / 0.3
    assert 0.8 < noise.std() < 1.2
    for a, b in zip((x, y, teacher), teacher_student(np.random.default_rng(3)), strict=True):
        assert (a == b).all()


def test_raw_inputs_are_the_gaussian_ones_that_whitening_starts_from():
    (white, y, teacher), (raw, y_raw, teacher_raw) = (teacher_student(3, 5, 9, [1.0], 0.0, w) for w in (True, False))
    U, _, Vt = np.linalg.svd(raw, full_matrices=False)
    np.testing.assert_allclose(white, 3 * U @ Vt, atol=1e-13)
    assert (teacher == teacher_raw).all()
    np.testing.assert_allclose(y, white @ teacher.T, atol=1e-13)
    np.testing.assert_allclose(y_raw, raw @ teacher.T, atol=1e-13)
    assert np.linalg.cond(raw) > 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(N=0), "N is 0; expected an integer >= 1"),
        (dict(width=1.5), "width is 1.5; expected an integer >= 1"),
        (dict(N=4.5), "N is 4.5; expected an integer >= 1"),
        (dict(width=2), "singular_values is a tuple of 3; expected 1 to 2, the width, finite numbers > 0"),
        (dict(singular_values=-2.0), "singular_values is -2.0; expected"),
        (dict(singular_values=[1, 0]), "singular_values is 0; expected 1 to 16, the width, finite numbers > 0"),
        (dict(singular_values=[-1.0]), "singular_values is -1.0; expected"),
        (dict(noise=-1), "noise is -1; expected a finite number >= 0"),
        (dict(noise=1e200), r"noise is 1e\+200; expected a finite number >= 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        teacher_student(0, **arguments)


@pytest.fixture(scope="module")
def runs():
    """runs[seed][rule], whitened inputs, width and samples 16, d = 4."""
    results = []
    for seed in SEEDS:
        w, data, teacher = ex.teacher_student_problem(seed)
        w, data, teacher = on(w), dl.Statistics(on(data.w_star)), on(teacher)
        results.append({name: ex.trajectory(w, data, teacher, *setting) for name, setting in ex.RULES.items()})
    return results


def noise_learned(seed, r):
    """The share of the noise in the map wanted that is learned when two thirds of the weakest signal mode are."""
    _, data, _ = ex.teacher_student_problem(seed)
    s, modes = np.linalg.svd(data.w_star, compute_uv=False), np.array(r.modes)
    t = np.argmax(modes[:, 2] > 2 / 3 * s[2])
    assert t > 0
    return float(modes[t, 3:].sum() / s[3:].sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_with_unequal_time_scales_generalise_by_early_stopping_and_natural_gradients_do_not(runs, seed):
    least = {name: r.best_excess for name, r in runs[seed].items()}
    for name in ("SGD", "sqrt-NGD", "sqrt-NGD-d"):
        assert least[name] < 0.5 * min(least["NGD"], least["NGD-d"])
        assert runs[seed][name].excess[-1] > 1.5 * least[name]  # and overfit later
    for name in ("NGD", "NGD-d"):
        assert least[name] > 0.9 * runs[seed][name].excess[-1]  # overfit from the start: nothing to stop for


@pytest.mark.parametrize("seed", SEEDS)
def test_signal_is_learned_before_noise_but_by_natural_gradients_at_once(runs, seed):
    shares = {name: noise_learned(seed, r) for name, r in runs[seed].items()}
    assert shares["SGD"] < 0.02
    assert max(shares["sqrt-NGD"], shares["sqrt-NGD-d"]) < 0.1
    for name in ("NGD", "NGD-d"):
        assert shares[name] == pytest.approx(2 / 3, abs=0.02)  # all modes at the same rate


@pytest.mark.parametrize("seed", SEEDS)
def test_full_rules_keep_the_balance_sqrt_ngd_d_nearly_and_ngd_d_not(runs, seed):
    ratio = {name: r.conserved[-1][1] / r.conserved[0][1] for name, r in runs[seed].items()}
    for name in ("SGD", "NGD", "sqrt-NGD"):
        assert 0.9 < ratio[name] < 1.1
    assert 2 < ratio["sqrt-NGD-d"] < 6
    assert ratio["NGD-d"] > 15


def test_trajectories_record_both_ends_and_the_best_of_all_steps():
    w, data, teacher = ex.teacher_student_problem(1, width=4, depth=3, singular_values=[2.0])
    rule, eta, steps = dl.Rule(2), 0.02, 250
    r = ex.trajectory(w, data, teacher, rule, eta, steps, records=7)
    states = list(lt.descend(w, data, rule, eta, steps))
    excess = [np.sum((dl.product(state.w) - teacher) ** 2) / 2 for state in states]
    assert r.best == np.argmin(excess)
    assert r.best_excess == pytest.approx(min(excess))
    assert (r.t[0], r.t[-1]) == (0, steps)
    assert 7 < len(r.t) < 15
    for k, t in enumerate(r.t):
        assert r.loss[k] == states[t].loss
        assert r.excess[k] == pytest.approx(excess[t])
        c = dl.conserved(states[t].w)
        assert r.conserved[k] == pytest.approx([np.linalg.norm(c_i) for c_i in c])
        assert r.entries["c_2"][k] == c[1].ravel().tolist()
        assert r.entries["w_3"][k] == states[t].w[2].ravel().tolist()
    U, _, Vt = np.linalg.svd(data.w_star)
    np.testing.assert_allclose(r.modes[-1], np.diag(U.T @ dl.product(states[-1].w) @ Vt.T), atol=1e-13)
    assert r.stopped is None


def test_divergence_is_reported_in_the_trajectory():
    w, data, teacher = ex.teacher_student_problem(1, width=4)
    r = ex.trajectory(w, data, teacher, dl.Rule(math.inf), 5.0, 100)
    assert "training diverged at t = " in r.stopped
    assert "lower eta = 5" in r.stopped
    assert r.t == sorted(r.t)
    assert len(r.t) == len(r.loss) < 100


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("N", [3, 7])
def test_problem_is_drawn_from_its_seed(whiten, N):
    w, data, teacher = ex.teacher_student_problem(2, width=5, depth=2, N=N, singular_values=[1.0], whiten=whiten)
    x, y, same = teacher_student(np.random.default_rng(2).spawn(2)[0], 5, N, [1.0], whiten=whiten)
    assert (teacher == same).all()
    assert [w_i.shape for w_i in w] == [(5, 5), (5, 5)]
    assert (data.S is None) == (whiten and N == 7)
    assert dl.loss(w, data) == pytest.approx(np.sum((x @ dl.product(w).T - y) ** 2) / (2 * N), rel=1e-12)
    if whiten:  # the identity, on the directions that occur
        np.testing.assert_allclose(data.root.T @ data.root, np.eye(min(N, 5)), atol=1e-13)
    for sigma_w in (0.2, 1.5):
        w, *_ = ex.teacher_student_problem(2, width=200, depth=1, singular_values=[1.0], sigma_w=sigma_w)
        assert np.std(host(w[0])) == pytest.approx(sigma_w / 200**0.5, rel=0.02)


def test_teachers_have_no_preferred_sign():
    signs = [np.sign(teacher_student(seed, 1, singular_values=[1.0])[2][0, 0]) for seed in range(40)]
    assert 10 < signs.count(1) < 30
