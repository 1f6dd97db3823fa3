"""One block a unit, i.e. a row of W_l with its bias, without J: a unit takes an N x N system for any number of outputs.

    G                = block-diagonal part of F by units, + rho I                                     K&O (23)
    J_{l,i}[(n,c),:] = delta_l[n,c,i] h_{l-1}[n,:];   a root of its block of F is R / sqrt(N) = D H,
                       H_n = h_{l-1}[n,:] / |h_{l-1}[n,:]|, D_n = r_n |h_{l-1}[n,:]| / sqrt(N), r_n = |delta_l[n,:,i]|
    direction_{l,i}  = H^T D (D K D + rho I)^{-1/q} D g,   K = H H^T,                                 (S.131)
                       g_n = sum_c delta_l[n,c,i] e[n,c] / (r_n^2 |h_{l-1}[n,:]|)

A sample with D_n = 0 is dead for the unit. For q = 1 the system of the others is scaled to unit diagonal, which frees
it from the spread of D, c_n = D_n / sqrt(D_n^2 + rho):

    direction_{l,i}  = H^T c y,   (c K c + diag(d)) y = c g,   d_n = rho / (D_n^2 + rho)

and solved, many units at a time. Where that loses digits, and for other q, the singular values of D H are taken; H, if
it has more columns than rows, is replaced by its triangle, of which all products are the same.
"""

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from ..arrays import Array, array_module, batches, to_device
from ..kernels import order_parameters
from ..network import Network, Signals, Trained
from ..spectral import (
    cancels,
    gain,
    inverse,
    inverse_size,
    is_damped,
    largest,
    norm,
    norms,
    root_svd,
    safe,
    solve,
    triangle,
)
from .base import Fisher, has_full_ranks, warn_of_loss

SOLVED = 256  # the largest systems that CuPy solves in batches; it inverts any


class Unitwise(Fisher):
    """G of K&O (23). Wide random networks have alpha = sum_{l<L} gamma_l M_l / C + 1 for inputs of one norm (S.128).

    Needs inputs of full rank N in every trained layer: where M_0 < N, freeze the first (`Signals.above`, K&O C.2.2).
    At rho = 0 the step is heavy-tailed, as 1 / delta: training wants a small damping, such as 1e-8.

    rcond: the singular values of the R of a unit that are at most rcond times its largest count as zero; None for
        `spectral.cutoff`.
    refine: see `Fisher`.
    """

    def _direction(self, s, e, rho, q):
        xp, dW, lost = array_module(e), [], 0.0
        for (scaled, c), delta in zip(s.parts(math.sqrt(rho)), s.delta, strict=True):
            layer = _Layer(scaled, rho / c / c, q, self.refine, self.rcond)
            mu = xp.empty((delta.shape[2], len(e)), e.dtype)
            for units, mu_units in layer.multipliers(e[:, :, None]):
                mu[units] = mu_units[:, :, 0]
            dW.append(c ** (1 - 2 / q) * mu @ layer.H)
            lost = max(lost, layer.lost)
        warn_of_loss(lost, e)
        return dW

    def _coefficient(self, test, train, rho, q):
        xp, (N, C) = array_module(train.f), train.f.shape
        E = xp.eye(N * C, dtype=train.f.dtype).reshape(N, C, N * C)
        Theta_bar = xp.zeros((*test.f.shape, N * C), train.f.dtype)
        for (scaled, c), h1, delta1 in zip(train.parts(math.sqrt(rho)), test.h, test.delta, strict=True):
            layer = _Layer(scaled, rho / c / c, q, False, self.rcond)
            K1 = c ** (1 - 2 / q) * (h1 @ layer.H.T)  # (N', N)
            for units, mu in layer.multipliers(E):  # mu (u, N, NC)
                Theta_bar += delta1[:, :, units] @ xp.tensordot(K1, mu, (1, 1))
        return Theta_bar.reshape(test.f.size, N * C)

    def _alpha(self, net: Network, n: int, trained: Trained, x: Array | None) -> float | None:
        """The wide limit: at finite width Theta_bar counts live units, alpha on average."""
        norms = np.ones(1) if x is None else np.linalg.norm(to_device(x, "cpu").astype(float), axis=1)
        if np.ptp(norms) > math.sqrt(np.finfo(float if x is None else x.dtype).eps) * norms.max():
            return None  # the units that live depend on the norm, from sample to sample
        if not has_full_ranks(net, trained, n):
            return None
        q, C = order_parameters(net, float(norms.mean())), net.widths[-1]
        live = (net.activation.gamma(q[l - 1]) * net.widths[l] for l in trained.layers if l < trained.L)
        return sum(live) / C + float(trained.L in trained.layers)


