"""One block a unit, i.e. a row of W_l with its bias.

    G                = block-diagonal part of F by units, + rho I                                     K&O (23)
    Theta_{l,i}      = D K D^T,   K = h_{l-1} h_{l-1}^T / N,   D (NC, N) has delta_l[n,:,i] in column n       (S.131)

D = U diag(r) with orthonormal U and r_n = |delta_l[n,:,i]|, so a unit has an N x N system for any number of outputs:

    direction_{l,i}  = h_{l-1}^T mu / N,   mu = r y,   (r K r + rho I)^{1/q} y = r g
    g_n              = sum_c delta_l[n,c,i] e[n,c] / r_n^2

For q = 1 it is scaled to unit diagonal by c_n = r_n / sqrt(K_nn r_n^2 + rho), which frees it from the spread of r:

    mu = c y,   (c K c + diag(d)) y = c g,   d_n = rho / (K_nn r_n^2 + rho)

A dead sample, r_n = 0, has c_n = 0 and d_n := 1: the solution on the others is then the exact pseudo-inverse.
"""

from functools import partial

import numpy as np

from ..arrays import Array, array_module, batches
from ..kernels import order_parameters
from ..network import Network
from ..spectral import damped, eigen_power, gram, is_regular, lu_solve
from .base import GramFisher, fisher_information, has_full_rank, unit_slices


class Unitwise(GramFisher):
    """G of K&O (23). Wide random networks have alpha = sum_{l<L} gamma_l M_l / C + 1 for inputs of unit norm (S.128).

    Needs inputs of full rank N in every trained layer: where M_0 < N, freeze the first (`Signals.above`, K&O C.2.2).
    At rho = 0 the step is heavy-tailed, as 1 / delta: training wants a small damping, such as 1e-8.
    refine: see `GramFisher`. rcond: likewise, but only where the inputs of a layer are linearly dependent or q > 1;
    else a sample is dead if the sum of its delta^2 is below the smallest normal number, and all others count.
    """

    def _matrix(self, s, rho):
        F = fisher_information(s)
        G = array_module(F).zeros(F.shape, F.dtype)
        for unit in unit_slices(s):
            G[unit, unit] = F[unit, unit]
        return damped(G, rho)

    def _direction(self, s, e, rho, q):
        xp, N = array_module(e), len(e)
        dW = []
        for h, delta in zip(s.h, s.delta, strict=True):
            layer = _Layer(h, delta, rho, q, self.rcond)
            units = batches(delta.shape[2], N * N)
            mu = [layer.multipliers(delta[:, :, i], e[:, :, None], self.refine)[:, :, 0] for i in units]
            dW.append((xp.concatenate(mu) / N) @ h)
        return dW

    def _coefficient(self, test, train, rho, q):
        xp, (N, C) = array_module(train.f), train.f.shape
        E = xp.eye(N * C, dtype=train.f.dtype).reshape(N, C, N * C)
        Theta_bar = xp.zeros((*test.f.shape, N * C), train.f.dtype)
        for h1, d1, h, delta in zip(test.h, test.delta, train.h, train.delta, strict=True):
            layer, K1 = _Layer(h, delta, rho, q, self.rcond), h1 @ h.T / N
            for i in batches(delta.shape[2], max(N, len(h1)) * N * C):
                mu = layer.multipliers(delta[:, :, i], E, refine=False)  # (u, N, NC)
                Theta_bar += d1[:, :, i] @ xp.tensordot(K1, mu, (1, 1))
        return Theta_bar.reshape(test.f.size, N * C)

    def _alpha(self, net: Network, n: int, frozen: int) -> float | None:
        """The wide limit: at finite width Theta_bar counts live units, alpha on average."""
        wide = all(net.shapes[l][1] >= n and has_full_rank(net, l, n) for l in range(frozen, len(net.shapes)))
        hidden = list(zip(net.widths[1:-1], order_parameters(net), strict=False))[frozen:]
        return sum(net.activation.gamma(q) * M for M, q in hidden) / net.widths[-1] + 1.0 if wide else None


class _Layer:
    """The systems of all units of a layer; h (N, m), delta (N, C, M)."""

    def __init__(self, h: Array, delta: Array, rho: float, q: float, rcond: float | None) -> None:
        self.h, self.rho, self.q, self.rcond = h, rho, q, rcond
        self.K = gram(h, len(h))
        # Every system is regular to working precision if K is (eigenvalues interlace), or if rho is large enough
        largest = float(((delta * delta).sum(1).max(1) * self.K.diagonal()).max())
        root_eps = float(np.finfo(h.dtype).eps) ** 0.5
        self.regular = q == 1 and (is_regular(self.K, rcond) or rho > root_eps * largest)

    def multipliers(self, delta: Array, E: Array, refine: bool) -> Array:
        """mu (u, N, k) of the units with delta (N, C, u), for right-hand sides E (N, C, k)."""
        xp = array_module(E)
        r2 = (delta * delta).sum(1).T  # (u, N)
        live = r2 >= float(np.finfo(r2.dtype).tiny)
        r2 = xp.where(live, r2, 1)
        g = (delta.transpose(0, 2, 1) @ E).transpose(1, 0, 2) * (live / r2)[:, :, None]  # (u, N, k)
        if self.regular:
            scale = self.K.diagonal() * r2 + self.rho
            c, d = live * xp.sqrt(r2 / scale), xp.where(live, self.rho / scale, 1)
            c, d, n = c[:, :, None], d[:, :, None], xp.arange(len(E))
            system = c * self.K * c.mT
            system[:, n, n] = 1  # c K c + diag(d), less rounding
            inverse = partial(lu_solve, system)
        else:
            c, d = (live * xp.sqrt(r2))[:, :, None], self.rho
            V, power = eigen_power(c * self.K * c.mT, self.rho, self.q, self.rcond)

            def inverse(B: Array) -> Array:
                return V @ (power.mT * (V.mT @ B))

        y = inverse(c * g)
        if refine and self.q == 1:
            y = y + inverse(c * (g - self._product(c * y)) - d * y)
        return c * y

    def _product(self, z: Array) -> Array:
        """K z (u, N, k) through the factor h."""
        return ((z.transpose(0, 2, 1) @ self.h) @ self.h.T).transpose(0, 2, 1) / len(self.h)
