"""Layers coupled by a matrix Sigma: exact, block-diagonal, block tri-diagonal and any other symmetric Sigma.

    G                = S^T (Sigma (x) I) S / N + rho I,   S = blockdiag(J_1, .., J_L)          K&O (15)
    direction_l      = J_l^T lambda_l / N,   sum_m Sigma_lm Theta_m lambda_m + rho lambda_l = e
    Theta_bar(x', x) = sum_l Theta_l(x', x) lambda_l[e -> I]
                     = sum_l (Sigma^{-1} 1)_l Theta_l(x', x) Theta_l^{-1}   at rho = 0         (16)

A Sigma that only groups layers into full blocks (1 1^T: all in one group, I: each in its own) has one symmetric system
(sum of Theta_l over the group + rho I)^{-1/q} e per group, and takes any power q.
"""

import warnings
from abc import abstractmethod
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, array_module
from ..jacobian import pull_layer, push_layer
from ..kernels import Kernels, kernels
from ..network import Network
from ..spectral import Map, damped, eigenvalues, inverse_power, is_regular, lu_solve, solve
from .base import GramFisher, fisher_information


class _Layered(GramFisher):
    """What all Sigma share."""

    @abstractmethod
    def Sigma(self, L: int) -> np.ndarray:
        """The (L, L) matrix that couples the layers."""

    def _matrix(self, s, rho):
        xp = array_module(s.f)
        layer = np.repeat(np.arange(len(s.h)), [M * k for M, k in s.shapes])  # of each parameter
        mask = self.Sigma(len(s.h))[layer[:, None], layer]
        return damped(xp.asarray(mask, dtype=s.f.dtype) * fisher_information(s), rho)

    def _direction(self, s, e, rho, q):
        N = len(e)
        products = [_gram_product(h, delta, N) for h, delta in zip(s.h, s.delta, strict=True)] if self.refine else None
        lam = self._multipliers(kernels(s, s).Theta, e.reshape(-1, 1), rho, q, products)
        return [pull_layer(h, d, v.reshape(e.shape) / N) for h, d, v in zip(s.h, s.delta, lam, strict=True)]

    def _coefficient(self, test, train, rho, q):
        return self.kernel_coefficient(kernels(test, train), kernels(train, train), rho, q)

    def kernel_coefficient(self, cross: Kernels, train: Kernels, rho: float = 0.0, q: float = 1) -> Array:
        """Theta_bar(x', x) (N'C, NC) from the kernels alone."""
        Theta = train.Theta
        I = array_module(Theta[0]).eye(len(Theta[0]), dtype=Theta[0].dtype)
        lam = self._multipliers(Theta, I, rho, q, None)
        return sum(T @ v for T, v in zip(cross.Theta, lam, strict=True))

    def _multipliers(
        self, Theta: list[Array], E: Array, rho: float, q: float, products: list[Map] | None
    ) -> list[Array]:
        """lambda_1, .., lambda_L (NC, k) for right-hand sides E (NC, k)."""
        Sigma = self.Sigma(len(Theta))
        groups = _groups(Sigma)
        if groups is None:
            if q != 1:
                raise ValueError(f"q is {q:g}; expected 1 or inf for a Sigma that couples layers without merging them")
            return _coupled(Sigma, Theta, E, rho, products, self.rcond)
        lam = [E] * len(Theta)
        for group in groups:
            product = products and (lambda X, group=group: sum(products[l](X) for l in group))
            v = solve(sum(Theta[l] for l in group), E, rho, q, product, self.rcond)
            for l in group:
                lam[l] = v
        return lam

    def _alpha(self, net: Network, n: int) -> float | None:
        Sigma, size = self.Sigma(len(net.shapes)), [prod(shape) for shape in net.shapes]
        groups, one = _groups(Sigma), np.ones(len(Sigma))
        singular = np.linalg.matrix_rank(Sigma, hermitian=True) < len(Sigma)
        w = np.linalg.pinv(Sigma, hermitian=True) @ one if singular else np.linalg.solve(Sigma, one)
        # Theta of a group, or of a layer, is singular with fewer parameters than N C; at weight 0 that does no harm
        parts = groups or [[l] for l in range(len(Sigma)) if singular or abs(w[l]) > 1e-12]
        if any(sum(size[l] for l in part) < n * net.widths[-1] for part in parts):
            return None
        return float(len(groups) if groups else w.sum())  # 1^T Sigma^{-1} 1, Theorem 4.1


class Layerwise(_Layered):
    """G of K&O (15) for a symmetric Sigma (L, L), which may be indefinite, or singular with 1 in its range.

    rcond, refine: see `GramFisher`.
    Raises ValueError if Sigma is not symmetric, or if 1 is outside its range (Theta_bar would grow as 1 / rho); in use,
    if Sigma is not L x L, or if 1 < q < inf and Sigma does not just group layers. Warns where the damping of an
    indefinite G lies among its negative eigenvalues.
    """

    def __init__(self, Sigma: ArrayLike, *, rcond: float | None = None, refine: bool = True) -> None:
        super().__init__(rcond=rcond, refine=refine)
        self._Sigma = _checked(Sigma)

    def Sigma(self, L: int) -> np.ndarray:
        if len(self._Sigma) != L:
            raise ValueError(f"Sigma is {len(self._Sigma)} x {len(self._Sigma)}; expected {L} x {L} for L = {L} layers")
        return self._Sigma


