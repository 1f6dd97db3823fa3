"""THEORY 12: the thresholds of `spectral`, to the letter, and which route a step takes."""

import numpy as np
import pytest
from support import DEFINED, host, literal, on, problem

import refngd as rn
from refngd import definitions, spectral
from refngd.fisher import unitwise

EPS = float(np.finfo(float).eps)


def column(*values):
    return np.array(values, float)[:, None]


def root(*t):
    """A diagonal root, and its U and t."""
    return np.diag(np.array(t, float)), np.eye(len(t)), np.array(t, float)


# ------------------------------------------------------------------------------------------------------- thresholds


def test_the_cutoff_is_4_n_eps_of_the_dtype_or_rcond():
    assert spectral.cutoff(3, np.float64) == 12 * EPS
    assert spectral.cutoff(5, np.float32) == 20 * 2.0**-23
    assert spectral.cutoff(5, np.float32, 0.25) == 0.25


def test_inverse_sizes_are_powers_of_two():
    X = np.array([0.5, 0.999, 1.0, 3.0, 0.0, 2.0**-1022, 2.0**-1040, 2.0**1000])
    expected = [1, 1, 0.5, 0.25, 1, 2.0**1021, 2.0**1022, 2.0**-1001]
    assert spectral.inverse_size(X).tolist() == expected


def test_norms_and_the_largest_entry():
    X = np.array([[3.0, -4.0], [0.0, 0.0]])
    assert spectral.largest(X) == 4
    assert spectral.norm(X) == 5
    assert spectral.norms(np.stack([X, 2 * X])).tolist() == [5, 10]


def test_singular_values_at_the_cutoff_count_as_zero():
    for make in (spectral.root_svd, spectral.thin_svd):
        cut = 8 * EPS
        assert make(np.diag([1.0, cut]))[1].tolist() == [1, 0]
        assert make(np.diag([1.0, 1.5 * cut]))[1].tolist() == [1, 1.5 * cut]
        assert make(np.diag([4.0, 1.0]), 0.25)[1].tolist() == [4, 0]
        assert make(np.zeros((2, 2)))[1].tolist() == [0, 0]


def test_eigenvalues_of_a_gram_matrix_at_the_square_of_rcond_count_as_zero():
    assert spectral.eigen_root(np.diag([1.0, 0.25]), 0.5)[1].tolist() == [0, 1]
    assert spectral.eigen_root(np.diag([1.0, 0.26]), 0.5)[1].tolist() == [0.26**0.5, 1]
    assert spectral.eigen_root(np.diag([1.0, 8 * EPS]))[1].tolist() == [0, 1]
    assert spectral.eigen_root(np.diag([1.0, 9 * EPS]))[1].tolist() == [3 * EPS**0.5, 1]


def test_the_root_of_a_wide_matrix_is_that_of_its_triangle():
    R = np.random.default_rng(0).standard_normal((2, 3, 5))  # a stack
    U, t, Vt = spectral.root_svd(R)
    assert U.shape == (2, 3, 3)
    np.testing.assert_allclose(U @ Vt.mT, R, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(Vt, axis=-2), t, rtol=1e-14)
    U, t, Vt = spectral.root_svd(R.mT)
    np.testing.assert_allclose(U @ Vt.mT, R.mT, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(Vt, axis=-2), t, rtol=1e-14)
    T = spectral.triangle([R[0, :, :2], R[0, :, 2:]])
    np.testing.assert_allclose(T.T @ T, R[0] @ R[0].T, atol=1e-13)


def test_the_share_that_is_lost():
    _, U, t = root(2, 0, 1)
    assert spectral.lost_share(U, t, column(3, 4, 0)) == 0.8
    assert spectral.lost_share(U, t, column(3, 0, 4)) == 0
    assert spectral.lost_share(U, t, 0 * column(3, 4, 0)) == 0


@pytest.mark.parametrize("rcond", [None, 0.125])
def test_damping_counts_from_the_cutoff_times_the_largest_square(rcond):
    t, limit = np.array([4.0, 0.0]), 16 * (8 * EPS if rcond is None else rcond)
    assert not spectral.is_damped(t, limit, rcond)
    assert spectral.is_damped(t, 1.001 * limit, rcond)


