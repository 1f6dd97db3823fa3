"""Functions of a symmetric matrix K: (K + rho I)^{-1/q}, the pseudo-inverse, and the refined Gram solve.

    (J^T J + rho I)^{-1/q} J^T = J^T (J J^T + rho I)^{-1/q}

so inverses are taken of small Gram matrices, never of P x P ones. A matrix that is singular to working precision is
inverted through its eigenvalues, where those below `rcond` times the largest count as zero: rho = 0 always means the
Moore-Penrose pseudo-inverse.
"""

import math
from collections.abc import Callable

from .arrays import Array, array_module, raising, require_memory

Map = Callable[[Array], Array]


def cutoff(K: Array, rcond: float | None = None) -> float:
    """`rcond`, or by default 4 n eps for K (.., n, n): just above what rounding leaves of a zero eigenvalue."""
    return 4 * K.shape[-1] * float(array_module(K).finfo(K.dtype).eps) if rcond is None else float(rcond)


def inverse_power(K: Array, rho: float = 0.0, q: float = 1, rcond: float | None = None) -> Array:
    """(K + rho I)^{-1/q} (.., n, n) of symmetric K (.., n, n): the definition; the pseudo-inverse at q = 1, rho = 0.

    Eigenvalues of K + rho I of modulus <= `rcond` (default: `cutoff`) times the largest count as zero.
    K may be indefinite if q = 1. Raises LinAlgError for q > 1 and a negative eigenvalue, and MemoryError.
    """
    shape = " x ".join(map(str, K.shape))
    require_memory(array_module(K), 3 * K.size * K.dtype.itemsize, f"a function of a {shape} matrix", "call direction")
    V, power = eigen_power(K, float(rho), float(q), rcond)
    return (V * power) @ V.mT


def damped(K: Array, rho: float) -> Array:
    """K + rho I (n, n)."""
    return K + rho * array_module(K).eye(len(K), dtype=K.dtype)


def solve(K: Array, B: Array, rho: float, q: float, product: Map | None = None, rcond: float | None = None) -> Array:
    """(K + rho I)^{-1/q} B (n, k) for K >= 0 (n, n) and B (n, k).

    `product`, X -> K X computed from a factor of K = J J^T, buys one step of iterative refinement when q = 1: the
    error falls from u cond(J)^2, which forming K costs, to about u cond(J).
    """
    inverse = _inverse_map(K, rho, q, rcond)
    X = inverse(B)
    if product is not None and q == 1:
        X = X + inverse(B - product(X) - rho * X)
    return X


def gram_solve(X: Array, B: Array, n: int, rho: float, q: float, rcond: float | None, refine: bool) -> Array:
    """(X^T X / n + rho I)^{-1/q} X^T B = X^T (X X^T / n + rho I)^{-1/q} B (m, k), by the smaller side of X (r, m)."""
    r, m = X.shape
    if r <= m:
        return X.T @ solve(X @ X.T / n, B, rho, q, (lambda Y: X @ (X.T @ Y) / n) if refine else None, rcond)
    return solve(X.T @ X / n, X.T @ B, rho, q, (lambda Y: X.T @ (X @ Y) / n) if refine else None, rcond)


def is_regular(K: Array, rcond: float | None = None) -> bool:
    """Whether a symmetric K (n, n) is non-singular to working precision: rcond ||K||_F ||K^{-1}||_F < 1."""
    xp = array_module(K)
    return bool(xp.linalg.cond(K, "fro") * cutoff(K, rcond) < 1)


def lu_solve(K: Array, B: Array) -> Array:
    """K^{-1} B (.., n, k) for any non-singular K (.., n, n). Raises LinAlgError if K is exactly singular."""
    xp = array_module(K)
    try:
        with raising(xp):
            return xp.linalg.solve(K, B)
    except xp.linalg.LinAlgError as error:
        raise xp.linalg.LinAlgError(f"the system is singular at this damping: change rho ({error})") from error


def eigenvalues(K: Array) -> Array:
    """The eigenvalues (.., n) of a symmetric K (.., n, n), ascending."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.eigvalsh(K)


def eigen(K: Array) -> tuple[Array, Array]:
    """The eigenvalues (.., n), ascending, and eigenvectors (.., n, n) of a symmetric K (.., n, n)."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.eigh(K)


def _inverse_map(K: Array, rho: float, q: float, rcond: float | None) -> Map:
    """X -> (K + rho I)^{-1/q} X."""
    if q == 1:
        K_rho = damped(K, rho)
        if is_regular(K_rho, rcond):
            return lambda X: lu_solve(K_rho, X)
    V, power = eigen_power(K, rho, q, rcond)
    return lambda X: V @ (power.T * (V.T @ X))


def eigen_power(K: Array, rho: float, q: float, rcond: float | None) -> tuple[Array, Array]:
    """Eigenvectors V (.., n, n) and (w + rho)^{-1/q} (.., 1, n) of K (.., n, n), zero where cut off."""
    xp = array_module(K)
    w, V = eigen(K)
    w = w[..., None, :] + rho
    live = abs(w) > cutoff(K, rcond) * abs(w).max(-1, keepdims=True)  # not >=, or this fails on a matrix of all zeros
    if 1 < q < math.inf and (live & (w < 0)).any():
        raise xp.linalg.LinAlgError(
            f"no real power -1/{q:g}: the matrix has the negative eigenvalue {float(w.min()):.3g}"
        )
    return V, live * xp.where(live, w, 1) ** (-1 / q)
