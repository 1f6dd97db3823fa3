"""Layers coupled by a matrix Sigma: exact, block-diagonal, block tri-diagonal and any other symmetric Sigma.

    G                = S^T (Sigma (x) I) S / N + rho I,   S = blockdiag(J_1, .., J_L)          K&O (15)
    direction_l      = J_l^T lambda_l / N
    Theta_bar(x', x) = sum_l Theta_l(x', x) lambda_l[e -> I]                                   (16)

Neither J nor G is formed: the multipliers lambda_l (N C) take the kernels Theta_l = J_l J_l^T / N (N C, N C). Layers
with equal rows of Sigma act as one, whose J_l stand side by side and whose Theta_l add up: one block for 1 1^T (exact),
L blocks for I (block-diagonal). From here on l counts blocks, and Sigma has a row for each.

* Sigma = I:              lambda_l = (Theta_l + rho I)^{-1/q} e
* any other, coupled:     sum_m Sigma_lm Theta_m lambda_m + rho lambda_l = e
      at rho = 0, with all that is inverted regular:    lambda_l = (Sigma^{-1} 1)_l Theta_l^{-1} e
      else on the range of S^T, J_l / sqrt(N) = U_l t_l V_l^T, so that a pseudo-inverse is that of G:
      lambda_l = U_l t_l^{-1} d_l,    (H + rho I) d = [t_l U_l^T e]_l,    H_lm = Sigma_lm t_l U_l^T U_m t_m

A block with fewer parameters than N C, or whose kernel has lost digits that J has, is inverted by the singular values
of J, some columns at a time: that takes O(P (N C)^2), where a kernel takes O(P N + (N C)^3) or so.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .. import definitions
from ..arrays import Array, array_module, batches, to_device
from ..checks import checked_array, checked_values
from ..jacobian import jacobian, pull_layer, push_layer, shaped
from ..kernels import tangent_kernel
from ..network import Network, Signals, Trained
from ..spectral import (
    LinearMap,
    apply_power,
    cutoff,
    eigen,
    eigen_root,
    factors,
    gain,
    inverse_size,
    is_damped,
    largest,
    lost_share,
    power_of_gram,
    refined,
    refined_inverse,
    root_svd,
    thin_svd,
)
from .base import Fisher, has_full_rank, warn_of_loss


class Layerwise(Fisher):
    """G of K&O (15) for a symmetric Sigma (L, L), which may be indefinite or singular.

    Raises ValueError if Sigma is not symmetric; in use, if Sigma is not L x L, or if 1 < q < inf and Sigma does not
    just merge layers into blocks. Warns where the damping of an indefinite G lies among its negative eigenvalues.

    Sigma: (L, L), a row for each of the L layers that are trained, whichever these are.
    rcond, refine: see `Fisher`.
    """

    isotropic_for_any_loss = True

    def __init__(self, Sigma: ArrayLike, *, rcond: float | None = None, refine: bool = True) -> None:
        super().__init__(rcond=rcond, refine=refine)
        self._Sigma = _checked_Sigma(Sigma)

    def Sigma(self, L: int) -> np.ndarray:
        """The (L, L) matrix that couples L layers."""
        if len(self._Sigma) != L:
            raise ValueError(f"Sigma is {len(self._Sigma)} x {len(self._Sigma)}; expected {L} x {L} for L = {L} layers")
        return self._Sigma

    def _coupling(self, trained: Trained) -> np.ndarray:
        """Sigma of the trained layers."""
        return self.Sigma(len(trained.layers))

    def require(self, trained, q=1):
        alone = all(Sigma.shape == (1, 1) and Sigma[0, 0] == 1 for _, Sigma in _parts(self._coupling(trained)))
        if not alone and q not in (1, math.inf):
            raise ValueError(f"q is {q:g}; expected 1 or inf, unless Sigma just merges layers into blocks")

    def _definition(self, trained):
        return definitions.Fisher("Layerwise", self._coupling(trained))

    def _direction(self, s, e, rho, q):
        dW, lost = [e] * len(s.h), 0.0
        for group, block, X in self._solutions(s, e.reshape(-1, 1), rho, q, self.refine):
            for l, dw in zip(group, block.pull(X), strict=True):
                dW[l] = dw
            lost = max(lost, block.lost)
        warn_of_loss(lost, e)
        return dW

    def _coefficient(self, test, train, rho, q):
        I = array_module(train.f).eye(train.f.size, dtype=train.f.dtype)
        coupled = any(len(groups) > 1 for groups, _ in _parts(self._coupling(train.trained)))
        solutions = self._solutions(train, I, rho, q, self.refine and coupled)
        return sum(block.cross(test.take(group), X) for group, block, X in solutions)

    def _solutions(self, s, E, rho, q, refine) -> Iterator[tuple[list[int], "_Jacobian", Array]]:
        """The layers of each block, the block, scaled, and its solution for E (NC, k): see `_Jacobian.power`."""
        parts = _parts(self._coupling(s.trained))
        scaled_parts = s.parts(math.sqrt(rho), [[l for group in groups for l in group] for groups, _ in parts])
        for (groups, Sigma), (scaled, c) in zip(parts, scaled_parts, strict=True):
            for own, right in self._trials(Sigma, scaled, E, rho):
                size, blocks, first = inverse_size(abs(right).max()), [], 0
                right = size * right
                for group in groups:
                    block = own.take(range(first, first + len(group)))
                    blocks.append(_Jacobian(block, right, c, refine, self.rcond))
                    first += len(group)
                solutions = _solve(Sigma, blocks, rho / c / c, q)
                if own is not scaled and _are_regular(blocks):
                    break
            for group, block, X in zip(groups, blocks, solutions, strict=True):
                yield group, block, c ** (1 - 2 / q) / size * X

    def _trials(self, Sigma, s, E, rho) -> list[tuple[Signals, Array]]:
        """Signals and right-hand sides that have the same solution if all blocks are regular; the last has it always.

        (T J)^+ T e = J^+ e for J of full row rank and any diagonal T: rows of norm 1 free cut-offs from the spread of
        the rows of J, such as that of confident and unsure samples.
        """
        alone = len(Sigma) == 1  # whose system is balanced in `refined_inverse`
        as_given = alone or rho or self.rcond is not None or not _has_one_in_range(Sigma)
        return [(s, E)] if as_given else [_balanced(s, E), (s, E)]

    def _kernel_coefficient(self, cross, train, rho, q):
        Theta, Theta_bar = train.Theta, 0
        cross_Theta = Theta if cross is train else cross.Theta
        for groups, Sigma in _parts(self._coupling(train.trained)):
            blocks = [_Kernel(sum(Theta[l] for l in group), self.rcond) for group in groups]
            for group, lam in zip(groups, _solve(Sigma, blocks, rho, q), strict=True):
                Theta_bar = Theta_bar + sum(cross_Theta[l] for l in group) @ lam
        return Theta_bar

    def _alpha(self, net: Network, n: int, trained: Trained, x: Array | None) -> float | None:
        """The sum of w with Sigma w = 1, where the Theta_l of the blocks that w needs are regular: (16), Theorem 4.1.

        Blocks whose row of Sigma is zero are not trained, and drop out.
        """
        alpha = 0.0
        for groups, Sigma in _parts(self._coupling(trained)):
            full = [has_full_rank(net, trained.take(group), n) for group in groups]
            w, *_ = np.linalg.lstsq(Sigma[:, full], np.ones(len(groups)), rcond=None)
            if Sigma.any() and not np.allclose(Sigma[:, full] @ w, 1, rtol=0, atol=1e-8):
                return None
            alpha += float(w.sum())
        return alpha


class Exact(Layerwise):
    """The exact Fisher matrix: Sigma = 1 1^T.  K&O (8), (9), (13); alpha = 1.

    rcond, refine: see `Fisher`.
    """

    def __init__(self, *, rcond: float | None = None, refine: bool = True) -> None:
        Fisher.__init__(self, rcond=rcond, refine=refine)

    def Sigma(self, L: int) -> np.ndarray:
        return np.ones((L, L))

    def _coupling(self, trained):
        rows = np.array(trained.layers) - 1
        return self.Sigma(trained.L)[rows][:, rows]  # neighbours of the network, so not all that are left


class BlockDiagonal(Exact):
    """One block a layer: Sigma = I.  K&O (18); alpha = L.

    rcond, refine: see `Fisher`.
    """

    def Sigma(self, L: int) -> np.ndarray:
        return np.eye(L)


class BlockTridiagonal(Exact):
    """Neighbouring layers coupled: Sigma_lm = 1 for |l - m| <= 1.  K&O (19); alpha = floor((L + 2) / 3).

    Sigma is indefinite for L >= 3 (eigenvalues 1 + 2 cos(k pi / (L+1))), and singular for L = 3s + 2: see `Layerwise`.

    rcond, refine: see `Fisher`.
    """

    def Sigma(self, L: int) -> np.ndarray:
        return np.eye(L) + np.eye(L, k=1) + np.eye(L, k=-1)


# ------------------------------------------------------------------------------------------------------------- blocks


class _Jacobian:
    """A block whose root is the J of some layers, and what can be solved with it for right-hand sides E (NC, k).

    c: what J and the root of rho have been divided by.
    """

    def __init__(self, s: Signals, E: Array, c: float, refine: bool, rcond: float | None) -> None:
        self.s, self.c, self.refine, self.rcond, self.lost = s, c, refine, rcond, 0.0
        self.alive = _tops(s).reshape(-1, 1) > 0  # rows of J that are not zero: the others do not act
        self.right, self.E = E, self.alive * E
        self.is_small = len(E) >= s.P
        self.is_regular = True  # until a direction of the rows that are alive counts as zero

    @cached_property
    def Theta(self) -> Array:
        """J J^T / N (NC, NC)."""
        return tangent_kernel(self.s, self.s)

    @cached_property
    def svd(self) -> tuple[Array, Array, Array]:
        """U, t and V t of J / sqrt(N), for a block with no more parameters than N C."""
        return root_svd(jacobian(self.s) / math.sqrt(len(self.s.f)), self.rcond)

    def product(self, X: Array) -> Array:
        """Theta X (NC, k), of one column without Theta."""
        if X.shape[1] > 1:
            return self.Theta @ X
        layers = zip(self.s.h, self.s.delta, self._pull(X), strict=True)
        return sum(push_layer(h, delta, dw) for h, delta, dw in layers).reshape(-1, 1)

    def power(self, rho: float, q: float) -> Array:
        """lambda = (Theta + rho I)^{-1/q} E (NC, k); for a small block J^T lambda (P, k) itself."""
        if self.is_small:
            (U, t), V_t = self.factors(rho), self.svd[2]
            return math.sqrt(len(self.s.f)) * (V_t * gain(t, rho, q)) @ (U.T @ self.E)
        lam = self.inverse(rho) if q == 1 else None
        return apply_power(*self.factors(rho), self.E, rho, q) if lam is None else lam

    def inverse(self, rho: float) -> Array | None:
        """(Theta + rho I)^{-1} E (NC, k) on the rows that are alive, or None where Theta does not give it."""
        if self.is_small or self.rcond is not None:
            return None
        return refined_inverse(self.Theta, self.E, rho, self.product if self.refine else None)

    def factors(self, rho: float) -> tuple[Array, Array]:
        """U (NC, k) and t (k,) of J / sqrt(N) = U t V^T, t = 0 where it counts as zero."""
        if self.is_small:
            U, t, _ = self.svd
        elif self.refine and self.E.shape[1] == 1:
            columns = (X / len(self.s.f) ** 0.5 for X in _columns(self.s))
            U, t = factors(self.Theta, self.E, rho, self.rcond, columns)
        else:
            U, t = eigen_root(self.Theta, self.rcond, rho)
        self.lost = 0.0 if is_damped(t, rho, self.rcond) else lost_share(U, t, self.E)
        self.is_regular = int((t > 0).sum()) == int(self.alive.sum())
        return U, t

    def finish(self, lam: Array) -> Array:
        """What `power` would return in place of lambda."""
        return jacobian(self.s).T @ lam if self.is_small else lam

    def pull(self, X: Array) -> list[Array]:
        """J^T lambda / N as a list like W, of what `power` returns for k = 1."""
        return shaped(X[:, 0] / len(self.s.f), self.s.shapes) if self.is_small else self._pull(X)

    def _pull(self, X: Array) -> list[Array]:
        v = X.reshape(self.s.f.shape) / len(self.s.f)
        return [pull_layer(h, delta, v) for h, delta in zip(self.s.h, self.s.delta, strict=True)]

    def cross(self, test: Signals, X: Array) -> Array:
        """J(x') J^T lambda / N (N'C, k)."""
        if self.is_small:
            return jacobian(test) @ X / len(self.s.f)
        return tangent_kernel(test, self.s) @ X


class _Kernel:
    """The same of a block of which the kernel Theta (n, n) is all that is known, and for E = I."""

    refine, c = True, 1.0

    def __init__(self, Theta: Array, rcond: float | None) -> None:
        self.Theta, self.rcond = Theta, rcond
        self.right = self.E = array_module(Theta).eye(len(Theta), dtype=Theta.dtype)
        self.alive = Theta.diagonal()[:, None] > 0

    def product(self, X: Array) -> Array:
        return self.Theta @ X

    def power(self, rho: float, q: float) -> Array:
        return power_of_gram(self.Theta, rho, q, self.rcond)

    def inverse(self, rho: float) -> Array | None:
        return None if self.rcond is not None else refined_inverse(self.Theta, self.E, rho, None)

    def factors(self, rho: float) -> tuple[Array, Array]:
        return eigen_root(self.Theta, self.rcond, rho)

    def finish(self, lam: Array) -> Array:
        return lam


def _balanced(s: Signals, E: Array) -> tuple[Signals, Array]:
    """The signals with rows of J (NC, P) of about unit norm, by powers of two, and E (NC, k) scaled alike."""
    T = inverse_size(_tops(s))
    return replace(s, delta=[delta * T[:, :, None] for delta in s.delta]), T.reshape(-1, 1) * E


def _are_regular(blocks: list) -> bool:
    """Whether no direction counted as zero but rows of zeros that are so in all blocks."""
    return all(block.is_regular and bool((block.alive == blocks[0].alive).all()) for block in blocks)


def _tops(s: Signals) -> Array:
    """The largest modulus (N, C) in each row of J."""
    tops = [abs(delta).max(2) * abs(h).max(1, keepdims=True) for h, delta in zip(s.h, s.delta, strict=True)]
    return array_module(s.f).stack(tops).max(0)


def _columns(s: Signals) -> Iterator[Array]:
    """J (NC, P), the columns of some units at a time."""
    n = s.f.size
    for h, delta in zip(s.h, s.delta, strict=True):
        for units in batches(delta, delta.shape[2], n * h.shape[1]):
            yield (delta[:, :, units, None] * h[:, None, None, :]).reshape(n, -1)


def _solve(Sigma: np.ndarray, blocks: list, rho: float, q: float) -> list[Array]:
    """lambda_l (NC, k) of blocks coupled by Sigma."""
    if len(blocks) == 1 and Sigma[0, 0] in (0, 1):
        (block,) = blocks
        return [block.power(rho, q) if Sigma[0, 0] else block.finish(block.E * (1 / rho if rho else 0.0))]
    same = all(bool((block.alive == blocks[0].alive).all()) for block in blocks)
    if rho == 0 and same and np.linalg.matrix_rank(Sigma) == len(Sigma):
        solutions = [block.inverse(rho) for block in blocks]
        if all(v is not None for v in solutions):
            w = np.linalg.solve(Sigma, np.ones(len(Sigma))).tolist()
            return [w_l * v for w_l, v in zip(w, solutions, strict=True)]
    return _coupled(Sigma, blocks, rho)


def _coupled(Sigma: np.ndarray, blocks: list, rho: float) -> list[Array]:
    """lambda_l (NC, k) on the range of S^T, refined if the blocks ask for it."""
    xp, E = array_module(blocks[0].E), blocks[0].E
    (n, k), L = E.shape, len(blocks)
    factors = [block.factors(rho) for block in blocks]
    if rho:
        _warn_if_resonant(Sigma, [t for _, t in factors], rho, n, blocks[0].c)
    roots = _block_diagonal([U * t for U, t in factors])  # (L n, r)
    inverse_roots = _block_diagonal([U * gain(t, 0.0, 2) for U, t in factors])  # U t^{-1}
    solve_H, x = _signed_inverse(Sigma, roots, rho, blocks[0].right)

    def inverse(X: Array) -> Array:  # factor by factor, since the large entries of inverse_roots act on small ones
        return inverse_roots @ solve_H(roots.T @ X)

    def product(X: Array) -> Array:
        Theta_X = [block.product(x) for block, x in zip(blocks, X.reshape(L, n, k), strict=True)]
        return _mix(Sigma, xp.concatenate(Theta_X)) + rho * X

    B = xp.concatenate([block.E for block in blocks])
    lam = refined(inverse, B, product) if blocks[0].refine else None
    if lam is None:
        lam = inverse(B) if x is None else inverse_roots @ x
    return [block.finish(v) for block, v in zip(blocks, lam.reshape(L, n, k), strict=True)]


def _signed_inverse(Sigma: np.ndarray, roots: Array, rho: float, E: Array) -> tuple[LinearMap, Array | None]:
    """X (r, k) -> (H + rho I)^{-1} X of H = roots^T (Sigma (x) I) roots, without the squares of `roots` (L n, r).

    And what it has for X = roots^T (1 (x) E), E (n, k), if 1 is in the range of Sigma: W a U^T z, T^T z = 1 (x) E, is X
    with small errors in small directions.

    With Sigma = T^T D T, D of signs, and (T (x) I) roots = U a W^T, H is W a Q a W^T, Q = U^T (D (x) I) U, and with
    t^2 = a^2 + rho its inverse on the range of W is W t^{-1} Q_t^{-1} t^{-1} W^T, Q_t = (a/t) Q (a/t) + rho / t^2. The
    pseudo-inverse at rho = 0 is that of Q between projections that take away the null space of t Q t.
    """
    xp, (w, V) = array_module(roots), np.linalg.eigh(Sigma)
    live = abs(w) > 1e-13 * len(w) * largest(Sigma)
    w, V = w[live], V[:, live]
    U, a, Wt = thin_svd(_mix((abs(w) ** 0.5 * V).T, roots))
    U, a, Wt = U[:, a > 0], a[a > 0], Wt[a > 0]
    signs = xp.asarray(np.repeat(np.sign(w), len(E)), dtype=U.dtype)
    t = (a * a + rho) ** 0.5
    c, t = U * (a / t), t[:, None]
    q, Z = eigen((c.T * signs) @ c + xp.diag(rho / t[:, 0] ** 2))
    spread = float(a.max() / t.min()) if len(a) else 1.0
    regular = abs(q) > cutoff(len(q), q.dtype) * spread  # U has errors of eps max(a) / t
    power = (regular / xp.where(regular, q, 1))[:, None]
    null, _ = xp.linalg.qr(Z[:, ~regular] / t)
    in_range = _has_one_in_range(Sigma)
    aside = 0.0 if rho == 0 or in_range else 1 / rho  # for what has a share outside the range of W

    def inside(X: Array) -> Array:
        right = X - null @ (null.T @ X)
        y = Z @ (power * (Z.T @ (right / t))) / t
        return Wt.T @ (y - null @ (null.T @ y))

    def solve(X: Array) -> Array:
        return inside(Wt @ X) + aside * (X - Wt.T @ (Wt @ X))

    if not in_range:
        return solve, None
    z = [float(v) * E for v in V.sum(0) / abs(w) ** 0.5]
    return solve, inside(a[:, None] * (U.T @ xp.concatenate(z)))


def _block_diagonal(blocks: list[Array]) -> Array:
    xp, rows, columns = array_module(blocks[0]), *(sum(b.shape[axis] for b in blocks) for axis in (0, 1))
    matrix, i, j = xp.zeros((rows, columns), blocks[0].dtype), 0, 0
    for b in blocks:
        matrix[i : i + b.shape[0], j : j + b.shape[1]] = b
        i, j = i + b.shape[0], j + b.shape[1]
    return matrix


def _mix(T: np.ndarray, X: Array) -> Array:
    """(T (x) I) X (p n, k) for T (p, L) and X (L n, k)."""
    xp = array_module(X)
    mixed = xp.tensordot(xp.asarray(T, dtype=X.dtype), X.reshape(T.shape[1], -1, X.shape[1]), 1)
    return mixed.reshape(-1, X.shape[1])


# -------------------------------------------------------------------------------------------------------------- Sigma


def _parts(Sigma: np.ndarray) -> list[tuple[list[list[int]], np.ndarray]]:
    """The blocks that have to be solved together, those that a chain of entries of Sigma connects, and their Sigma."""
    blocks = _equal_rows(Sigma)
    Sigma = Sigma[np.ix_(*2 * [[block[0] for block in blocks]])]  # a row for each block
    linked = np.eye(len(Sigma)) + (Sigma != 0)
    parts = _equal_rows(np.linalg.matrix_power(linked, len(Sigma)) > 0)
    return [([blocks[l] for l in part], Sigma[np.ix_(part, part)]) for part in parts]


def _equal_rows(matrix: np.ndarray) -> list[list[int]]:
    """The groups of indices of equal rows."""
    _, group = np.unique(matrix, axis=0, return_inverse=True)
    return [np.flatnonzero(group.ravel() == g).tolist() for g in range(group.max() + 1)]


def _has_one_in_range(Sigma: np.ndarray) -> bool:
    w, *_ = np.linalg.lstsq(Sigma, np.ones(len(Sigma)), rcond=None)
    return np.allclose(Sigma @ w, 1, rtol=0, atol=1e-12)


def _checked_Sigma(Sigma: ArrayLike) -> np.ndarray:
    Sigma = to_device(checked_values("Sigma", Sigma), "cpu").astype(float)
    checked_array("Sigma", Sigma, ("L", len(Sigma) if Sigma.ndim and Sigma.size else "L"))
    gap = abs(Sigma - Sigma.T).max()
    if gap > 1e-12 * abs(Sigma).max():
        raise ValueError(f"Sigma is not symmetric: it differs from its transpose by up to {gap:.3g}")
    return (Sigma + Sigma.T) / 2


def _warn_if_resonant(Sigma: np.ndarray, roots: list[Array], rho: float, n: int, c: float) -> None:
    """G + rho I is singular at rho = -w for all eigenvalues w < 0 of G; -w is in [lo, hi] by Ostrowski's theorem.

    c: what the roots, and that of rho, have been divided by.
    """
    negative = [-w for w in np.linalg.eigvalsh(Sigma) if w < -1e-12 * abs(Sigma).max()]
    if negative:
        least = min(float(t.min()) ** 2 if len(t) == n else 0.0 for t in roots)
        lo, hi = min(negative) * least, max(negative) * max(float(t.max()) ** 2 for t in roots)
        if lo <= rho <= hi:
            rho, lo, hi = (size * c * c for size in (rho, lo, hi))
            warnings.warn(
                f"rho = {rho:.3g} lies among the negative eigenvalues of the indefinite G, which are in [-{hi:.3g}, "
                f"-{lo:.3g}]: the step can be wildly wrong. Choose rho = 0"
                + (f", rho < {lo:.3g}" if lo else "")
                + f" or rho > {hi:.3g}",
                RuntimeWarning,
                stacklevel=7,
            )
