"""Layers coupled by a matrix Sigma: exact, block-diagonal, block tri-diagonal and any other symmetric Sigma.

    G                = S^T (Sigma (x) I) S / N + rho I,   S = blockdiag(J_1, .., J_L)          K&O (15)
    direction_l      = J_l^T lambda_l / N,   sum_m Sigma_lm Theta_m lambda_m + rho lambda_l = e
    Theta_bar(x', x) = sum_l Theta_l(x', x) lambda_l[e -> I]
                     = sum_l (Sigma^{-1} 1)_l Theta_l(x', x) Theta_l^{-1}   at rho = 0         (16)

i.e. lambda_l = (Sigma^{-1} 1)_l Theta_l^{-1} e, where Sigma and all Theta_l are regular.

A Sigma that only groups layers into full blocks (1 1^T: all in one group, I: each in its own) has one symmetric system
(sum of Theta_l over the group + rho I)^{-1/q} e per group, and takes any power q. Any other is written Sigma = Q C Q^T
with a non-singular C (p, p) and 1 = Q y, so that a singular Sigma brings no null space of its own:

    T = (Q^T (x) I) S,   G = T^T (C (x) I) T / N + rho I,   J = (y^T (x) I) T
    lambda = (Q (x) I) mu,   [(C (x) I) T T^T / N + rho I] mu = y (x) e,   (T T^T / N)_ab = sum_l Q_la Q_lb Theta_l
"""

import warnings
from abc import abstractmethod
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, array_module
from ..jacobian import pull_layer, push_layer
from ..kernels import empirical_kernels
from ..network import Network
from ..spectral import (
    LinearMap,
    cutoff,
    damped,
    eigen,
    eigenvalues,
    inverse_power,
    is_regular,
    lu_solve,
    refined,
    solve,
)
from .base import GramFisher, KernelFisher, fisher_information, has_full_rank


class Layers(GramFisher, KernelFisher):
    """What all Sigma share."""

    @abstractmethod
    def Sigma(self, L: int) -> np.ndarray:
        """The (L, L) matrix that couples the L layers, those that are frozen left out."""

    def require(self, L, bias, q=1):
        if _groups(self.Sigma(L)) is None and q not in (1, np.inf):
            raise ValueError(f"q is {q:g}; expected 1 or inf, unless Sigma just merges layers into blocks")

    def _matrix(self, s, rho):
        F, Sigma = fisher_information(s), self.Sigma(len(s.h))
        stops = np.cumsum([0] + [M * k for M, k in s.shapes]).tolist()
        layers = [slice(a, b) for a, b in pairwise(stops)]
        for l, rows in enumerate(layers):
            for m, columns in enumerate(layers):
                F[rows, columns] *= float(Sigma[l, m])
        return damped(F, rho)

    def _direction(self, s, e, rho, q):
        N = len(e)
        products = [_gram_product(h, delta, N) for h, delta in zip(s.h, s.delta, strict=True)] if self.refine else None
        lam = self._multipliers(empirical_kernels(s, s).Theta, e.reshape(-1, 1), rho, q, products)
        return [pull_layer(h, d, v.reshape(e.shape) / N) for h, d, v in zip(s.h, s.delta, lam, strict=True)]

    def _kernel_coefficient(self, cross, train, rho, q):
        Theta = train.Theta
        I = array_module(Theta[0]).eye(len(Theta[0]), dtype=Theta[0].dtype)
        lam = self._multipliers(Theta, I, rho, q, None)
        Theta = Theta if cross is train else cross.Theta
        return sum(T @ v for T, v in zip(Theta, lam, strict=True))

    def _multipliers(
        self, Theta: list[Array], E: Array, rho: float, q: float, products: list[LinearMap] | None
    ) -> list[Array]:
        """lambda_1, .., lambda_L (NC, k) for right-hand sides E (NC, k)."""
        Sigma = self.Sigma(len(Theta))
        groups = _groups(Sigma)
        if groups is None:
            C, _, y = _factors(Sigma)
            if rho or len(C) < len(Sigma) or not all(is_regular(T, self.rcond) for T in Theta):
                return _coupled_multipliers(Sigma, Theta, E, rho, products, self.rcond)
            layers = zip(np.linalg.solve(C, y).tolist(), Theta, products or [None] * len(Theta), strict=True)
            return [w_l * refined(partial(lu_solve, T), E, product) for w_l, T, product in layers]
        lam = [E] * len(Theta)
        for group in groups:
            product = products and (lambda X, group=group: sum(products[l](X) for l in group))
            v = solve(sum(Theta[l] for l in group), E, rho, q, product=product, rcond=self.rcond)
            for l in group:
                lam[l] = v
        return lam

    def _alpha(self, net: Network, n: int, frozen: int) -> float | None:
        full = [has_full_rank(net, l, n) for l in range(frozen, len(net.shapes))]
        Sigma = self.Sigma(len(full))
        groups = _groups(Sigma)
        if groups:  # the Theta_l of a group add up
            return float(len(groups)) if all(any(full[l] for l in group) for group in groups) else None
        C, Q, y = _factors(Sigma)
        w = Q @ np.linalg.solve(C, y)  # Sigma^{-1} 1
        idle = (abs(w) < 1e-12 * abs(w).max()) & (len(C) == len(Sigma))  # a layer of weight 0 may be narrow
        return float(w.sum()) if all(full | idle) else None  # 1^T Sigma^{-1} 1, Theorem 4.1


