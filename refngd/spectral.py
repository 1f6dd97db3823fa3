"""Functions of symmetric matrices K and of their roots R: (K + rho I)^{-1/q} and (R^T R / n + rho I)^{-1/q} R^T.

    R = U t V^T:    (R^T R + rho I)^{-1/q} R^T = R^T (R R^T + rho I)^{-1/q} = V t (t^2 + rho)^{-1/q} U^T

So a power of a large matrix is one of the smaller of two Gram matrices, or of the singular values of the root. Forming
R R^T squares the condition number, the root does not: `refined_inverse` corrects what the Gram matrix has lost by
products with the root, and `power_of_root` falls back on its singular values. `power_of_gram` has no root.

rho = 0 always means the Moore-Penrose pseudo-inverse: what is at most `cutoff` times the largest counts as zero.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .arrays import Array, array_module, is_finite, raising, require_memory
from .checks import checked_damping, checked_rcond, checked_symmetric

LinearMap = Callable[[Array], Array]
SAFE = 900.0  # cond(K) = cond(R)^2 up to which K alone is accurate to 30 u cond(R), the tolerance of the tests


def cutoff(n: int, dtype: Any, rcond: float | None = None) -> float:
    """`rcond`, or by default 4 n eps: just above what rounding leaves of a zero, of an n x n matrix or its root."""
    return 4 * n * float(np.finfo(dtype).eps) if rcond is None else float(rcond)


def largest(X: Array) -> float:
    """The largest modulus of the entries of X."""
    return float(abs(X).max())


def inverse_size(X: Array) -> Array:
    """Powers of two T with 1/2 <= T X < 1 for normal X >= 0, and T = 1 where X is 0."""
    xp = array_module(X)
    exponent = xp.maximum(xp.frexp(X)[1], int(np.finfo(X.dtype).minexp))  # or T would be infinite
    return xp.where(X > 0, xp.ldexp(xp.ones_like(X), -exponent), 1)


def norm(X: Array) -> float:
    """||X||, the root of the sum of squares of all entries."""
    return float(array_module(X).linalg.norm(X))


# ----------------------------------------------------------------------------------------------- the power of a root


def power_of_root(
    R: Array, n: float, rho: float, q: float, rcond: float | None = None, right: LinearMap = lambda T: T
) -> Array:
    """(R^T R / n + rho I)^{-1/q} R^T B (m, k) of a root R (r, m); R^T X with X (r, k) where R has no more rows.

    n: what R^T R is divided by, such as the number of samples.
    rcond: singular values of at most rcond times the largest count as zero.
    right: T (p, r) -> T B (p, k); default: B = I.
    """
    c = abs(R).max() / math.sqrt(n)
    c = array_module(R).where(c > math.sqrt(rho), c, math.sqrt(rho) or 1.0)  # squares neither over- nor underflow
    R, size, rho = R / (c * math.sqrt(n)), c ** (1 - 2 / q) * math.sqrt(n), rho / c / c if rho else 0.0
    tall, xp = len(R) > R.shape[1], array_module(R)
    Q, R = xp.linalg.qr(R) if tall else (xp.eye(len(R), dtype=R.dtype), R)
    B = right(Q.T)  # with Q, and not with a root of R, a product that `right` can make smaller
    if not tall and q == 1 and rcond is None:
        X = refined_inverse(R @ R.T, B, rho, lambda X: R @ (R.T @ X))
        if X is not None:
            return size * (R.T @ X)
    U, t, V_t = root_svd(R, rcond)
    return size * ((V_t * gain(t, rho, q)) @ (U.T @ B))


def root_svd(R: Array, rcond: float | None = None) -> tuple[Array, Array, Array]:
    """U (.., r, k), t (.., k) and V t (.., m, k) of R = U t V^T (.., r, m); a t that counts as zero is 0.

    k = min(r, m). Where R is wide, U and t are those of the transposed triangle, and V t = R^T U.
    """
    if R.shape[-2] < R.shape[-1]:
        U, t, _ = thin_svd(triangle([R]).mT, rcond)
        return U, t, R.mT @ U
    U, t, Vt = thin_svd(R, rcond)
    return U, t, Vt.mT * t[..., None, :]


def thin_svd(R: Array, rcond: float | None = None) -> tuple[Array, Array, Array]:
    """U (.., r, k), t (.., k) and V^T (.., k, m) of R = U t V^T (.., r, m); a t that counts as zero is 0."""
    xp = array_module(R)
    with raising(xp):
        U, t, Vt = xp.linalg.svd(finite(R), full_matrices=False)
    live = t > cutoff(t.shape[-1], t.dtype, rcond) * t.max(-1, keepdims=True)  # not >=: R may be all zeros
    return U, xp.where(live, t, 0), Vt


def triangle(columns: Iterable[Array]) -> Array:
    """T (.., k, r), upper triangular, with T^T T = R R^T for the R (.., r, m) of which `columns` are some at a time."""
    T = None
    for X in columns:
        xp = array_module(X)
        T = xp.linalg.qr(X.mT if T is None else xp.concatenate([T, X.mT], axis=-2), mode="r")
    return T


def gain(t: Array, rho: float, q: float) -> Array:
    """(t^2 + rho)^{-1/q} (.., 1, k) of singular values t (.., k), and 0 where t is."""
    t = t[..., None, :]
    live = t > 0
    return live * (array_module(t).where(live, t, 1) ** 2 + rho) ** (-1 / q)


def apply_power(U: Array, t: Array, B: Array, rho: float, q: float) -> Array:
    """(R R^T + rho I)^{-1/q} B (n, k), on the range of R = U t V^T."""
    return (U * gain(t, rho, q)) @ (U.T @ B)


def lost_share(U: Array, t: Array, B: Array) -> float:
    """The share of B (n, k) in the directions of which t counts as zero: ||U_0 U_0^T B|| / ||B||."""
    return norm((t == 0)[:, None] * (U.T @ B)) / (norm(B) or 1.0)


def is_damped(t: Array, rho: float, rcond: float | None) -> bool:
    """Whether rho leaves of a t (.., k) that counts as zero no more than of the largest: t / (t^2 + rho) < 1 / t_1."""
    return rho > cutoff(t.shape[-1], t.dtype, rcond) * float(t.max()) ** 2


# --------------------------------------------------------------------------------------- the power of a Gram matrix


def gram(X: Array) -> Array:
    """X X^T (r, r) of X (r, m). Raises FloatingPointError if it overflows, or all of it underflows."""
    with np.errstate(all="ignore"):  # reported below
        K = X @ X.T
    size = float(K.diagonal().max())
    if not (float(np.finfo(K.dtype).tiny) <= size < math.inf or (X == 0).all()):
        raise FloatingPointError(f"a Gram matrix leaves the range of {K.dtype}: rescale the inputs or the weights")
    return K


def power_of_gram(K: Array, rho: float, q: float, rcond: float | None = None) -> Array:
    """(K + rho I)^{-1/q} (n, n) of K >= 0 (n, n), on the range of K, or on all vectors if rho is above rounding.

    rcond: that of a root of K, so that eigenvalues of at most rcond^2 times the largest count as zero.
    """
    X = refined_inverse(K, array_module(K).eye(len(K), dtype=K.dtype), rho, None) if q == 1 and rcond is None else None
    if X is not None:
        return X
    U, t = eigen_root(K, rcond, rho)
    return (U * gain(t, rho, q)) @ U.T


def refined_inverse(K: Array, B: Array, rho: float, product: LinearMap | None) -> Array | None:
    """(K + rho I)^{-1} B (n, k) of K = R R^T (n, n), with errors of u cond(R); None where K cannot give it.

    The system is scaled to unit diagonal, y = X / c, which frees it from the spread of the rows of R; rows of zeros get
    X = 0. Refinement corrects the errors of u cond(K), and its convergence shows that they were small enough for that.

    product: X (n, k) -> R (R^T X), from the factors of R; None for no refinement, and errors of u cond(K).
    """
    xp, i = array_module(K), array_module(K).arange(len(K))
    diagonal = K.diagonal() + rho
    live = diagonal > 0
    c = (live * xp.where(live, diagonal, 1) ** -0.5)[:, None]
    system = c * K * c.T
    system[i, i] = 1  # c (K + rho I) c, less rounding
    inverse_K, condition = inverse(system)
    y = inverse_K @ (c * B)
    limit = cutoff(len(K), K.dtype) if product else float(np.finfo(K.dtype).eps) ** 0.5
    condition, large = xp.stack([condition, cancels(y, c * B, rho * c * c, condition)]).tolist()
    if not condition * limit < 1:
        return None
    if product is None:
        return c * y
    if condition > safe(len(K)):
        y = refined(lambda z: inverse_K @ z, c * B, lambda y: c * (product(c * y) + rho * c * y) + ~live[:, None] * y)
        large = large or y is None or bool(cancels(y, c * B, rho * c * c, condition))  # before, y was a guess
    return None if large else c * y


def cancels(y: Array, B: Array, d: Array, condition: Array | float) -> Array:
    """Whether, of some (..) systems (R R^T + diag(d)) y = B (.., n, k), y is so large that R^T y cancels.

    So it is if B has a share outside the range of R, and d (.., n, 1) is small.
    """
    return (y * y).sum((-2, -1)) > SAFE * condition * (y * (B - d * y)).sum((-2, -1))  # ||R^T y||^2


def factors(K: Array, B: Array, rho: float, rcond: float | None, columns: Iterable[Array]) -> tuple[Array, Array]:
    """U (n, n) and t (n,) of a root R = U t V^T (n, m >= n) of K (n, n); a t that counts as zero is 0.

    From K, if that serves B (n, k), else from R, of which `columns` are some at a time.
    """
    U, t = eigen_root(K, rcond)
    if is_clear(U, t, B, rho):
        return U, t
    U, t, _ = root_svd(triangle(columns).mT, rcond)
    return U, t


def safe(n: int) -> float:
    """Up to which ||K||_F ||K^{-1}||_F a K (n, n) of unit diagonal is accurate enough: for I it is n."""
    return SAFE * n**0.5


def is_clear(U: Array, t: Array, B: Array, rho: float) -> bool:
    """Whether U, t of `eigen_root` serve B (n, k) as well as those of the root would.

    All t (n,) are then far above rounding, or count as zero where B has no share.
    """
    least = float(array_module(t).where(t > 0, t, t.max()).min())
    return float(t.max()) ** 2 + rho <= SAFE * (least**2 + rho) and lost_share(U, t, B) <= cutoff(len(t), t.dtype)


def refined(inverse_map: LinearMap, B: Array, product: LinearMap) -> Array | None:
    """X (.., n, k) with product(X) = B (.., n, k), from an approximate inverse, by iterative refinement.

    Each correction is smaller than the last by about the same factor, until rounding in `product` stops that. It ends
    when the next one would be below rounding, or where corrections no longer halve; if they have not come below half of
    the digits by then, with None: the inverse is not one of `product`.
    """
    X = inverse_map(B)
    eps, size = float(np.finfo(X.dtype).eps), norms(X)
    last = size
    while True:
        D = inverse_map(B - product(X))
        change = norms(D)
        shrinks = 2 * change <= last  # not >, or this passes nan
        if not (shrinks | (last <= eps**0.5 * size)).all():
            return None
        X = X + D
        if (~shrinks | (2 * change * change <= eps * last * size)).all():
            return X
        last = change


def norms(X: Array) -> Array:
    """The norms (..) of matrices X (.., n, k)."""
    return array_module(X).linalg.norm(X, axis=(-2, -1))


def inverse(K: Array) -> tuple[Array, Array]:
    """K^{-1} (.., n, n) and ||K||_F ||K^{-1}||_F (..) of symmetric K (.., n, n); inf or nan where one is singular."""
    xp = array_module(K)
    with np.errstate(all="ignore"):  # the inverse of a singular K may be finite, but not its square
        try:
            X = xp.linalg.inv(K)
        except np.linalg.LinAlgError:  # of one K at least; CuPy divides by zero instead
            regular, X = xp.linalg.slogdet(K)[0] != 0, K.copy()
            X[regular] = xp.linalg.inv(K[regular])
            return X, xp.where(regular, norms(K) * norms(X), math.inf)
        return X, norms(K) * norms(X)


def eigen_root(K: Array, rcond: float | None = None, rho: float = 0.0) -> tuple[Array, Array]:
    """U (n, n) and t (n,) of a root U t V^T of K >= 0 (n, n); a t that counts as zero is 0.

    rho: if it is above the rounding of K, no t counts as zero without an rcond: what K cannot tell from 0 may be far
        above 0 in R, and (t^2 + rho)^{-1/q} does not depend on it.
    """
    (w, U), xp = eigen(K), array_module(K)
    zero = cutoff(len(w), w.dtype, None if rcond is None else rcond**2) * w.max()
    if rcond is None and rho > zero:
        return U, xp.maximum(w, SAFE * cutoff(len(w), w.dtype) * zero) ** 0.5
    live = w > zero
    return U, live * xp.where(live, w, 1) ** 0.5


def solve(K: Array, B: Array) -> Array:
    """K^{-1} B (.., n, k) for non-singular K (.., n, n)."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.solve(K, B)