class Exact(_Layered):
    """The exact Fisher matrix: Sigma = 1 1^T.  K&O (8), (9), (13); alpha = 1. rcond, refine: see `GramFisher`."""

    def Sigma(self, L: int) -> np.ndarray:
        return np.ones((L, L))


class BlockDiagonal(_Layered):
    """One block a layer: Sigma = I.  K&O (18); alpha = L. rcond, refine: see `GramFisher`."""

    def Sigma(self, L: int) -> np.ndarray:
        return np.eye(L)


class BlockTridiagonal(_Layered):
    """Neighbouring layers coupled: Sigma_lm = 1 for |l - m| <= 1.  K&O (19); alpha = floor((L + 2) / 3).

    rcond, refine: see `GramFisher`.
    Sigma is indefinite for L >= 3 (eigenvalues 1 + 2 cos(k pi / (L+1))), and singular for L = 3s + 2: see `Layerwise`.
    """

    def Sigma(self, L: int) -> np.ndarray:
        return np.eye(L) + np.eye(L, k=1) + np.eye(L, k=-1)


def _checked(Sigma: ArrayLike) -> np.ndarray:
    Sigma = np.asarray(Sigma, dtype=float)
    if Sigma.ndim != 2 or Sigma.shape[0] != Sigma.shape[1] or not np.isfinite(Sigma).all():
        raise ValueError(f"Sigma has shape {Sigma.shape}; expected a finite L x L matrix")
    if (Sigma != Sigma.T).any():
        raise ValueError(
            f"Sigma is not symmetric: it differs from its transpose by up to {abs(Sigma - Sigma.T).max():.3g}"
        )
    one = np.ones(len(Sigma))
    miss = abs(Sigma @ (np.linalg.pinv(Sigma, hermitian=True) @ one) - one).max()
    if miss > 1e-8:
        raise ValueError(
            f"Sigma is singular and 1 is not in its range (distance {miss:.3g}): Theta_bar would grow as 1 / rho; "
            "expected a non-singular Sigma, or one with Sigma w = 1 for some w"
        )
    return Sigma


def _groups(Sigma: np.ndarray) -> list[np.ndarray] | None:
    """The groups of layers of which Sigma is the indicator (Sigma_lm = 1 within a group, else 0), or None."""
    same_rows = (Sigma[:, None] == Sigma[None]).all(-1)
    return [np.flatnonzero(row) for row in np.unique(Sigma, axis=0)] if (Sigma == same_rows).all() else None


def _gram_product(h: Array, delta: Array, N: int) -> Map:
    """X (NC, 1) -> Theta_l X = J_l J_l^T X / N through the factored Jacobian."""
    return lambda X: push_layer(h, delta, pull_layer(h, delta, X.reshape(N, -1) / N)).reshape(-1, 1)


def _coupled(
    Sigma: np.ndarray, Theta: list[Array], E: Array, rho: float, products: list[Map] | None, rcond: float | None
) -> Array:
    """lambda (L, n, k) with sum_m Sigma_lm Theta_m lambda_m + rho lambda_l = E (n, k) for every l."""
    xp = array_module(E)
    if rho:
        _warn_if_resonant(Sigma, Theta, rho)
    inverse = _coupled_inverse(Sigma, xp.stack(Theta), rho, rcond)
    lam = inverse(xp.broadcast_to(E, (len(Theta), *E.shape)))
    if products:
        Theta_lam = xp.stack([product(v) for product, v in zip(products, lam, strict=True)])
        lam = lam + inverse(E - xp.tensordot(xp.asarray(Sigma, dtype=E.dtype), Theta_lam, 1) - rho * lam)
    return lam


def _coupled_inverse(Sigma: np.ndarray, Theta: Array, rho: float, rcond: float | None) -> Map:
    """R (L, n, k) -> lambda (L, n, k) with sum_m Sigma_lm Theta_m lambda_m + rho lambda_l = R_l; Theta (L, n, n)."""
    xp = array_module(Theta)
    L, n, _ = Theta.shape
    S = xp.asarray(Sigma, dtype=Theta.dtype)[:, None, :, None]
    if rho:  # neither symmetric nor definite: LU
        K = damped((S * Theta.transpose(1, 0, 2)).reshape(L * n, L * n), rho)
        return lambda R: lu_solve(K, R.reshape(L * n, -1)).reshape(R.shape)
    if np.linalg.matrix_rank(Sigma, hermitian=True) == L and all(is_regular(T, rcond) for T in Theta):
        S_inverse = xp.asarray(np.linalg.inv(Sigma), dtype=Theta.dtype)
        return lambda R: lu_solve(Theta, xp.tensordot(S_inverse, R, 1))
    # The pseudo-inverse in an orthonormal basis of range(S^T): J_l = Theta_l^{1/2} V_l^T with V_l^T V_l = I there, so
    # G = V K V^T with K_lm = Sigma_lm Theta_l^{1/2} Theta_m^{1/2}, and G^+ = V K^+ V^T.
    inverse_root = inverse_power(Theta, q=2, rcond=rcond)
    root = Theta @ inverse_root
    row = root.transpose(1, 0, 2).reshape(n, L * n)
    K = (S * (row.T @ row).reshape(L, n, L, n)).reshape(L * n, L * n)
    K_pinv = inverse_power(K, rcond=rcond)
    return lambda R: inverse_root @ (K_pinv @ (root @ R).reshape(L * n, -1)).reshape(R.shape)


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
                f"-{lo:.3g}]: the step can be wildly wrong. Choose rho = 0, rho < {lo:.3g} or rho > {hi:.3g}",
                RuntimeWarning,
                stacklevel=2,
            )