class _Layer:
    """The systems of all units of a layer, of which `multipliers` gives the solutions."""

    def __init__(self, layer: Signals, rho: float, q: float, refine: bool, rcond: float | None) -> None:
        (h,), (delta,) = layer.h, layer.delta
        self.rho, self.q, self.refine, self.rcond, self.lost = rho, q, refine, rcond, 0.0
        (N, k), xp = h.shape, array_module(h)
        S = inverse_size(abs(h).max(1))[:, None]  # so that squares neither over- nor underflow
        size = norms((S * h)[:, None])[:, None]
        self.H = S * h / xp.where(size > 0, size, 1)
        rows = (size / S / math.sqrt(N))[:, :, None] * delta  # (N, C, M), of the norms D
        self.T = inverse_size(abs(rows).max(2).max(1))
        self.rows = self.T[:, None, None] * rows
        self.is_regular = q == 1 and rcond is None and k >= N
        if self.is_regular:
            self.K, limit = self.H @ self.H.T, safe(N) if refine else float(np.finfo(h.dtype).eps) ** -0.5
            self.is_clear = bool(inverse(self.K)[1] <= limit)  # and so are the systems of all units

    @cached_property
    def root(self) -> Array:
        """(N, min(k, N)) with K = root root^T."""
        return triangle([self.H]).T if self.H.shape[1] > len(self.H) else self.H

    def multipliers(self, E: Array) -> Iterator[tuple[Array, Array]]:
        """Some units at a time, and their mu (u, N, k) for right-hand sides E (N, C, k); the step is H^T mu."""
        xp, (N, _, k) = array_module(E), E.shape
        squares, size = (self.rows * self.rows).sum(1).T, 2.0 ** math.frexp(largest(E))[1]  # (M, N)
        E = self.T[:, None, None] * (E / (size * math.sqrt(N)))  # (N, C, k)
        live = squares >= float(np.finfo(squares.dtype).tiny)
        order = xp.argsort(live.sum(1))  # so that units of a batch have about as many live samples
        most = live.sum(1)[order].tolist()
        for batch in batches(E, len(order), N * max(N, k), limit=2**17):
            units = order[batch]
            alive, D2 = live[units], xp.where(live[units], squares[units], 1)  # (u, N)
            D = (alive * D2**0.5 / self.T)[:, :, None]  # (u, N, 1)
            g = (self.rows[:, :, units].mT @ E).transpose(1, 0, 2) * (alive / D2)[:, :, None]  # (u, N, k)
            mu = self._of_kernel(D, g, max(1, most[batch][-1])) if self.is_regular else self._of_root(D, g)
            yield units, size * mu

    def _of_root(self, D: Array, g: Array) -> Array:
        """mu = D U (t^2 + rho)^{-1/q} U^T D g (u, N, k) from the singular values t of D root."""
        xp, root_rho = array_module(D), math.sqrt(self.rho)
        S = inverse_size(xp.maximum(D.max(1, keepdims=True), root_rho))  # (u, 1, 1), for the squares of t
        U, t, _ = root_svd(S * D * self.root, self.rcond)
        c = U.mT @ (S * D * g)
        if not is_damped(t / S[:, 0], self.rho, self.rcond):
            self.lost = max(self.lost, norm((t == 0)[:, :, None] * c) / (norm(S * D * g) or 1.0))
        return S ** (2 / self.q - 1) * D * ((U * gain(t, (S * root_rho) ** 2, self.q)) @ c)

    def _of_kernel(self, D: Array, g: Array, m: int) -> Array:
        """mu = c y (u, N, k) from the scaled systems of the m samples that come first, all live ones among them.

        From the root where a system loses digits that D H has, or with refine = False half of all.
        """
        xp, (u, N, _) = array_module(g), g.shape
        place, rows = xp.argsort(D[:, :, 0] == 0, axis=1)[:, :m], xp.arange(u)[:, None]  # (u, m), (u, 1)
        live = D[rows, place] > 0  # (u, m, 1)
        ratio = math.sqrt(self.rho) / xp.where(live, D[rows, place], 1)
        c = live / xp.hypot(1, ratio)
        d = xp.where(live, (c * ratio) ** 2, 1)
        B = c * g[rows, place]
        S = inverse_size(abs(B).max((1, 2), keepdims=True))  # since squares of y are taken
        system, i = c * self.K[place[:, :, None], place[:, None]] * c.mT, xp.arange(m)
        system[:, i, i] = 1  # c K c + diag(d), less rounding
        if self.is_clear and m <= SOLVED:
            return _placed(c * solve(system, B), rows, place, N)
        inverse_K, condition = inverse(system)
        y = inverse_K @ (S * B)
        limit = safe(m) if self.refine else float(np.finfo(g.dtype).eps) ** -0.5
        unclear = ~(condition <= limit) | cancels(y, S * B, d, condition)  # ~, since the condition may be nan
        mu = _placed(c * (y / S), rows, place, N)
        if unclear.any():
            mu[unclear] = self._of_root(D[unclear], g[unclear])
        return mu


def _placed(z: Array, rows: Array, place: Array, N: int) -> Array:
    """z (u, m, k) at the places (u, m) of the m samples among all N, else 0."""
    placed = array_module(z).zeros((len(z), N, z.shape[2]), z.dtype)
    placed[rows, place] = z
    return placed