class Layerwise(Layers):
    """G of K&O (15) for a symmetric Sigma (L, L), which may be indefinite, or singular with 1 in its range.

    rcond, refine: see `GramFisher`.
    Raises ValueError if Sigma is not symmetric, or if 1 is outside its range (Theta_bar would grow as 1 / rho); in use,
    if Sigma is not L x L, or if 1 < q < inf and Sigma does not just merge layers into blocks. Warns where the damping
    of an indefinite G lies among its negative eigenvalues.
    """

    def __init__(self, Sigma: ArrayLike, *, rcond: float | None = None, refine: bool = True) -> None:
        super().__init__(rcond=rcond, refine=refine)
        self._Sigma = _checked_Sigma(Sigma)

    def Sigma(self, L: int) -> np.ndarray:
        if len(self._Sigma) != L:
            raise ValueError(f"Sigma is {len(self._Sigma)} x {len(self._Sigma)}; expected {L} x {L} for L = {L} layers")
        return self._Sigma


class Exact(Layers):
    """The exact Fisher matrix: Sigma = 1 1^T.  K&O (8), (9), (13); alpha = 1. rcond, refine: see `GramFisher`."""

    def Sigma(self, L: int) -> np.ndarray:
        return np.ones((L, L))


class BlockDiagonal(Layers):
    """One block a layer: Sigma = I.  K&O (18); alpha = L. rcond, refine: see `GramFisher`."""

    def Sigma(self, L: int) -> np.ndarray:
        return np.eye(L)


class BlockTridiagonal(Layers):
    """Neighbouring layers coupled: Sigma_lm = 1 for |l - m| <= 1.  K&O (19); alpha = floor((L + 2) / 3).

    rcond, refine: see `GramFisher`.
    Sigma is indefinite for L >= 3 (eigenvalues 1 + 2 cos(k pi / (L+1))), and singular for L = 3s + 2: see `Layerwise`.
    """

    def Sigma(self, L: int) -> np.ndarray:
        return np.eye(L) + np.eye(L, k=1) + np.eye(L, k=-1)


def _checked_Sigma(Sigma: ArrayLike) -> np.ndarray:
    Sigma = np.array(Sigma)
    square = Sigma.ndim == 2 and Sigma.shape[0] == Sigma.shape[1] >= 1
    if not square or Sigma.dtype.kind not in "fiub" or not np.isfinite(Sigma).all():
        raise ValueError(f"Sigma is {Sigma.dtype} of shape {Sigma.shape}; expected a finite real L x L matrix")
    Sigma = Sigma.astype(float)
    gap = abs(Sigma - Sigma.T).max()
    if gap > 1e-12 * abs(Sigma).max():
        raise ValueError(f"Sigma is not symmetric: it differs from its transpose by up to {gap:.3g}")
    Sigma = (Sigma + Sigma.T) / 2
    _, Q, y = _factors(Sigma)
    miss = abs(Q @ y - 1).max()
    if miss > 1e-8:
        raise ValueError(
            f"Sigma is singular and 1 is not in its range (distance {miss:.3g}): Theta_bar would grow as 1 / rho; "
            "expected a non-singular Sigma, or one with Sigma w = 1 for some w"
        )
    return Sigma


def _groups(Sigma: np.ndarray) -> list[list[int]] | None:
    """The groups of layers of which Sigma is the indicator (Sigma_lm = 1 within a group, else 0), or None."""
    same_rows = (Sigma[:, None] == Sigma[None]).all(-1)
    return [np.flatnonzero(row).tolist() for row in np.unique(Sigma, axis=0)] if (Sigma == same_rows).all() else None


