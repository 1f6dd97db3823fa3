"""What every approximation G of the Fisher matrix offers, and gradient descent as the plainest one.

    F            = J^T J / N                                     (P, P)        K&O (8)
    matrix       = G, an approximation of F, + rho I             (P, P)        the definition
    direction    = G^{-1/q} J^T e / N                            like W        (7), (9)
    coefficient  = Theta_bar(x', x) = J(x') G^{-1/q} J(x)^T / N  (N'C, NC)     (11)
    alpha        : Theta_bar(x, x) = alpha I                     a float       (12)

A parameter has three indices (l, i, j) = (layer, unit, input). An approximation is the choice of which of them label a
block b, and `matrix` masks F accordingly. Since f(J^T J) J^T = J^T f(J J^T), the rest needs only the kernel of a block:

    Theta_b      = sum over (l,i,j) in b of (delta_i delta_i^T) * (h_j h_j^T) / N              (NC, NC)
    direction_b  = J_b^T (Theta_b + rho I)^{-1/q} e / N
"""

import math
from abc import ABC, abstractmethod

from ..activations import linear
from ..arrays import Array, array_module, require_memory
from ..jacobian import jacobian, pull, push
from ..kernels import ntk
from ..network import Network, Signals


class Fisher(ABC):
    """An approximation of the Fisher matrix. rho >= 0 is an absolute damping, rho = 0 the Moore-Penrose pseudo-inverse;
    q in [1, inf] the power of Huh: 1 natural gradient, 2 its square root, inf gradient descent.

    All methods raise ValueError, naming the argument, for bad input.
    """

    def matrix(self, s: Signals, rho: float = 0.0) -> Array:
        """Dense G (P, P): the definition. Raises MemoryError if it cannot fit; `direction` needs no such matrix."""
        _check(s, "s")
        rho, _ = checked_damping(rho, 1)
        nbytes = 3 * s.P**2 * s.f.dtype.itemsize
        require_memory(array_module(s.f), nbytes, f"G ({s.P} x {s.P}) and its work space", "call direction(s, e)")
        return self._matrix(s, rho)

    def direction(self, s: Signals, e: Array, rho: float = 0.0, q: float = 1) -> list[Array]:
        """G^{-1/q} J^T e / N as a list like W, in factored form; e (N, C) is f - y for the MSE loss."""
        _check(s, "s")
        rho, q = checked_damping(rho, q)
        if getattr(e, "shape", None) != s.f.shape or array_module(e) is not array_module(s.f) or e.dtype != s.f.dtype:
            raise ValueError(f"e is {_describe(e)}; expected {_describe(s.f)} as f")
        if not array_module(e).isfinite(e).all():
            raise ValueError("e has non-finite entries; expected finite numbers")
        return pull(s, e / len(e)) if math.isinf(q) else self._direction(s, e, rho, q)

    def coefficient(self, test: Signals, train: Signals, rho: float = 0.0, q: float = 1) -> Array:
        """Theta_bar(x', x) (N'C, NC), K&O (11)."""
        _check(test, "test")
        _check(train, "train")
        rho, q = checked_damping(rho, q)
        kinds = [(array_module(s.f).__name__, str(s.f.dtype), s.shapes) for s in (test, train)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"test belongs to weights {kinds[0]}; expected {kinds[1]} as train")
        return ntk(test, train) if math.isinf(q) else self._coefficient(test, train, rho, q)

    def alpha(self, net: Network, n: int) -> float | None:
        """The isotropy constant (12) for n training samples at rho = 0 and q = 1; None where there is none,
        which includes widths too narrow for n."""
        if int(n) != n or n < 1:
            raise ValueError(f"n is {n}; expected a number of samples >= 1")
        if net.activation == linear and net.shapes[0][1] < n:
            return None  # a linear map of dependent inputs
        return self._alpha(net, int(n))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def _matrix(self, s: Signals, rho: float) -> Array: ...

    @abstractmethod
    def _direction(self, s: Signals, e: Array, rho: float, q: float) -> list[Array]: ...

    def _coefficient(self, test: Signals, train: Signals, rho: float, q: float) -> Array:
        """Column k is push(test, direction(train, e_k)): the definition of Theta_bar for anything."""
        xp = array_module(train.f)
        basis = xp.eye(train.f.size, dtype=train.f.dtype).reshape(-1, *train.f.shape)  # (NC, N, C)
        return xp.stack([push(test, self._direction(train, e, rho, q)).ravel() for e in basis], axis=1)

    def _alpha(self, net: Network, n: int) -> float | None:
        return None


class GramFisher(Fisher):
    """An approximation that inverts Gram matrices.

    rcond: eigenvalues below `rcond` times the largest count as zero; None for `spectral.cutoff`'s default.
    refine: one step of iterative refinement through the factors of the Gram matrix in `direction`, for q = 1: errors of
    order cond(J) instead of cond(J)^2. `coefficient` works from the Gram matrices alone.
    """

    def __init__(self, *, rcond: float | None = None, refine: bool = True) -> None:
        self.rcond, self.refine = checked_rcond(rcond), refine


class Identity(Fisher):
    """G = I: gradient descent, K&O (4), whose Theta_bar is the NTK (5)."""

    def _matrix(self, s, rho):
        return (1 + rho) * array_module(s.f).eye(s.P, dtype=s.f.dtype)

    def _direction(self, s, e, rho, q):
        return pull(s, e / (len(e) * (1 + rho) ** (1 / q)))

    def _coefficient(self, test, train, rho, q):
        return ntk(test, train) / (1 + rho) ** (1 / q)


def fisher_information(s: Signals) -> Array:
    """F = J^T J / N (P, P), K&O (8)."""
    J = jacobian(s)
    return J.T @ J / len(s.f)


def checked_rcond(rcond: float | None) -> float | None:
    if rcond is not None and not 0 <= rcond < 1:
        raise ValueError(f"rcond is {rcond}; expected None or a number in [0, 1)")
    return rcond


def checked_damping(rho: float, q: float) -> tuple[float, float]:
    """rho and q as Python floats, since NumPy's would promote float32. Raises ValueError."""
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho is {rho}; expected a finite number >= 0")
    if not q >= 1:
        raise ValueError(f"q is {q}; expected a number in [1, inf]")
    return float(rho), float(q)


def _check(s: Signals, name: str) -> None:
    if not isinstance(s, Signals):
        raise ValueError(f"{name} is a {type(s).__name__}; expected the Signals of Network.signals(W, x)")


def _describe(x: Array) -> str:
    return f"{array_module(x).__name__} {getattr(x, 'dtype', type(x).__name__)} of shape {getattr(x, 'shape', None)}"