def damped(K: Array, rho: float) -> Array:
    """K + rho I (n, n)."""
    K, i = K.copy(), array_module(K).arange(len(K))
    K[i, i] += rho
    return K


# ------------------------------------------------------------------------------------ the power of any symmetric matrix


def inverse_power(K: Array, rho: float = 0.0, q: float = 1, rcond: float | None = None) -> Array:
    """(K + rho I)^{-1/q} (.., n, n) of symmetric K (.., n, n): the definition; the pseudo-inverse at q = 1, rho = 0.

    K may be indefinite if q is 1 or inf. Raises ValueError for bad arguments, LinAlgError where a negative eigenvalue
    has no power, and MemoryError.

    rcond: eigenvalues of K + rho I of modulus <= rcond times the largest count as zero; None for `cutoff`.
    """
    rho, q = checked_damping(rho, q)
    checked_symmetric("K", K, stack=True)
    shape = " x ".join(map(str, K.shape))
    require_memory(array_module(K), 4 * K.size * K.dtype.itemsize, f"a function of a {shape} matrix", "call direction")
    V, power = eigen_power(K, rho, q, checked_rcond(rcond))
    return (V * power) @ V.mT


def eigen_power(K: Array, rho: float, q: float, rcond: float | None) -> tuple[Array, Array]:
    """Eigenvectors V (.., n, n) and (w + rho)^{-1/q} (.., 1, n) of K (.., n, n), zero where cut off."""
    xp = array_module(K)
    w, V = eigen(K)
    w = w[..., None, :] + rho
    size = abs(w).max(-1, keepdims=True)
    live = abs(w) > cutoff(K.shape[-1], K.dtype, rcond) * size  # not >=, or this fails on a matrix of all zeros
    if 1 < q < math.inf and (live & (w < 0)).any():
        low = f"there is a negative eigenvalue, {float(w.min()):.3g}"
        raise xp.linalg.LinAlgError(f"K has no real power -1/{q:g}: {low}; if it is rounding, raise rcond")
    return V, live * xp.where(live, w, 1) ** (-1 / q)


