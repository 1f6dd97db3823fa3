"""Preprocessing of inputs x (N, M_0), on the host or the device.

The Forster transform is `A = forster(x)`, then `unit_norm(x @ A)` and, with the same A, `unit_norm(x_test @ A)`.
"""

import math

import numpy as np

from .arrays import Array, array_module
from .checks import checked_array, checked_number, checked_numbers, checked_whole
from .spectral import eigen_power


def standardise(x: Array, train: Array | None = None) -> Array:
    """x less the mean of all entries of `train` (default: x), over their standard deviation.

    K&O's published code does so before `unit_norm`; their text asks for unit norm alone. It is one mean and one
    deviation for all inputs, so pixels that never change need no care; test data take those of the training data.
    Integers become float64. Raises ValueError if `train` is constant, or x or `train` is no finite array (n, M_0).
    """
    x = checked_numbers("x", x, ("n", "M_0"))
    train = x if train is None else checked_numbers("train", train, ("N", x.shape[1]))
    with np.errstate(all="ignore"):  # reported below
        mean, deviation = train.mean(), train.std()
    if not 0 < float(deviation) < math.inf:  # not <=, or this passes nan
        raise ValueError(f"train is constant or too large, from {train.min()} to {train.max()}: it has no scale")
    return (x - mean) / deviation


def unit_norm(x: Array) -> Array:
    """x with every row scaled to ||x_n|| = 1, as K&O assume throughout.

    Integers become float64. Raises ValueError for rows of zeros, and for what is no finite array (n, M_0).
    """
    x = checked_numbers("x", x, ("n", "M_0"))
    xp, largest = array_module(x), abs(x).max(1, keepdims=True)
    if not (largest > 0).all():
        raise ValueError(
            f"x has {int((largest == 0).sum())} rows of zeros, which cannot be scaled to unit norm; drop them"
        )
    x = x / largest  # squares neither overflow nor underflow then
    return x / xp.linalg.norm(x, axis=1, keepdims=True)


def forster(x: Array, tolerance: float | None = None, steps: int = 10_000) -> Array:
    """A (M_0, M_0) of the Forster transform Y = unit_norm(x A), Y^T Y = (N / M_0) I.

    x: (N, M_0), the samples, N >= M_0.
    tolerance: of ||S - I||_F; None stands for 4 eps ||A||_F ||A^{-1}||_F, which is what rounding leaves, and from there
        on for as long as it falls, since slow convergence leaves more of A than of S.
    steps: at most so many.

    K&O B.3, below (S.109): on Y the first layer of K-FAC is isotropic although M_0 < N, (S.111). It iterates
    A <- A S^{-1/2}, up to a rotation, S = (M_0 / N) Y^T Y, until ||S - I||_F <= tolerance. Convergence is linear, and
    slow for N just above M_0. The work is done in float64, for S squares the condition number of x, and A is rounded to
    the dtype of x in the end.

    A solution needs every subspace of k dimensions to hold at most k N / M_0 samples. Raises ValueError for bad
    arguments and N < M_0; LinAlgError, saying what to do, if x has not rank M_0, if a subspace holds too many samples
    (A diverges), and if `steps` do not suffice.
    """
    xp, (N, M_0) = array_module(x), checked_array("x", x, ("N", "M_0")).shape
    if N < M_0:
        raise ValueError(f"x is {x.shape}; expected N >= M_0: with N <= M_0 K-FAC needs no transform")
    steps = checked_whole("steps", steps, 1)
    if tolerance is not None:
        tolerance = checked_number("tolerance", tolerance, "None or a number > 0", lambda v: v > 0)
    X, I = x.astype(np.float64), xp.eye(M_0, dtype=np.float64)
    A, eps, last = I, float(np.finfo(X.dtype).eps), math.inf
    for step in range(steps + 1):
        Y = unit_norm(X @ A)
        S = Y.T @ Y * (M_0 / N)
        V, power = eigen_power(S, 0.0, 2, None)
        rank = int((power > 0).sum())
        if rank < M_0:
            raise xp.linalg.LinAlgError(_deficient(rank, M_0))
        residual, rounding = float(xp.linalg.norm(S - I)), 4 * eps * float(xp.linalg.cond(A, "fro"))
        if not rounding < eps ** (1 / 3):  # X A is losing its digits: A runs away from a crowded subspace
            raise xp.linalg.LinAlgError(_crowded(power, N))
        if residual <= (tolerance or rounding) and (tolerance or step == steps or not residual < last):
            return A.astype(x.dtype)
        A, last = A @ (V * power), residual
    raise xp.linalg.LinAlgError(
        f"no Forster transform of x in {steps} steps: ||(M_0 / N) Y^T Y - I|| is still {residual:.3g}. Raise steps or "
        f"tolerance, add samples (N = {N}, M_0 = {M_0}), or keep fewer principal components"
    )


def _deficient(rank: int, M_0: int) -> str:
    """Why S is singular."""
    return (
        f"x has rank {rank}, not M_0 = {M_0}: {M_0 - rank} of its directions are dead, or far smaller than the others. "
        f"Drop them, e.g. keep the first {rank} principal components, x @ Vh[:{rank}].T with Vh of numpy.linalg.svd(x)"
    )


def _crowded(power: Array, N: int) -> str:
    """Why A diverges: in the limit, the eigenvalues of S above 1 are those of the crowded subspace."""
    w = power**-2
    M_0, excess = w.size, w - 1
    crowded = excess > 1e-4 * abs(excess).max()  # not > 0: a balanced rest has w = 1 up to rounding
    k = int(crowded.sum())
    samples = round(float((w * crowded).sum()) * N / M_0)
    return (
        f"x has no Forster transform: about {samples} of the {N} samples lie in (or next to) a subspace of {k} of the "
        f"{M_0} dimensions, which may hold {k * N / M_0:.4g} at most. Drop duplicate samples, and inputs that few "
        "samples use, e.g. by keeping fewer principal components"
    )
