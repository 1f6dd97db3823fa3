"""Functions of a symmetric matrix K: (K + rho I)^{-1/q}, the pseudo-inverse, and the refined Gram solve.

    (J^T J + rho I)^{-1/q} J^T = J^T (J J^T + rho I)^{-1/q}

so inverses are taken of small Gram matrices, never of P x P ones. A matrix that is singular to working precision is
inverted through its eigenvalues, where those below `rcond` times the largest count as zero: rho = 0 always means the
Moore-Penrose pseudo-inverse. (What lies outside the range of a singular K is amplified by 1 / rho before J^T removes
it: a small rho > 0 costs errors of about u ||K|| / rho there.)
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, array_module, raising, require_memory
from .checks import checked_damping, checked_rcond, checked_symmetric

LinearMap = Callable[[Array], Array]


def cutoff(n: int, dtype: Any, rcond: float | None = None) -> float:
    """`rcond`, or by default 4 n eps: just above what rounding leaves of a zero eigenvalue of an n x n matrix."""
    return 4 * n * float(np.finfo(dtype).eps) if rcond is None else float(rcond)


def inverse_power(K: Array, rho: float = 0.0, q: float = 1, rcond: float | None = None) -> Array:
    """(K + rho I)^{-1/q} (.., n, n) of symmetric K (.., n, n): the definition; the pseudo-inverse at q = 1, rho = 0.

    Eigenvalues of K + rho I of modulus <= `rcond` (default: `cutoff`) times the largest count as zero. K may be
    indefinite if q is 1 or inf. Raises ValueError for bad arguments, LinAlgError where a negative eigenvalue has no
    power, MemoryError, and FloatingPointError if K is not finite.
    """
    rho, q = checked_damping(rho, q)
    shape = " x ".join(map(str, K.shape))
    require_memory(array_module(K), 4 * K.size * K.dtype.itemsize, f"a function of a {shape} matrix", "call direction")
    V, power = eigen_power(checked_symmetric("K", K), rho, q, checked_rcond(rcond))
    return (V * power) @ V.mT


def solve(
    K: Array, B: Array, rho: float, q: float, product: LinearMap | None = None, rcond: float | None = None
) -> Array:
    """(K + rho I)^{-1/q} B (n, k) for K >= 0 (n, n) and B (n, k).

    `product`, X -> K X computed from a factor of K = J J^T, buys one step of iterative refinement when q = 1: the
    error falls from u cond(J)^2, which forming K costs, to about u cond(J).
    """
    return refined(_inverse_map(K, rho, q, rcond), B, product if q == 1 else None, rho)


def refined(inverse: LinearMap, B: Array, product: LinearMap | None, rho: float = 0.0) -> Array:
    """inverse(B), improved by one step of iterative refinement with `product`, if there is one."""
    X = inverse(B)
    return X if product is None else X + inverse(B - product(X) - rho * X)


def gram(X: Array, n: int) -> Array:
    """X X^T / n (r, r) of X (r, m). Raises FloatingPointError if it overflows, or all of it underflows."""
    with np.errstate(all="ignore"):  # reported below
        K = X @ X.T / n
    largest = float(K.diagonal().max())
    if not (float(np.finfo(K.dtype).tiny) <= largest < math.inf or (X == 0).all()):
        raise FloatingPointError(f"a Gram matrix leaves the range of {K.dtype}: rescale the inputs or the weights")
    return K


def damped(K: Array, rho: float) -> Array:
    """K + rho I (n, n)."""
    K, i = K.copy(), array_module(K).arange(len(K))
    K[i, i] += rho
    return K


def is_regular(K: Array, rcond: float | None = None) -> bool:
    """Whether K (n, n) is non-singular to working precision: rcond ||K||_F ||K^{-1}||_F < 1."""
    return bool(array_module(K).linalg.cond(K, "fro") * cutoff(K.shape[-1], K.dtype, rcond) < 1)


def lu_solve(K: Array, B: Array) -> Array:
    """K^{-1} B (.., n, k) for any non-singular K (.., n, n)."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.solve(K, B)


def eigenvalues(K: Array) -> Array:
    """The eigenvalues (.., n) of a symmetric K (.., n, n), ascending. Raises FloatingPointError if K is not finite."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.eigvalsh(_finite(K))


def eigen(K: Array) -> tuple[Array, Array]:
    """The eigenvalues (.., n), ascending, and eigenvectors (.., n, n) of a symmetric K (.., n, n). Raises as above."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.eigh(_finite(K))


def eigen_power(K: Array, rho: float, q: float, rcond: float | None) -> tuple[Array, Array]:
    """Eigenvectors V (.., n, n) and (w + rho)^{-1/q} (.., 1, n) of K (.., n, n), zero where cut off."""
    xp = array_module(K)
    w, V = eigen(K)
    w = w[..., None, :] + rho
    live = abs(w) > cutoff(K.shape[-1], K.dtype, rcond) * abs(w).max(
        -1, keepdims=True
    )  # not >=, or this fails on a matrix of all zeros
    if 1 < q < math.inf and (live & (w < 0)).any():
        low = f"there is a negative eigenvalue, {float(w.min()):.3g}"
        raise xp.linalg.LinAlgError(f"no real power -1/{q:g}: {low}; if it is rounding, raise rcond")
    return V, live * xp.where(live, w, 1) ** (-1 / q)


def _finite(K: Array) -> Array:
    if not array_module(K).isfinite(K).all():
        raise FloatingPointError("a matrix has non-finite entries: rescale the inputs or the weights")
    return K


def _inverse_map(K: Array, rho: float, q: float, rcond: float | None) -> LinearMap:
    """X -> (K + rho I)^{-1/q} X."""
    if q == 1:
        K_rho = damped(K, rho)
        if is_regular(K_rho, rcond):
            return lambda X: lu_solve(K_rho, X)
    V, power = eigen_power(K, rho, q, rcond)
    return lambda X: V @ (power.T * (V.T @ X))


def haar(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """A Haar distributed (m, n) with orthonormal columns, or with orthonormal rows if m < n."""
    Q, R = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))
    Q *= np.sign(np.diag(R))  # LAPACK's signs depend on the draw: Q alone is not uniform
    return Q if m >= n else Q.T