def eigenvalues(K: Array) -> Array:
    """The eigenvalues (.., n) of a symmetric K (.., n, n), ascending. Raises FloatingPointError if K is not finite."""
    xp = array_module(K)
    with raising(xp):
        return xp.linalg.eigvalsh(finite(K))


def eigen(K: Array) -> tuple[Array, Array]:
    """The eigenvalues (.., n), ascending, and eigenvectors (.., n, n) of a symmetric K (.., n, n).

    K is scaled to entries of about 1, by a power of two: Jacobi's method squares them. Raises FloatingPointError if K
    is not finite.
    """
    xp = array_module(K)
    T = inverse_size(abs(K).max((-2, -1), keepdims=True)) if K.size else 1.0
    with raising(xp):
        w, V = xp.linalg.eigh(finite(T * K))
    return (w[..., None, :] / T)[..., 0, :], V


def finite(K: Any) -> Any:
    """K, a matrix or a list, or FloatingPointError: it is computed from finite arguments, so they are out of range."""
    if not is_finite(*K if isinstance(K, list) else [K]):
        raise FloatingPointError("a matrix has non-finite entries: rescale the inputs or the weights")
    return K


# ----------------------------------------------------------------------------------------------------- random matrices


def haar(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """A Haar distributed (m, n) with orthonormal columns, or with orthonormal rows if m < n."""
    Q, R = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))
    Q *= np.sign(np.diag(R))  # LAPACK's signs depend on the draw: Q alone is not uniform
    return Q if m >= n else Q.T