def test_eigenvectors_serve_if_no_eigenvalue_is_small_and_nothing_is_lost():
    _, U, t = root(30, 1)
    B = column(1, 1)
    assert spectral.SAFE == 900
    assert spectral.is_clear(U, t, B, 0.0)
    _, U, t = root(30.1, 1)
    assert not spectral.is_clear(U, t, B, 0.0)
    assert spectral.is_clear(U, t, B, 1.0)
    _, U, t = root(30, 0)
    assert spectral.is_clear(U, t, column(1, 7 * EPS), 0.0)
    assert not spectral.is_clear(U, t, column(1, 9 * EPS), 0.0)
    assert spectral.safe(16) == 3600


def test_a_solution_cancels_if_it_is_large_and_its_image_is_not():
    """|y|^2 > 900 condition y (B - d y)."""
    y, d = np.array([[3.0], [4.0]]), np.array([[0.25], [0.25]])
    image = np.array([[1.0], [0.0]]) / 3  # y image = 1
    for size, expected in ((100, False), (1, True)):
        assert bool(spectral.cancels(y, size * image + d * y, d, 25 / 900 / 99)) is expected
    assert not spectral.cancels(y, image + d * y, d, 25.01 / 900)
    assert spectral.cancels(y, image + d * y, d, 24.99 / 900)


@pytest.mark.parametrize("error", [-0.45, 0.0, 0.3, 0.499])
def test_refinement_converges_where_corrections_halve(error):
    K, B = np.diag([4.0, 0.5]), column(1, 3)
    X = spectral.refined(lambda Y: (1 + error) * np.linalg.solve(K, Y), B, lambda X: K @ X)
    np.testing.assert_allclose(X, column(0.25, 6), rtol=1e-15)


@pytest.mark.parametrize("error", [-0.6, 0.6, np.nan])
def test_refinement_says_where_it_does_not_converge(error):
    K = np.diag([4.0, 0.5])
    assert spectral.refined(lambda Y: (1 + error) * np.linalg.solve(K, Y), column(1, 3), lambda X: K @ X) is None


def test_refinement_asks_for_all_of_a_stack():
    K, B = np.stack([np.eye(2)] * 2), np.ones((2, 2, 1))
    factors = np.array([1.0, 1.7])[:, None, None]
    assert spectral.refined(lambda Y: factors * Y, B, lambda X: K @ X) is None


def test_refined_inverse_gives_up_where_the_kernel_has_no_digit_left():
    def solved(gap, product=True):
        R = np.array([[1.0, 0.0], [1.0, gap]])
        return spectral.refined_inverse(R @ R.T, column(1, 1), 0.0, (lambda X: R @ (R.T @ X)) if product else None)

    np.testing.assert_allclose(solved(2.0**-18), column(1, 0), atol=1e-9)  # R R^T has a condition of 2^38
    assert solved(2.0**-26) is None
    assert solved(2.0**-10, product=False) is not None
    assert solved(2.0**-14, product=False) is None


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_rows_of_zeros_have_the_solution_zero_or_b_over_rho(rho):
    R = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0**-20]])
    X = spectral.refined_inverse(R @ R.T, column(1, 1, 1), rho, lambda X: R @ (R.T @ X))
    expected = [1 / (4 + rho), 1 / rho if rho else 0, 1 / (2.0**-40 + rho)]
    np.testing.assert_allclose(X[:, 0], expected, rtol=1e-14)


