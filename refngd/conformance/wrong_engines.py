"""refngd with one bug each, for `suspects`: networks with another scale, and Fisher matrices with another G^{-1/q}."""

from dataclasses import replace

import numpy as np

import refngd as rn

from ..fisher.base import Fisher
from ..network import Network
from ..spectral import damped, eigen_power
from .adapters.refngd_numpy import Engine, activation_of

# --------------------------------------------------------------------------------------- networks with another scale


class PlusOne(Network):
    def _scale(self, M):
        return super()._scale(M) if self.parameterization == "standard" else self.sigma_w / (M + 1) ** 0.5


class Variance(Network):
    def _scale(self, M):
        return super()._scale(M) ** 2


class NoWidth(Network):
    def _scale(self, M):
        return self.sigma_w


class _Backward(Network):
    """Right but for the scale of the backward pass, which is that of `other`."""

    other = Network

    def _backward(self, W, u):
        fields = self.widths, self.activation, self.sigma_w, self.sigma_b, self.parameterization
        return Network._backward(self.other(*fields), W, u)


class _Unscaled(Network):
    def _scale(self, M):
        return 1.0


class BackwardUnscaled(_Backward):
    other = _Unscaled


class BackwardSquared(_Backward):
    other = Variance


# ------------------------------------------------------------------------------------------ another power of the matrix


class Wrong(Fisher):
    """An approximation `base` in which one thing is done otherwise: `inverse` is its (P, P) matrix G^{-1/q}."""

    def __init__(self, base: Fisher) -> None:
        self.base = base

    def inverse(self, s, e, rho, q):
        return _power(self.base.matrix(s, rho), q)

    def _matrix(self, s, rho):
        raise NotImplementedError

    def _direction(self, s, e, rho, q):
        step, dW = self.inverse(s, e, rho, q) @ rn.flatten(rn.pull(s, e / len(e))), []
        for M, k in s.shapes:
            dW.append(step[: M * k].reshape(M, k))
            step = step[M * k :]
        return dW


def _power(G: np.ndarray, q: float) -> np.ndarray:
    V, power = eigen_power(G, 0.0, q, None)
    return (V * power) @ V.T


class MinusQ(Wrong):
    def inverse(self, s, e, rho, q):
        if q == 1:
            raise NotImplementedError("the same")
        return _power(self.base.matrix(s, rho), 1 / q)


class DampedPower(Wrong):
    """G^{-1/q} with rho added to the power: (G^{1/q} + rho I)^{-1}."""

    def inverse(self, s, e, rho, q):
        if not rho or q == 1:
            raise NotImplementedError("the same")
        w, V = np.linalg.eigh(self.base.matrix(s, 0.0))
        return (V / (w.clip(0) ** (1 / q) + rho)) @ V.T


class DampedProduct(Wrong):
    """K-FAC with B (x) A + rho I."""

    def inverse(self, s, e, rho, q):
        return _power(damped(self.base.matrix(s, 0.0), rho), q)


class Empirical(Wrong):
    """The matrix of the gradients of the samples' losses."""

    def inverse(self, s, e, rho, q):
        own = replace(s, f=s.f[:, :1], delta=[e[:, None] @ d for d in s.delta])
        return _power(self.base.matrix(own, rho), q)


class _Scaled(Wrong):
    """With factors A and B of the matrix N, or 1/C, times too large."""

    def factors(self, N, C):
        raise NotImplementedError

    def inverse(self, s, e, rho, q):
        a, b = self.factors(*s.f.shape)
        return _power(self._scaled(s, a, b, rho), q)

    def _scaled(self, s, a, b, rho):
        own = replace(s, h=[a**0.5 * h for h in s.h], delta=[b**0.5 * d for d in s.delta], bias=a**0.5 * s.bias)
        return self.base.matrix(own, rho)


class ALacksN(_Scaled):
    def factors(self, N, C):
        return N, 1


class BLacksN(_Scaled):
    def factors(self, N, C):
        return 1, N


class BothLackN(_Scaled):
    def factors(self, N, C):
        return N, N


class BMeanOverC(_Scaled):
    def factors(self, N, C):
        return 1, 1 / C


# ---------------------------------------------------------------------------------------------------------- the engines


def _with_network(network: type) -> Engine:
    engine = Engine()
    engine._network = network
    return engine


class _WithFisher(Engine):
    def __init__(self, wrong: type, only: str | None = None) -> None:
        self.wrong, self.only = wrong, only

    def _fisher(self, attrs, inputs):
        if self.only not in (None, attrs["fisher"]):
            raise NotImplementedError("this concerns another approximation")
        return self.wrong(super()._fisher(attrs, inputs))


def _minus_q(op, inputs, attrs):
    """`inverse_power` alone."""
    return {"power": _power(damped(inputs["K"], attrs["rho"]), 1 / attrs["q"])}


ENGINES = [
    ("sqrt(M + 1) in place of sqrt(M) in the scale of the inputs", _with_network(PlusOne)),
    ("sigma_w^2/M in place of sigma_w/sqrt(M) in the scale of the inputs", _with_network(Variance)),
    ("1/sqrt(M) is missing in the scale of the inputs", _with_network(NoWidth)),
    ("sigma_w/sqrt(M) is missing in the backward pass", _with_network(BackwardUnscaled)),
    ("sigma_w/sqrt(M) is applied twice in the backward pass", _with_network(BackwardSquared)),
    ("rho is added to the Kronecker product, not to its factors", _WithFisher(DampedProduct, "KFAC")),
    ("1/N is missing in A*", _WithFisher(ALacksN, "KFAC")),
    ("1/N is missing in B*", _WithFisher(BLacksN, "KFAC")),
    ("1/N is missing in both A* and B*", _WithFisher(BothLackN, "KFAC")),
    ("B* is a mean over the C outputs, not a sum", _WithFisher(BMeanOverC, "KFAC")),
    ("1/N is missing in G", _WithFisher(ALacksN)),
    ("the power is -q, not -1/q", _WithFisher(MinusQ)),
    ("the power is -q, not -1/q", _minus_q),
    ("rho is added to the power of G, not to G", _WithFisher(DampedPower)),
    ("the empirical Fisher matrix, of gradients, not of J", _WithFisher(Empirical)),
]


def activated(case) -> dict:
    """f with the activation that the last layer does not have."""
    return {**case.outputs, "f": activation_of(case.attrs).phi(case.outputs["f"])}
