"""f_inf of K&O (14) at infinite width, for so many samples that no Theta_bar and no eigenvectors are formed.

    f_inf(x') = f_0(x') + Theta_bar(x', x) Theta_bar^{-1} R,    R = y - f_0
    exact, and gradient descent:   Theta(x', x) Theta^{-1} R
    Sigma of layers, Sigma w = 1:  sum_l w_l Theta_l(x', x) Theta_l^{-1} R / sum_l w_l                       (16)
    K-FAC, one output:             sum_l (B_l(x', x) B_l^{-1} * A_{l-1}(x', x) A_{l-1}^+) D^{-1} R           (21)

B_L B_L^{-1} counts as 1 (B*_L = I / N), and D = L - 1 + diag(A_0 A_0^+), by which the same sum on the training samples
is diagonal. f_0 is drawn for the training samples, and for the others on condition of these.
"""

import numpy as np
import scipy.linalg

import refngd as rn
from refngd.arrays import Array, array_module
from refngd.kernels import Kernels

PROBES = 100  # of the training samples, on which K-FAC is tried as on others


def solve(K: Array, B: Array) -> Array:
    """K^{-1} B (n, k) of a positive definite K (n, n)."""
    if array_module(K) is np:
        return scipy.linalg.solve(K, B, assume_a="pos", check_finite=False)
    return array_module(K).linalg.solve(K, B)


def layers(net: rn.Network, test: Array, train: Array) -> list[Array]:
    """N Theta_l(x', x) (N', N), l = 1..L; the last one is Q_L, the covariance of f_0, too, since B_L is 1."""
    kernels = rn.analytic_kernels(net, test, train)
    for A, B in zip(kernels.A, kernels.B, strict=True):
        B *= A
    return kernels.B


def outputs(Q: Array, cross: Array, test: Array, n: int, C: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """n draws of f_0 of training (N, (n+1) C) and test samples (N', (n+1) C) from N(0, Q_L), and f_0 = 0 as the last.

    Q (N, N), cross (N', N), test (N', N'): the parts of Q_L.
    """
    xp, z = array_module(Q), rng.standard_normal((sum(cross.shape), n * C))
    z, z_test = (xp.asarray(part, dtype=Q.dtype) for part in (z[: len(Q)], z[len(Q) :]))
    f, W = xp.linalg.cholesky(Q) @ z, solve(Q, cross.T)
    f_test = W.T @ f + xp.linalg.cholesky(test - cross @ W) @ z_test
    return tuple(xp.pad(g, ((0, 0), (0, C))) for g in (f, f_test))


def of_layers(train: list[Array], cross: list[Array], R: Array) -> dict[str, tuple[Array, Array]]:
    """Theta_bar(x', x) Theta_bar^{-1} R (N', k), and the same on the training samples (N, k), by approximation.

    train, cross: those of `layers`.
    R: (N, k).
    """

    def both(Theta1: Array, Theta: Array) -> tuple[Array, Array]:
        v = solve(Theta, R)
        return Theta1 @ v, Theta @ v

    of, L = [both(*pair) for pair in zip(cross, train, strict=True)], len(train)
    changes = {"exact": both(sum(cross), sum(train))}
    for name, fisher in (("block-diagonal", rn.BlockDiagonal()), ("tri-diagonal", rn.BlockTridiagonal())):
        w = np.linalg.solve(fisher.Sigma(L), np.ones(L)).tolist()  # regular for L = 3
        changes[name] = tuple(
            sum(w_l * v for w_l, v in zip(w, of_l, strict=True)) / sum(w) for of_l in zip(*of, strict=True)
        )
    return changes


def of_kfac(train: Kernels, cross: Kernels, first: Array, diagonal: Array, R: Array) -> tuple[Array, Array]:
    """Theta_bar(x', x) Theta_bar^{-1} R (N', k), and the same on the first training samples (PROBES, k).

    train, cross: of one output.
    first: (N' + PROBES, N), A_0 A_0^+, or what stands for it, of test samples and of the first training samples.
    diagonal: (N,), of the same on the training samples.
    R: (N, k).
    """
    xp = array_module(R)

    def ratio(K1: Array, K: Array) -> Array:
        return solve(K, xp.concatenate([K1, K[:PROBES]]).T).T

    Theta_bar = first * ratio(cross.B[0], train.B[0])
    for A1, A, B1, B in zip(cross.A[1:-1], train.A[1:-1], cross.B[1:-1], train.B[1:-1], strict=True):
        Theta_bar += ratio(B1, B) * ratio(A1, A)
    Theta_bar += ratio(cross.A[-1], train.A[-1])
    change = Theta_bar @ (R / (len(train.A) - 1 + diagonal)[:, None])
    return change[: len(cross.A[0])], change[len(cross.A[0]) :]


def projector(x: Array, x_test: Array) -> tuple[Array, Array, int, float]:
    """X' X^+ of test and of the first training samples (N' + PROBES, N), the diagonal of X X^+ (N,), the rank, and the
    condition number of X X^T on its range."""
    xp = array_module(x)
    U, t, Vt = xp.linalg.svd(x, full_matrices=False)
    live = t > max(x.shape) * float(np.finfo(x.dtype).eps) * t[0]  # as `matrix_rank` counts
    U, t, Vt = U[:, live], t[live], Vt[live]
    rows = xp.concatenate([x_test, x[:PROBES]]) @ (Vt.T / t) @ U.T
    return rows, (U * U).sum(1), len(t), float(t[0] / t[-1]) ** 2
