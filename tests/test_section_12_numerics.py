"""THEORY 12: how accurate, in which dtype, and what counts as zero."""

import tracemalloc
import warnings
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from support import DEFINED, FISHERS, assert_close, generator, host, literal, on, problem, relative

import refngd as rn
from refngd import definitions
from refngd.arrays import is_finite
from refngd.spectral import cutoff, eigen, eigen_root, gram, inverse_size, power_of_gram, power_of_root, refined_inverse


def graded_factor(kappa, n=12, m=40):
    """X (n, m) with singular values from 1 down to 1 / kappa."""
    rng = generator()
    U, _ = np.linalg.qr(rng.standard_normal((n, n)))
    V, _ = np.linalg.qr(rng.standard_normal((m, n)))
    return (U * np.logspace(0, -np.log10(kappa), n)) @ V.T


def gram_solve(X, b, refine):
    """X^T (X X^T)^{-1} b through the Gram matrix."""
    X, b = on(X), on(b)
    if refine:
        return X.T @ refined_inverse(gram(X), b, 0.0, lambda Y: X @ (X.T @ Y))
    return X.T @ (power_of_gram(gram(X), 0.0, 1) @ b)


def high_precision_solve(X, b):
    """X^T (X X^T)^{-1} b at 60 digits."""
    with mpmath.workdps(60):
        A = mpmath.matrix(X.tolist())
        x = A.T * mpmath.lu_solve(A * A.T, mpmath.matrix(b.tolist()))
        return np.array([float(v) for v in x])[:, None]


@pytest.mark.parametrize("kappa", [1e1, 1e3, 1e5, 1e6])
def test_refinement_and_the_root_have_the_accuracy_of_qr(kappa):
    X, b = graded_factor(kappa), generator(1).standard_normal((12, 1))
    exact = high_precision_solve(X, b)
    plain, refined = (relative(gram_solve(X, b, refine), exact) for refine in (False, True))
    assert refined < 30 * 2**-53 * kappa
    assert relative(power_of_root(on(X), 1, 0.0, 1) @ on(b), exact) < 30 * 2**-53 * kappa
    if kappa >= 1e3:
        assert refined < plain / 20


@pytest.mark.parametrize("make", [rn.Exact, rn.BlockDiagonal, rn.BlockTridiagonal, rn.Unitwise, rn.KFAC])
def test_refinement_and_roots_make_directions_more_accurate(make):
    """On nearly parallel inputs, against the definition by SVD of the blocks of the explicit Jacobian."""
    rng, N = generator(), 5
    net = rn.Network((8, 40, 40, 1), rn.tanh)
    x = rng.standard_normal((1, 8)) + 1e-3 * rng.standard_normal((N, 8))
    W, e = net.init(rng), rng.standard_normal((N, 1))
    s = net.signals(on(W), on(x))
    exact = definitions.flatten(definitions.direction(literal(s), e, DEFINED[make.__name__]))
    assert relative(rn.flatten(make().direction(s, on(e))), exact) < 1e-8
    if make is not rn.KFAC:  # which always refines
        plain = relative(rn.flatten(make(refine=False).direction(s, on(e))), exact)
        assert relative(rn.flatten(make().direction(s, on(e))), exact) < plain / 5


def test_a_unit_whose_inputs_are_dependent_is_inverted_through_its_root():
    rng, N = generator(), 6
    x = rng.standard_normal((N, 2)) @ np.array([[1.0, 1, 1], [0, 1e-4, 2e-4]])  # nearly parallel, of rank 2
    net = rn.Network((3, 1, 1), rn.tanh)
    s = net.signals(on(net.init(rng)), on(x))
    J = host(s.delta[0])[:, 0] * host(s.h[0])
    e = J @ rng.standard_normal((3, 1))
    exact = np.linalg.pinv(J, 1e-12) @ e
    for fisher in (rn.Unitwise(), rn.Unitwise(refine=False), rn.BlockDiagonal()):
        assert relative(fisher.direction(s, on(e))[0].T, exact) < 1e-10