def _factors(Sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """C (p, p) non-singular, Q (L, p) with Q^T Q = I, and y (p,): Sigma = Q C Q^T, and Q y = 1 if 1 is in its range."""
    w, Q = np.linalg.eigh(Sigma)
    live = abs(w) > 1e-13 * len(w) * abs(w).max()
    if live.all():
        return Sigma, np.eye(len(w)), np.ones(len(w))
    return np.diag(w[live]), Q[:, live], Q[:, live].sum(0)


def _gram_product(h: Array, delta: Array, N: int) -> LinearMap:
    """X (NC, 1) -> Theta_l X = J_l J_l^T X / N through the factored Jacobian."""
    return lambda X: push_layer(h, delta, pull_layer(h, delta, X.reshape(N, -1) / N)).reshape(-1, 1)


def _coupled_multipliers(
    Sigma: np.ndarray, Theta: list[Array], E: Array, rho: float, products: list[LinearMap] | None, rcond: float | None
) -> Array:
    """lambda (L, n, k) for E (n, k), where Sigma does not just merge layers."""
    if rho:
        _warn_if_resonant(Sigma, Theta, rho)
    xp, mix = array_module(E), array_module(E).tensordot
    C, Q, y = (xp.asarray(matrix, dtype=E.dtype) for matrix in _factors(Sigma))
    (p, _), n = C.shape, len(E)
    M = mix(Q.T[:, None] * Q.T, xp.stack(Theta), 1).transpose(0, 2, 1, 3).reshape(p * n, p * n)  # T T^T / N
    inverse = _coupled_inverse(C, M, rho, rcond)
    right = y[:, None, None] * E  # (p, n, k)
    mu = inverse(right)
    if products:
        Theta_lam = xp.stack([product(v) for product, v in zip(products, mix(Q, mu, 1), strict=True)])
        mu = mu + inverse(right - mix(C @ Q.T, Theta_lam, 1) - rho * mu)
    return mix(Q, mu, 1)


def _coupled_inverse(C: Array, M: Array, rho: float, rcond: float | None) -> LinearMap:
    """R (p, n, k) -> [(C (x) I) M + rho I]^{-1} R, with the pseudo-inverse of G where M is singular."""
    xp = array_module(M)

    def times_C(X: Array) -> Array:  # (C (x) I) X
        return xp.tensordot(C, X.reshape(len(C), -1, X.shape[1]), 1).reshape(X.shape)

    K = damped(times_C(M), rho)
    well_conditioned = max(float(np.finfo(K.dtype).eps) ** 0.5, cutoff(len(K), K.dtype, rcond))
    if is_regular(K, well_conditioned) or (is_regular(M, rcond) and is_regular(K, rcond)):
        return lambda R: lu_solve(K, R.reshape(len(K), -1)).reshape(R.shape)  # LU: K is not symmetric
    # T / sqrt(N) = root U^T, with U^T U = I: G = U root^T (C (x) I) root U^T + rho I on the range of T^T
    w, V = eigen(M)
    live = w > cutoff(len(M), M.dtype, rcond) * w.max()
    w = xp.where(live, w, 1) ** 0.5
    root = V * (live * w)
    middle = inverse_power(root.T @ times_C(root), rho, rcond=rcond)
    K_inverse = (V * (live / w)) @ middle @ root.T
    return lambda R: (K_inverse @ R.reshape(len(K), -1)).reshape(R.shape)


def _warn_if_resonant(Sigma: np.ndarray, Theta: list[Array], rho: float) -> None:
    """G + rho I is singular at rho = -w for all eigenvalues w < 0 of G; -w is in [lo, hi] by Ostrowski's theorem."""
    negative = [-w for w in np.linalg.eigvalsh(Sigma) if w < -1e-12 * abs(Sigma).max()]
    if negative:
        w = [eigenvalues(T) for T in Theta]
        lo = min(negative) * max(min(float(v[0]) for v in w), 0.0)
        hi = max(negative) * max(float(v[-1]) for v in w)
        if lo <= rho <= hi:
            warnings.warn(
                f"rho = {rho:.3g} lies among the negative eigenvalues of the indefinite G, which are in [-{hi:.3g}, "
                f"-{lo:.3g}]: the step can be wildly wrong. Choose rho = 0"
                + (f", rho < {lo:.3g}" if lo else "")
                + f" or rho > {hi:.3g}",
                RuntimeWarning,
                stacklevel=6,
            )