def test_duplicates_with_little_damping_are_no_case_for_a_kernel():
    R = np.array([[1.0, 0.5], [1.0, 0.5], [0.25, 1.0]])
    for rho in (1e-2, 1e-6):
        X = spectral.refined_inverse(R @ R.T, column(1, -1, 0), rho, lambda X: R @ (R.T @ X))
        assert X is None  # R^T X = 0 would be a difference of numbers of 1 / rho
        X = spectral.refined_inverse(R @ R.T, column(1, 1, 0), rho, lambda X: R @ (R.T @ X))
        np.testing.assert_allclose((R @ R.T + rho * np.eye(3)) @ X, column(1, 1, 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("q", [1, 2, 4])
@pytest.mark.parametrize("rho", [0.0, 0.125])
@pytest.mark.parametrize("size", [1.0, 2.0**400, 2.0**-400])
def test_powers_of_roots_and_gram_matrices_of_any_size(q, rho, size):
    R = np.random.default_rng(3).standard_normal((3, 4))
    w, V = np.linalg.eigh(R @ R.T / 7 + rho * np.eye(3))
    expected = (V * w ** (-1 / q)) @ V.T
    for root, right in ((R, R.T @ expected), (R.T, expected @ R)):
        power = spectral.power_of_root(size * root, 7, size * rho * size, q)
        np.testing.assert_allclose(power, size ** (1 - 2 / q) * right, rtol=1e-12, atol=1e-13 * size ** (1 - 2 / q))
    power = spectral.power_of_gram(size * (R @ R.T / 7), size * rho, q)
    np.testing.assert_allclose(power, size ** (-1 / q) * expected, rtol=1e-12)


def test_gram_matrices_out_of_range_are_an_error():
    X = np.array([[3.0, 4.0]])
    assert spectral.gram(X).tolist() == [[25.0]]
    assert spectral.gram(0 * X).tolist() == [[0.0]]
    for size in (1e200, 1e-200):
        with pytest.raises(FloatingPointError, match="rescale"):
            spectral.gram(size * X)


# ----------------------------------------------------------------------------------------------------------- routes


def forbid(monkeypatch, *names):
    """No function of these names may be called."""

    def called(*args, **options):
        raise AssertionError("a route that is not needed")

    for module in (spectral, rn.fisher.sigma, rn.fisher.kfac, unitwise):
        for name in names:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, called)


ALL = [rn.Exact(), rn.BlockDiagonal(), rn.Layerwise([[2.0, 0.5], [0.5, 1.5]]), rn.KFAC(), rn.Unitwise()]


def close_samples(gap=1.0):
    """Signals and a residual; the last sample is this far from the first."""
    p = problem((5, 6, 1))
    x = p.x.copy()
    x[-1] = x[0] + gap * on(np.array([0.5, -1.0, 0.25, 0.0, 1.0]))
    return p.net.signals(p.W, x), p.e


@pytest.mark.parametrize("fisher", ALL, ids=str)
def test_regular_kernels_need_no_singular_values(monkeypatch, fisher):
    s, e = close_samples()
    forbid(monkeypatch, "root_svd", "eigen", "eigen_root", "triangle")
    fisher.direction(s, e)
    if not isinstance(fisher, rn.Layerwise) or isinstance(fisher, rn.Exact):
        fisher.direction(s, e, rho=0.25)


@pytest.mark.parametrize("fisher", [rn.Exact(), rn.BlockDiagonal(), rn.KFAC()], ids=str)
def test_kernels_that_lose_digits_are_refined(monkeypatch, fisher):
    s, e = close_samples(2.0**-14)
    forbid(monkeypatch, "root_svd", "eigen", "eigen_root", "triangle")
    exact = definitions.direction(literal(s), host(e), DEFINED[type(fisher).__name__])
    for dw, expected in zip(host(fisher.direction(s, e)), exact, strict=True):
        np.testing.assert_allclose(dw, expected, rtol=0, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize("fisher", [rn.Exact(refine=False), rn.BlockDiagonal(refine=False)], ids=str)
def test_without_refinement_no_product_with_the_jacobian_is_formed(monkeypatch, fisher):
    s, e = close_samples(2.0**-8)
    forbid(monkeypatch, "refined", "push_layer", "root_svd", "eigen")
    fisher.direction(s, e)


def test_units_that_lose_digits_take_singular_values(monkeypatch):
    s, e = close_samples(2.0**-14)
    forbid(monkeypatch, "root_svd")
    with pytest.raises(AssertionError):
        rn.Unitwise().direction(s, e)
    s, e = close_samples(2.0**-8)
    rn.Unitwise(refine=False).direction(s, e)
    with pytest.raises(AssertionError):
        rn.Unitwise().direction(s, e)