def test_default_cutoff_tells_every_rank_deficient_gram_matrix_from_a_regular_one():
    rng = generator()

    def is_regular(X):
        K = on(X @ X.T)
        live = bool((eigen_root(K)[1] > 0).all())
        solved = refined_inverse(K, on(np.ones((len(X), 1), X.dtype)), 0.0, lambda Y: on(X) @ (on(X.T) @ Y))
        assert live == (solved is not None)
        return live

    for dtype in (np.float32, np.float64):
        for n in (2, 3, 5, 20, 60):
            for m in (1, n // 2, n - 1):
                if m:
                    assert not is_regular(rng.standard_normal((n, m)).astype(dtype))
            X = rng.standard_normal((n, 2 * n)).astype(dtype)
            assert is_regular(X)
            X[-1] = X[0]  # a duplicate sample
            assert not is_regular(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eigenvalues_of_tiny_matrices_are_right_to_the_last_digit(dtype):
    """Whatever the library squares: entries are about 1 where it sees them."""
    X = generator().standard_normal((3, 5, 8)).astype(dtype)
    K, size = X @ X.mT, float(2.0 ** (np.finfo(dtype).minexp + 10))
    (w, V), (tiny_w, tiny_V) = eigen(on(K)), eigen(on(K * dtype(size)))
    assert (host(tiny_w) == host(w) * dtype(size)).all()
    assert (host(tiny_V) == host(V)).all()
    w, V = eigen(on(np.zeros((0, 0), dtype)))
    assert (w.shape, V.shape) == ((0,), (0, 0))
    assert np.isfinite(host(inverse_size(on(np.array([np.finfo(dtype).smallest_subnormal, 0]))))).all()


def test_rank_deficient_powers_are_pseudo_inverses():
    X = generator().standard_normal((8, 30))
    X[5], X[6] = X[0], X[1] - 2 * X[2]
    pseudo_inverse = np.linalg.pinv(X, rcond=1e-10)
    assert_close(power_of_root(on(X), 1, 0.0, 1), pseudo_inverse, 1e3)
    assert_close(power_of_root(on(X.T.copy()), 1, 0.0, 1), pseudo_inverse.T, 1e3)
    assert_close(on(X.T) @ power_of_gram(on(X @ X.T), 0.0, 1), pseudo_inverse, 1e3)


def test_the_cutoff_is_an_argument():
    K, R = on(np.diag([1.0, 1e-6])), on(np.diag([1.0, 1e-3]))
    for power, root in ((power_of_gram, 1.0), (lambda _, *a: power_of_root(R, 1, *a), R)):  # of a K and of its root
        root = host(root * on(np.eye(2))).diagonal()
        assert host(power(K, 0.0, 1, None)).diagonal() == pytest.approx(root * [1, 1e6])
        assert host(power(K, 0.0, 1, 1e-2)).diagonal() == pytest.approx(root * [1, 0])
        assert host(power(K, 1e-3, 1, 1e-2)).diagonal() == pytest.approx(root * [1 / 1.001, 0])
    assert host(rn.inverse_power(K, rcond=1e-5)).diagonal() == pytest.approx([1, 0])
    assert cutoff(2, K.dtype) == 8 * 2**-52
    p = problem((6, 9, 9, 1))
    coarse, fine = (rn.flatten(rn.BlockDiagonal(rcond=r).direction(p.s, p.e)) for r in (0.5, None))
    assert np.linalg.norm(host(coarse)) < np.linalg.norm(host(fine))


@pytest.mark.parametrize(
    "make", [rn.Exact, rn.BlockDiagonal, rn.BlockTridiagonal, rn.KFAC, rn.Unitwise, rn.QuasiDiagonal]
)
def test_every_path_heeds_the_cutoff(make):
    p, coarse = problem((6, 9, 9, 2), rn.tanh, 0.5), make(rcond=0.3)
    step = host(rn.push(p.s, coarse.direction(p.s, p.e)))
    assert relative(step, rn.push(p.s, make().direction(p.s, p.e))) > 1e-2
    assert relative(host(coarse.coefficient(p.s, p.s)) @ host(p.e).ravel(), step.ravel()) < 1e-8


@pytest.mark.parametrize("bias", ["augmented", "separate"])
def test_the_cutoff_of_kfac_holds_for_each_factor(bias):
    p, rcond, N = problem((6, 9, 9, 2), rn.tanh, 0.5), 0.3, 4
    h, delta = host(p.s.h), [d.reshape(2 * N, -1) for d in host(p.s.delta)]
    gradient, m = host(rn.pull(p.s, p.e)), -1 if bias == "separate" else None
    for l, dw in enumerate(host(rn.KFAC(bias, rcond=rcond).direction(p.s, p.e))):
        A, B = h[l][:, :m].T @ h[l][:, :m] / N, delta[l].T @ delta[l] / N
        B_inverse = np.linalg.pinv(B if l < 2 else np.eye(2) / N, rcond**2, hermitian=True)
        desired = B_inverse @ (gradient[l][:, :m] / N) @ np.linalg.pinv(A, rcond**2, hermitian=True)
        if m:
            block = np.linalg.pinv(0.25 * delta[l].T @ delta[l] / N**2, rcond**2, hermitian=True)
            desired = np.c_[desired, block @ gradient[l][:, -1:] / N]
        assert_close(dw, desired, 1e3)


def test_the_cutoff_of_the_unit_wise_step_holds_for_each_unit():
    p, rcond = problem((6, 9, 1), rn.tanh), 0.3
    h, delta = host(p.s.h[0]), host(p.s.delta[0])[:, 0]
    for d, dw in zip(delta.T, host(rn.Unitwise(rcond=rcond).direction(p.s, p.e)[0]), strict=True):
        J = d[:, None] * h
        assert_close(dw, np.linalg.pinv(J, rcond) @ host(p.e)[:, 0], 1e3)


@pytest.mark.parametrize("L", [2, 5, 8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_null_space_of_sigma_costs_no_accuracy(L, dtype):
    """Block tri-diagonal of depth 3 s + 2, at a damping far below the kernels': the pseudo-inverse to rounding."""
    double, p = (problem((8, *[40] * (L - 1), 1), rn.tanh, dtype=d) for d in (np.float64, dtype))
    limit = rn.flatten(rn.BlockTridiagonal().direction(double.s, double.e))
    for rho in (0.0, 1e-13):
        assert_close(rn.flatten(rn.BlockTridiagonal().direction(p.s, p.e, rho)), limit, 1e3, dtype)


@pytest.mark.parametrize("rho", [1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("make", [rn.Exact, rn.BlockDiagonal])
def test_small_damping_of_a_singular_kernel_costs_what_the_module_says(make, rho):
    """Duplicate samples with different labels: errors of about u ||K|| / rho."""
    p = problem((8, 40, 40, 1), rn.tanh)
    x = host(p.x)
    x[3] = x[0]
    s = p.net.signals(p.W, on(x))
    desired = definitions.flatten(definitions.direction(literal(s), host(p.e), DEFINED[make.__name__], rho))
    size = np.linalg.norm(host(rn.ntk(s, s)), 2)
    assert_close(rn.flatten(make().direction(s, p.e, rho)), desired, 1e3 + size / rho)


def test_a_kernel_of_zeros_has_the_pseudo_inverse_zero():
    assert (host(rn.inverse_power(on(np.zeros((3, 3))))) == 0).all()
    assert (host(power_of_gram(on(np.zeros((3, 3))), 0.0, 1)) == 0).all()
    assert (host(power_of_root(on(np.zeros((3, 2))), 1, 0.0, 2)) == 0).all()


@pytest.mark.parametrize("name", FISHERS)
def test_float32_stays_float32_and_agrees_with_float64(name):
    single, double = (
        problem((6, 20, 20, 2), rn.relu, np.float64(0.5), seed=1, dtype=d) for d in (np.float32, np.float64)
    )
    fisher, rho = FISHERS[name], np.float64(20.0)  # a NumPy scalar would promote
    for q in (1, np.float64(2)):
        if q == 1 or name not in ("BlockTridiagonal", "QuasiDiagonal"):
            for a, b in zip(
                fisher.direction(single.s, single.e, rho, q), fisher.direction(double.s, double.e, rho, q), strict=True
            ):
                assert a.dtype == np.float32
                assert_close(a, b, 10, np.float32)
            coefficient = fisher.coefficient(single.test, single.s, rho, q)
            assert coefficient.dtype == np.float32
            assert_close(coefficient, fisher.coefficient(double.test, double.s, rho, q), 10, np.float32)
    assert fisher.matrix(single.s, rho).dtype == np.float32


def scaled(s, h=1.0, delta=1.0):
    """The signals with those of the first layer multiplied."""
    return rn.Signals(s.f, [h * s.h[0], *s.h[1:]], [delta * s.delta[0], *s.delta[1:]], s.trained)


FIXED = ("KFAC", "KFAC-separate", "KFAC-product")  # in the last layer their B is I / N


@pytest.mark.parametrize("name", [name for name in FISHERS if name not in ("Identity", *FIXED)])
@pytest.mark.parametrize("exponent", [-450, -270, 270, 450])
def test_directions_scale_with_the_signals_at_any_size(name, exponent):
    """J -> c J makes the undamped step c^{1 - 2/q} times as large: to the last digit, if c is a power of two."""
    p, size = problem((6, 9, 9, 1), rn.tanh, 0.5), 2.0**exponent
    trained = replace(p.s.trained, bias=tuple(size * b for b in p.s.trained.bias))
    s = rn.Signals(p.s.f, [size * h for h in p.s.h], [size * d for d in p.s.delta], trained)
    for q in (1, 2):
        if q == 1 or name not in ("BlockTridiagonal", "QuasiDiagonal"):
            desired = rn.flatten(FISHERS[name].direction(p.s, p.e, 0.0, q))
            actual = rn.flatten(FISHERS[name].direction(s, p.e, 0.0, q))
            assert relative(actual * size ** (4 / q - 2), desired) < 1e-14


def test_tiny_backward_signals_are_alive_for_a_unit():
    p = problem((6, 9, 1))
    for size in (1e-12, 1e-100, 1e-150, 1e-290):
        s = scaled(p.s, delta=on(np.array([1.0, size, 1, 1]))[:, None, None])
        for d, dw in zip(host(s.delta[0])[:, 0].T, host(rn.Unitwise().direction(s, p.e)[0]), strict=True):
            assert relative(dw, np.linalg.pinv(host(s.h[0])) @ (host(p.e)[:, 0] / d)) < 1e-12
    damped = rn.Unitwise().direction(scaled(p.s, delta=1e-12), p.e, 1e-8)[0]
    gradient = 1e-12 * host(rn.pull(p.s, p.e)[0]) / 4
    assert relative(damped, gradient / 1e-8) < 1e-12  # G is 1e-16 of rho


@pytest.mark.parametrize("make", [rn.Exact, rn.BlockTridiagonal, rn.KFAC])
def test_kernel_coefficient_takes_numpy_numbers_without_promotion(make):
    p = problem((6, 20, 20, 2), rn.tanh, dtype=np.float32)
    cross, own = rn.empirical_kernels(p.test, p.s), rn.empirical_kernels(p.s, p.s)
    Theta_bar = make().kernel_coefficient(cross, own, np.float64(20.0), np.float64(1))
    assert Theta_bar.dtype == np.float32
    assert_close(Theta_bar, make().coefficient(p.test, p.s, 20.0), 10, np.float32)


def test_kfac_of_a_narrow_network_needs_no_matrix_of_the_samples():
    rng, net = generator(), rn.Network((10, 20, 1), rn.tanh)
    s = net.signals(net.init(rng), rng.standard_normal((3000, 10)))  # on the host, where tracemalloc sees it
    tracemalloc.start()
    rn.KFAC().direction(s, s.f)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 3000**2 / 10


@pytest.mark.parametrize("name", FISHERS)
def test_float32_stays_float32_without_damping(name):
    p = problem((6, 20, 20, 2), rn.relu, 0.5, dtype=np.float32)
    assert {dw.dtype for dw in FISHERS[name].direction(p.s, p.e)} == {np.dtype(np.float32)}
    assert FISHERS[name].coefficient(p.test, p.s).dtype == np.float32


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize("activation", [rn.relu, rn.tanh, rn.erf, rn.linear, rn.shifted_relu(np.float64(0.5))], ids=str)
def test_float32_signals_training_and_theory_stay_float32(activation, parameterization):
    p = problem((6, 20, 2), activation, 0.5, dtype=np.float32, parameterization=parameterization)
    arrays = [p.s.f, *p.s.h, *p.s.delta, rn.jacobian(p.s), rn.push(p.s, p.W), *rn.pull(p.s, p.e), rn.flatten(p.W)]
    *_, last = rn.train(p.net, p.W, p.x, p.e, rn.Exact(), np.float64(0.1), 2)
    Theta_bar = rn.Exact().coefficient(p.s, p.s)
    arrays += [last.f, *last.W, Theta_bar, rn.Dynamics(Theta_bar, p.s.f, p.e, np.float64(0.1)).accumulated(np.int64(3))]
    arrays += [rn.linearized(p.s, p.W, last.W), rn.inverse_power(Theta_bar, np.float64(0.1), np.float64(2))]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("L", [3, 4, 5])
def test_coupled_layers_with_a_duplicate_sample_at_a_tiny_damping(L):
    """Against 40 digits. LU of the coupled kernels, of which each is singular, is wrong by 5e-6 here for L = 4."""
    p, rho = problem((8, *[12] * (L - 1), 1), rn.tanh), 1e-12
    x = host(p.x)
    x[3] = x[0]
    s = p.net.signals(p.W, on(x))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "rho = .* lies among the negative eigenvalues")
        direction = rn.flatten(rn.BlockTridiagonal().direction(s, p.e, rho))
    with mpmath.workdps(40):
        J = mpmath.matrix(host(rn.jacobian(s)).tolist())
        layer = np.repeat(range(L), [M * k for M, k in p.net.shapes])
        # (Sigma o J^T J / N + rho I) d = J^T e / N, by the Woodbury identity in the L N dimensions of the samples
        rows = mpmath.matrix(4 * L, J.cols)  # S = blockdiag(J_l)
        for n in range(4):
            for c in range(J.cols):
                rows[4 * int(layer[c]) + n, c] = J[n, c]
        Sigma = np.kron(rn.BlockTridiagonal().Sigma(L), np.eye(4))
        gram = rows * rows.T / 4
        system = mpmath.matrix(Sigma.tolist()) * gram + rho * mpmath.eye(4 * L)
        lam = mpmath.lu_solve(system, mpmath.matrix(np.tile(host(p.e), (L, 1)).tolist()))
        exact = np.array([float(v) for v in rows.T * lam / 4])
    assert relative(direction, exact) < 1e-12


@pytest.mark.parametrize(("N", "C"), [(4, 1), (4, 3), (9, 1)])
def test_duplicates_with_any_damping(N, C):
    """Multipliers of e / rho cancel in the step: to rounding, not to a share of it.  No damped direction is lost."""
    p = problem((12, 12, 12, C), rn.tanh, 0.5, N=N)
    x, e = host(p.x), host(p.e)
    x[-1] = x[0]
    s = p.net.signals(p.W, on(x))
    options = [("identity", "factors"), ("gram", "factors"), ("gram", "product")]
    fishers = [rn.Exact(), rn.BlockDiagonal(), rn.Unitwise(), *(rn.KFAC(last=l, damping=d) for l, d in options)]
    for fisher in fishers:
        for rho in 10.0 ** np.arange(-18, -5):
            with warnings.catch_warnings():
                warnings.simplefilter("error" if rho > 1e-10 else "ignore")
                step = rn.flatten(fisher.direction(s, on(e), rho))
            exact = definitions.direction(literal(s), e, fisher._definition(s.trained), rho)
            assert relative(step, definitions.flatten(exact)) < 1e-9, (fisher, rho)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fisher.direction(s, on(e), 1e-3, 2)


def test_a_cut_off_says_which_share_of_the_residual_it_removes():
    p = problem((6, 9, 9, 1), rn.tanh, 0.5)
    x, e = host(p.x), host(p.e)
    x[3] = x[0]
    s = p.net.signals(p.W, on(x))
    share = abs(e[3] - e[0])[0] / 2**0.5 / np.linalg.norm(e)
    for name in ("Exact", "BlockDiagonal", "BlockTridiagonal", "Unitwise"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            FISHERS[name].direction(s, on(e))
            FISHERS[name].direction(p.s, p.e)  # no duplicates: in silence
        assert [str(w.message).split(" of the residual")[0].split()[-1] for w in caught] == [f"{share:.1g}"], name
        assert caught[0].filename == __file__, name
        e_equal = e.copy()
        e_equal[3] = e[0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            FISHERS[name].direction(s, on(e_equal))


def test_dead_samples_are_no_loss():
    """Their rows of J are zero, exactly: no cut-off decides about them."""
    p = problem((6, 9, 1), rn.relu)
    x = host(p.x)
    x[2] = 0.0
    s = p.net.signals(p.W, on(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("Exact", "BlockDiagonal", "BlockTridiagonal"):
            FISHERS[name].direction(s, p.e)


def test_jacobians_out_of_range_are_an_error():
    p = problem((6, 9, 1))
    for size in (1e200, 1e-200):
        s = rn.Signals(p.s.f, [size * h for h in p.s.h], [size * d for d in p.s.delta])
        for name in ("Exact", "Unitwise", "Entrywise"):
            with pytest.raises(FloatingPointError, match="the Jacobian leaves the range of float64: rescale x or the"):
                FISHERS[name].direction(s, p.e)


def test_arrays_are_finite_together_if_each_is_and_a_sum_that_overflows_does_not_count():
    good, large, bad = (on(np.array(values)) for values in ([1.0, 2.0], [1.5e308, 1.5e308], [1.0, np.nan]))
    assert is_finite(good, large)
    assert not is_finite(good, bad)
    assert not is_finite(bad, good)
