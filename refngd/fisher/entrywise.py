"""One block an entry (the diagonal of F), and Ollivier's quasi-diagonal, which keeps each unit's bias row as well.

    F_{l,ij}         = sum_{n,c} delta_l[n,c,i]^2 h_{l-1}[n,j]^2 / N                      (M_l, M_{l-1}+1)
    Theta_bar(x', x) = sum_{l,i,j} delta'_i h'_j delta_i h_j (F_{l,ij} + rho)^{-1/q} / N

Quasi-diagonal, per unit, with a = F_unit + rho I and index 0 the bias: G_00 = a_00, G_0i = a_0i, G_ii = a_ii and
G_ij = a_0i a_0j / a_00. It is outside the family of blocks; without bias it is the plain diagonal. G d = g is solved by

    d_i = (g_i - beta_i g_0) / (a_ii - beta_i a_0i),    d_0 = (g_0 - sum_i a_0i d_i) / a_00,    beta_i = a_0i / a_00
"""

import math

import numpy as np

from ..arrays import Array, array_module, batches
from ..jacobian import pull_layer
from ..spectral import cutoff
from .base import Fisher


class Entrywise(Fisher):
    """The diagonal of F. Not isotropic, but trace(Theta_bar) = P at rho = 0, less the dead entries.

    At rho = 0 the pseudo-inverse skips the entries whose F is zero, or 1e-308 (float32: 1e-38) of the largest of the
    layer, and no others: a diagonal carries no rounding error that would ask for a cut-off.
    """

    def __init__(self) -> None:
        super().__init__()

    def _direction(self, s, e, rho, q):
        dW = []
        for layer, c in s.parts(math.sqrt(rho)):
            (h,), (delta,) = layer.h, layer.delta
            g = pull_layer(h, delta, e / len(e))
            for units in batches(g, len(g), h.shape[1]):
                g[units] *= c ** (1 - 2 / q) * _inverse_diagonal(h, delta[:, :, units], rho / c / c, q)
            dW.append(g)
        return dW

    def _coefficient(self, test, train, rho, q):
        N = len(train.f)
        Theta_bar = array_module(train.f).zeros((*test.f.shape, *train.f.shape), train.f.dtype)
        for (layer, c), h1, d1 in zip(train.parts(math.sqrt(rho)), test.h, test.delta, strict=True):
            inverse = _inverse_diagonal(layer.h[0], layer.delta[0], rho / c / c, q) * (c ** (1 - 2 / q) / N)
            for n in range(N):  # one training sample at a time: nothing larger than W is formed
                Theta_bar[:, :, n] += (d1 * ((h1 * layer.h[0][n]) @ inverse.T)[:, None]) @ layer.delta[0][n].T
        return Theta_bar.reshape(test.f.size, train.f.size)


class QuasiDiagonal(Fisher):
    """Ollivier's quasi-diagonal approximation, K&O section 5; with bias for q = 1 and inf only. Not isotropic.

    rcond: an input whose a_ii - beta_i a_0i is at most rcond a_ii (default 4 N eps) counts as proportional to the bias;
        the pseudo-inverse then gives it beta_i times the bias's step.
    """

    def __init__(self, *, rcond: float | None = None) -> None:
        super().__init__(rcond=rcond)

    def require(self, trained, q=1):
        if any(trained.bias) and q not in (1, float("inf")):
            raise ValueError(f"q is {q:g}; expected 1 or inf: the quasi-diagonal has no other power in closed form")

    def _direction(self, s, e, rho, q):
        dW = []
        for i, ((layer, c), b) in enumerate(zip(s.parts(math.sqrt(rho)), s.trained.bias, strict=True)):
            if not b:
                dW += Entrywise()._direction(s.take([i]), e, rho, q)
                continue
            h, delta = layer.h[0], layer.delta[0]
            mean, bias = h[:, :-1].mean(0), h[:1, -1]
            h = array_module(h).concatenate([h[:, :-1] - mean, h[:, -1:]], axis=1)
            g = pull_layer(h, delta, e / len(e))  # the gradient with centred inputs
            for units in batches(g, len(g), h.shape[1]):
                g[units] = self._solve(h, mean / bias, delta[:, :, units], g[units], rho / c / c) / c
            dW.append(g)
        return dW

    def _coefficient(self, test, train, rho, q):
        if not any(train.trained.bias):
            return Entrywise()._coefficient(test, train, rho, q)
        return super()._coefficient(test, train, rho, q)

    def _solve(self, k: Array, c: Array, delta: Array, g: Array, rho: float) -> Array:
        """G^+ g of some units of a layer with the inputs h_i = k_i + c_i h_0, k (N, m+1), c (m,), delta (N, C, u).

        g (u, m+1), the bias last, is the gradient with k for h. Centred inputs k keep a_ii - beta_i a_0i, which at
        rho = 0 is the same for k and h, from cancelling.
        """
        xp = array_module(g)
        r2 = (delta * delta).sum(1).T / len(k)  # (u, N)
        k_ii, k_0i = r2 @ k[:, :-1] ** 2, r2 @ (k[:, :-1] * k[:, -1:])  # (u, m)
        F_00, g_0 = r2 @ k[:, -1:] ** 2, g[:, -1:]  # (u, 1)
        a_00, a_0i = F_00 + rho, k_0i + c * F_00
        alive = a_00 > 0
        inverse = 1 / xp.where(alive, a_00, 1)
        beta, mixed = a_0i * inverse, c * (k_0i + a_0i)  # a_ii = k_ii + mixed + rho
        schur = k_ii + rho - k_0i * k_0i * inverse + rho * inverse * mixed
        free = schur > cutoff(len(k), g.dtype, self.rcond) * (k_ii + abs(mixed) + rho)
        d = free * (g[:, :-1] + (rho * c - k_0i) * inverse * g_0) / xp.where(free, schur, 1)
        tied = xp.where(free, 0, beta)
        norm = a_00 + (tied * a_0i).sum(1, keepdims=True)
        d_0 = alive * (g_0 - (a_0i * d).sum(1, keepdims=True)) / xp.where(alive, norm, 1)
        return xp.concatenate([d + tied * d_0, d_0], axis=1)


def _inverse_diagonal(h: Array, delta: Array, rho: float, q: float) -> Array:
    """(F_{l,ij} + rho)^{-1/q} (u, M_{l-1}+1) of some units, delta (N, C, u), and 0 for dead entries."""
    F = ((delta * delta).sum(1) / len(h)).T @ (h * h)
    F += rho
    F = array_module(F).where(float(np.finfo(F.dtype).tiny) <= F, F, math.inf)
    F **= -1 / q
    return F
