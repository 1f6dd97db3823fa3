"""THEORY 5: unit-wise with dead samples, entry-wise and quasi-diagonal."""

import numpy as np
import pytest
from support import assert_close, assert_same, condition, generator, host, on, problem

import refngd as rn
from refngd import arrays


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("N", [5, 12])  # 12: more samples than inputs, so a layer's inputs are dependent
@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
@pytest.mark.parametrize("rho", [0.0, 1e-8, 1e-2])
def test_unitwise_direction_with_dead_samples_is_the_pseudo_inverse(C, N, sigma_b, rho):
    p = problem((7, 8, 9, C), rn.relu, sigma_b, N=N)
    assert any((host(d) == 0).any() for d in p.s.delta[:-1])
    units = [k for M, k in p.net.shapes for _ in range(M)]
    blocks = np.split(p.J, np.cumsum(units)[:-1], axis=1)
    kappa = max(
        np.linalg.cond(b @ b.T + rho * np.eye(len(b))) if rho else condition(b @ b.T) for b in blocks if b.any()
    )
    assert_same("Unitwise", p, rho, kappa=kappa)


def test_unit_without_any_live_sample_does_not_move():
    net = rn.Network((4, 3, 1), rn.relu)
    W = net.init(0)
    W[0][1] = -abs(W[0][1])  # with positive inputs this unit is dead
    s = net.signals(on(W), on(abs(generator().standard_normal((3, 4)))))
    e = on(np.ones((3, 1)))
    for fisher in (rn.Unitwise(), rn.Entrywise(), rn.QuasiDiagonal(), rn.KFAC(), rn.BlockDiagonal()):
        assert (host(fisher.direction(s, e)[0])[1] == 0).all()
    assert (host(rn.Unitwise().direction(s, e)[0])[0] != 0).any()


def test_unitwise_batches_do_not_change_the_result(monkeypatch):
    p = problem((7, 8, 9, 2), rn.relu, 0.5)
    whole = rn.Unitwise().direction(p.s, p.e), rn.Unitwise().coefficient(p.test, p.s)
    monkeypatch.setattr(
        "refngd.fisher.unitwise.batches", lambda like, count, each, limit: arrays.batches(like, count, each, limit=50)
    )
    assert_close(rn.flatten(rn.Unitwise().direction(p.s, p.e)), rn.flatten(whole[0]))
    assert_close(rn.Unitwise().coefficient(p.test, p.s), whole[1], 1e3)


@pytest.mark.parametrize("rho", [0.0, 1e-2])
@pytest.mark.parametrize("C", [1, 2])
def test_quasi_diagonal_solves_its_own_matrix(rho, C):
    p, fisher = problem((5, 6, 6, C), rn.tanh, 0.5, N=6), rn.QuasiDiagonal()
    G, gradient = host(fisher.matrix(p.s, rho)), p.J.T @ host(p.e).ravel() / 6
    assert_close(G @ host(rn.flatten(fisher.direction(p.s, p.e, rho))), gradient, condition(G))


def test_quasi_diagonal_with_one_live_sample_is_the_pseudo_inverse():
    """All inputs of a unit are proportional to its bias then: every Schur complement vanishes."""
    p = problem((5, 6, 2), rn.tanh, 0.5, N=1)
    for rho in (0.0, 1e-8, 1.0):
        assert_same("QuasiDiagonal", p, rho)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_quasi_diagonal_of_inputs_of_another_size_is_the_same_up_to_that_size(scale):
    """One layer, whose bias has a fixed size: what counts as proportional to it must not depend on units of x."""
    p = problem((5, 2), rn.linear, 0.5, N=6)
    own, scaled = (rn.QuasiDiagonal().direction(s, p.e)[0] for s in (p.s, p.net.signals(p.W, scale * p.x)))
    assert_close(host(scaled) * ([scale] * 5 + [1]), own, 1e2)


def test_quasi_diagonal_without_bias_is_the_diagonal():
    p = problem((5, 6, 2), rn.tanh)
    for q in (1, 2):
        for a, b in zip(
            rn.QuasiDiagonal().direction(p.s, p.e, 0.1, q), rn.Entrywise().direction(p.s, p.e, 0.1, q), strict=True
        ):
            assert (host(a) == host(b)).all()


def test_condition_numbers_of_theta_bar_are_those_of_figure_3():
    """THEORY 5, M = 128: geometric means NTK 164, BD 1, unit-wise 1.33, diagonal 20.7, quasi-diagonal 4.5."""
    expected = {
        rn.Identity(): 164,
        rn.BlockDiagonal(): 1,
        rn.Unitwise(): 1.33,
        rn.Entrywise(): 20.7,
        rn.QuasiDiagonal(): 4.5,
    }
    measured = {fisher: [] for fisher in expected}
    for seed in range(4):
        rng = generator(seed)
        net = rn.Network((100, 128, 128, 1), rn.relu, 2**0.5, 0.5**0.5)
        s = net.signals(on(net.init(rng)), on(rng.standard_normal((80, 100))))
        for fisher in expected:
            measured[fisher].append(rn.isotropy(fisher.coefficient(s, s, 1e-12)).condition)
    for fisher, condition_number in expected.items():
        assert np.exp(np.log(measured[fisher]).mean()) == pytest.approx(condition_number, rel=0.25), fisher


def test_rcond_of_the_quasi_diagonal_ties_an_input_to_the_bias():
    """Of h = (1, 1), (1.25, 1), 1/82 of a_11 is not the bias's: below rcond, the input's step is beta_1 times its."""
    net, x = rn.Network((1, 1), rn.linear, 1.0, 1.0), on(np.array([[1.0], [1.25]]))
    s, e = net.signals([on(np.array([[0.0, 0.0]]))], x), on(np.array([[1.0], [0.0]]))
    ((loose, bias),), ((free, _),) = (host(rn.QuasiDiagonal(rcond=r).direction(s, e)[0]) for r in (0.5, 0.01))
    beta = 1.125  # the mean of x
    assert loose == pytest.approx(beta * bias)
    assert bias == pytest.approx(0.5 / (1 + beta**2))
    assert free == pytest.approx(-4)
