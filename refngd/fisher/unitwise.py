"""One block a unit, i.e. a row of W_l with its bias, without J: a unit takes an N x N system for any number of outputs.

    G                = block-diagonal part of F by units, + rho I                                     K&O (23)
    J_{l,i}[(n,c),:] = delta_l[n,c,i] h_{l-1}[n,:],   a root R = D h_{l-1} (N, k), D = diag(r), r_n = |delta_l[n,:,i]|
    direction_{l,i}  = R^T (R R^T / N + rho I)^{-1/q} D g / N,    g_n = sum_c delta_l[n,c,i] e[n,c] / r_n^2
    R R^T / N        = D K D,    K = h_{l-1} h_{l-1}^T / N                                            (S.131)

A sample with r_n = 0 is dead for the unit. For q = 1 the system of the others is scaled to unit diagonal, which frees
it from the spread of r, c_n = r_n / sqrt(K_nn r_n^2 + rho):

    direction_{l,i}  = h_{l-1}^T c y / N,   (c K c + diag(d)) y = c g,   d_n = rho / (K_nn r_n^2 + rho)

and solved, many units at a time. Where that loses digits, and for other q, the singular values of R are taken; h, if it
has more columns than rows, is replaced by its triangle, of which all products are the same.
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
            mu = xp.zeros((delta.shape[2], len(e)), e.dtype)
            for units, mu_units in layer.multipliers(e[:, :, None]):
                mu[units] = mu_units[:, :, 0]
            dW.append((c ** (1 - 2 / q) / len(e) * mu) @ scaled.h[0])
            lost = max(lost, layer.lost)
        warn_of_loss(lost, e)
        return dW

    def _coefficient(self, test, train, rho, q):
        xp, (N, C) = array_module(train.f), train.f.shape
        E = xp.eye(N * C, dtype=train.f.dtype).reshape(N, C, N * C)
        Theta_bar = xp.zeros((*test.f.shape, N * C), train.f.dtype)
        for (scaled, c), h1, delta1 in zip(train.parts(math.sqrt(rho)), test.h, test.delta, strict=True):
            K1 = c ** (1 - 2 / q) / N * (h1 @ scaled.h[0].T)  # (N', N)
            for units, mu in _Layer(scaled, rho / c / c, q, False, self.rcond).multipliers(E):  # mu (u, N, NC)
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
        (self.h,), (delta,) = layer.h, layer.delta
        self.rho, self.q, self.refine, self.rcond, self.lost = rho, q, refine, rcond, 0.0
        N, k = self.h.shape
        self.is_regular = q == 1 and rcond is None and k >= N
        if self.is_regular:
            self.K = self.h @ self.h.T / N
            c, limit = self.K.diagonal() ** -0.5, safe(N) if refine else float(np.finfo(self.K.dtype).eps) ** -0.5
            self.is_clear = bool(inverse(c[:, None] * self.K * c)[1] <= limit)  # and so are the systems of all units
        T = inverse_size(abs(delta).max(2).max(1)) if rho == 0 else array_module(delta).ones_like(delta[:, 0, 0])
        self.T, self.delta = T, delta * T[:, None, None]  # so that r of confident samples does not underflow

    @cached_property
    def root(self) -> Array:
        """(N, min(k, N)) with K = root root^T."""
        N, k = self.h.shape
        return (triangle([self.h]).T if k > N else self.h) / math.sqrt(N)

    def multipliers(self, E: Array) -> Iterator[tuple[Array, Array]]:
        """Some units at a time, and their mu (u, N, k) for right-hand sides E (N, C, k); R^T mu / N is the step."""
        xp, (N, _, k) = array_module(E), E.shape
        E, r2 = E * self.T[:, None, None], (self.delta * self.delta).sum(1).T  # (N, C, k), (M, N)
        size = 2.0 ** math.frexp(largest(E))[1]  # since squares of mu are taken
        E, live = E / size, r2 >= float(np.finfo(r2.dtype).tiny)
        order = xp.argsort(live.sum(1))  # so that units of a batch have about as many live samples
        most = live.sum(1)[order].tolist()
        for batch in batches(E, len(order), N * max(N, k), limit=2**20):
            units = order[batch]
            delta, alive, r2_u = self.delta[:, :, units], live[units], xp.where(live[units], r2[units], 1)
            g = (delta.transpose(0, 2, 1) @ E).transpose(1, 0, 2) * (alive / r2_u)[:, :, None]  # (u, N, k)
            mu = self._of_kernel(r2_u, alive, g, max(1, most[batch][-1])) if self.is_regular else None
            yield units, size * (self._of_root(r2_u, alive, g) if mu is None else mu)

    def _of_root(self, r2: Array, live: Array, g: Array) -> Array:
        """mu = D U (t^2 + rho)^{-1/q} U^T D g (u, N, k) from the singular values of R / sqrt(N) = D root."""
        D = (live * r2**0.5 / self.T)[:, :, None]
        U, t, _ = root_svd(D * self.root, self.rcond)
        c = U.mT @ (D * g)
        if not is_damped(t, self.rho, self.rcond):
            self.lost = max(self.lost, norm((t == 0)[:, :, None] * c) / (norm(D * g) or 1.0))
        return D * ((U * gain(t, self.rho, self.q)) @ c)

    def _of_kernel(self, r2: Array, live: Array, g: Array, m: int) -> Array | None:
        """mu = c y (u, N, k) from the scaled systems of the m samples that come first, all live ones among them.

        None where one of them loses digits that R has, or with refine = False half of all.
        """
        xp, (u, N, _) = array_module(g), g.shape
        place, rows = xp.argsort(~live, axis=1)[:, :m], xp.arange(u)[:, None]  # (u, m), (u, 1)
        r2, live, g = r2[rows, place], live[rows, place], g[rows, place]  # (u, m), (u, m), (u, m, k)
        scale = self.K.diagonal()[place] * r2 + self.rho
        live = live & (scale > 0)  # a sample whose inputs are all zero is dead as well
        scale = xp.where(live, scale, 1)
        c, d = (live * xp.sqrt(r2 / scale))[:, :, None], xp.where(live, self.rho / scale, 1)[:, :, None]
        system, i = c * self.K[place[:, :, None], place[:, None]] * c.mT, xp.arange(m)
        system[:, i, i] = 1  # c K c + diag(d), less rounding
        if self.is_clear and m <= SOLVED:
            return _placed(c * solve(system, c * g), rows, place, N)
        inverse_K, condition = inverse(system)
        limit = safe(m) if self.refine else float(np.finfo(g.dtype).eps) ** -0.5
        y = inverse_K @ (c * g)
        if not condition.max() <= limit or cancels(y, c * g, d, condition).any():
            return None
        return _placed(c * y, rows, place, N)


def _placed(z: Array, rows: Array, place: Array, N: int) -> Array:
    """z (u, m, k) at the places (u, m) of the m samples among all N, else 0."""
    placed = array_module(z).zeros((len(z), N, z.shape[2]), z.dtype)
    placed[rows, place] = z
    return placed
