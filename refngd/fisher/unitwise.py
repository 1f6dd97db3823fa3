"""One block a unit, i.e. a row of W_l with its bias.

    G                = block-diagonal part of F by units, + rho I                                     K&O (23)
    Theta_{l,i}      = D h_{l-1} h_{l-1}^T D^T / N,  column n of D (NC, N) is delta_l[n,:,i] at sample n    (S.131)

D = U diag(r) with orthonormal U and r_n = |delta_l[n,:,i]|, so a unit has an N x N system for any number of outputs:

    direction_{l,i}  = h^T mu / N,  mu = r (r A r / N + rho I)^{-1/q} U^T e,   A = h h^T

For q = 1 it is scaled to unit diagonal by c_n = (A_nn / N + rho / r_n^2)^{-1/2}, which frees it from the spread of r:

    mu = c K^{-1} c g,   K = c A c / N off the diagonal, 1 on it,   g_n = sum_c delta_l[n,c,i] e[n,c] / r_n^2

A dead sample, r_n = 0, gets c_n = 0: it is a unit row of K, and the solution on the others is the exact pseudo-inverse.
"""

import numpy as np

from ..arrays import Array, array_module
from ..kernels import order_parameters
from ..network import Network
from ..spectral import cutoff, damped, eigen_power, is_regular, lu_solve
from .base import GramFisher, fisher_information

BATCH = 2**22  # entries of the largest temporary: units are solved in batches of about this size


class Unitwise(GramFisher):
    """G of K&O (23). Wide random networks have alpha = sum_{l<L} gamma_l M_l / C + 1 for inputs of unit norm (S.128).

    At rho = 0 the step is heavy-tailed, as 1 / delta: training wants a small damping, such as 1e-8.
    rcond, refine: see `GramFisher`.
    """

    def _matrix(self, s, rho):
        xp = array_module(s.f)
        sizes = [k for M, k in s.shapes for _ in range(M)]
        unit = np.repeat(np.arange(len(sizes)), sizes)  # of each parameter
        return damped(xp.asarray(unit[:, None] == unit, dtype=s.f.dtype) * fisher_information(s), rho)

    def _direction(self, s, e, rho, q):
        xp = array_module(e)
        dW = []
        for h, delta in zip(s.h, s.delta, strict=True):
            layer = _Layer(h, delta, rho, q, self.rcond)
            mu = [layer.multipliers(units, e[:, :, None], self.refine)[:, :, 0] for units in layer.batches(len(e))]
            dW.append((xp.concatenate(mu) / len(e)) @ h)
        return dW

    def _coefficient(self, test, train, rho, q):
        xp = array_module(train.f)
        E = xp.eye(train.f.size, dtype=train.f.dtype).reshape(*train.f.shape, -1)  # (N, C, NC)
        Theta_bar = xp.zeros((*test.f.shape, train.f.size), train.f.dtype)
        for h1, d1, h, delta in zip(test.h, test.delta, train.h, train.delta, strict=True):
            layer, A1 = _Layer(h, delta, rho, q, self.rcond), h1 @ h.T / len(h)
            for units in layer.batches(max(len(h), len(h1)) * train.f.shape[1]):
                mu = layer.multipliers(units, E, refine=False)  # (u, N, NC)
                Theta_bar += d1[:, :, units] @ xp.tensordot(A1, mu, (1, 1))
        return Theta_bar.reshape(test.f.size, train.f.size)

    def _alpha(self, net: Network, n: int) -> float | None:
        if any(k < n for _, k in net.shapes):
            return None
        hidden = zip(net.widths[1:-1], order_parameters(net), strict=False)
        return sum(net.activation.gamma(q) * M for M, q in hidden) / net.widths[-1] + 1.0


class _Layer:
    """The systems of all units of a layer; h (N, m), delta (N, C, M)."""

    def __init__(self, h: Array, delta: Array, rho: float, q: float, rcond: float | None) -> None:
        self.h, self.delta, self.rho, self.q, self.rcond = h, delta, rho, q, rcond
        self.A = h @ h.T / len(h)
        # Every K is positive definite to working precision if A is (eigenvalues interlace), or if rho is large enough
        diagonal = (delta * delta).sum(1).max(1) * self.A.diagonal()
        self.regular = q == 1 and (is_regular(self.A, rcond) or bool(rho > cutoff(self.A, rcond) * diagonal.max()))

    def batches(self, k: int) -> list[slice]:
        """Slices of units such that (u, N, k) arrays are small."""
        M, step = self.delta.shape[2], max(1, BATCH // (len(self.h) * k))
        return [slice(i, min(i + step, M)) for i in range(0, M, step)]

    def multipliers(self, units: slice, E: Array, refine: bool) -> Array:
        """mu (u, N, k) of some units, for right-hand sides E (N, C, k)."""
        xp = array_module(E)
        delta = self.delta[:, :, units]
        r2 = (delta * delta).sum(1).T  # (u, N)
        live = r2 > float(xp.finfo(r2.dtype).tiny)
        r2 = xp.where(live, r2, 1)
        g = (delta.transpose(0, 2, 1) @ E).transpose(1, 0, 2) * (live / r2)[:, :, None]  # (u, N, k)
        if not self.regular:
            r = (live * xp.sqrt(r2))[:, :, None]
            V, power = eigen_power(r * self.A * r.mT, self.rho, self.q, self.rcond)
            return r * (V @ (power.mT * (V.mT @ (r * g))))
        c = (live / xp.sqrt(self.A.diagonal() + self.rho / r2))[:, :, None]
        K, n = c * self.A * c.mT, xp.arange(len(E))
        K[:, n, n] = 1
        y = lu_solve(K, c * g)
        if refine:
            Ky = c * self._product(c * y) + xp.where(live[:, :, None], c * c * (self.rho / r2)[:, :, None], 1) * y
            y = y + lu_solve(K, c * g - Ky)
        return c * y

    def _product(self, z: Array) -> Array:
        """A z (u, N, k) through the factor h."""
        return ((z.transpose(0, 2, 1) @ self.h) @ self.h.T).transpose(0, 2, 1) / len(self.h)
