"""What every approximation G of the Fisher matrix offers, and gradient descent as the plainest one.

    F            = J^T J / N                                     (P, P)        K&O (8)
    matrix       = G, an approximation of F, + rho I             (P, P)        the definition
    direction    = G^{-1/q} J^T e / N                            like W        (7), (9)
    coefficient  = Theta_bar(x', x) = J(x') G^{-1/q} J(x)^T / N  (N'C, NC)     (11)
    alpha        : Theta_bar(x, x) = alpha I                     a float       (12)

`refngd.definitions` has all of them as they stand here, from explicit matrices. The families of this folder do the same
without forming G or J: a block of G is R^T R / N + rho I with a root R, and its step

    (R^T R / N + rho I)^{-1/q} R^T e / N  =  R^T lambda / N,      lambda = (R R^T / N + rho I)^{-1/q} e

takes a matrix no larger than the kernel R R^T / N (NC, NC).
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection

import numpy as np

from .. import definitions
from ..activations import erf, linear, relu, tanh
from ..arrays import Array, array_module, require_memory, to_device
from ..checks import (
    checked_array,
    checked_damping,
    checked_flag,
    checked_instance,
    checked_list,
    checked_rcond,
    checked_whole,
)
from ..jacobian import jacobian, pull, pull_layer, push
from ..kernels import Kernels, ntk
from ..network import Network, Signals, Trained, checked_pair, checked_signals
from ..spectral import cutoff, finite


class Fisher(ABC):
    """An approximation of the Fisher matrix.

    All methods raise ValueError, naming the argument, for bad input, and FloatingPointError where a product of finite
    signals leaves the range of their dtype. Where the pseudo-inverse of a step counts directions as zero in which the
    residual has a share, a RuntimeWarning says how much.

    rcond: the singular values of the Jacobian of a block that are at most rcond times the largest count as zero; None
        for `spectral.cutoff`, 4 n eps.
    refine: whether `direction` is to be as accurate as from the Jacobian itself, with errors of about u cond(J), or,
        faster where cond(J) is large, as accurate as its Gram matrices, with errors of u cond(J)^2. The `coefficient`
        of coupled layers is refined with their kernels.
    """

    isotropic_for_any_loss = False  # whether alpha is that of the whitened signals of any loss with a regular Hessian

    def __init__(self, *, rcond: float | None = None, refine: bool = True) -> None:
        self.rcond, self.refine = checked_rcond(rcond), checked_flag("refine", refine)

    def matrix(self, s: Signals, rho: float = 0.0) -> Array:
        """Dense G (P, P), by its definition, on the host. Raises MemoryError if it cannot fit.

        s: the signals of the training samples.
        rho: the damping, absolute; of each factor in K-FAC.
        """
        checked_signals("s", s)
        rho, _ = checked_damping(rho, 1)
        self.require(s.trained)
        xp, what = array_module(s.f), f"G ({s.P} x {s.P}) and its work space"
        require_memory(xp, 4 * s.P**2 * s.f.dtype.itemsize, what, "call direction(s, e)")
        f, h, delta = (to_device(a, "cpu") for a in (s.f, s.h, s.delta))
        literal = definitions.Signals(f, h, delta, *s.trained.literal)
        with np.errstate(all="ignore"):  # reported below
            G = definitions.matrix(literal, self._definition(s.trained), rho)
        return xp.asarray(finite(G))

    def direction(self, s: Signals, e: Array, rho: float = 0.0, q: float = 1) -> list[Array]:
        """G^{-1/q} J^T e / N as a list like W, in factored form.

        s: the signals of the training samples.
        e: the residual (N, C), f - y for the MSE loss.
        rho: the damping, absolute; 0 means the Moore-Penrose pseudo-inverse.
        q: the power of Huh in [1, inf]: 1 natural gradient, 2 its square root, inf gradient descent.
        """
        checked_signals("s", s)
        rho, q = checked_damping(rho, q)
        self.require(s.trained, q)
        checked_array("e", e, s.f.shape, s.f)
        with np.errstate(all="ignore"):  # reported by `finite`
            dW = pull(s, e / len(e)) if math.isinf(q) else self._direction(s, e, rho, q)
            return finite(dW)

    def coefficient(self, test: Signals, train: Signals, rho: float = 0.0, q: float = 1) -> Array:
        """Theta_bar(x', x) (N'C, NC), K&O (11).

        test: the signals of x'.
        train: the signals of the training samples x.
        rho, q: as in `direction`.
        """
        checked_pair(test, train)
        rho, q = checked_damping(rho, q)
        self.require(train.trained, q)
        with np.errstate(all="ignore"):  # reported by `finite`
            return finite(ntk(test, train) if math.isinf(q) else self._coefficient(test, train, rho, q))

    def kernel_coefficient(self, cross: Kernels, train: Kernels, rho: float = 0.0, q: float = 1) -> Array:
        """Theta_bar(x', x) (N'C, NC) from the kernels of both pairs, or (N', N) from those of infinite width.

        Raises ValueError for the unit- and entry-wise approximations, whose Theta_bar is not made of A_l and B_l alone.

        cross: the kernels between x' and x.
        train: the kernels of the training samples.
        rho, q: as in `direction`.
        """
        rho, q = checked_damping(rho, q)
        _check_kernels(cross, train)
        self.require(train.trained, q)
        with np.errstate(all="ignore"):  # reported by `finite`
            return finite(sum(cross.Theta) if math.isinf(q) else self._kernel_coefficient(cross, train, rho, q))

    def alpha(self, net: Network, n: int, frozen: int | Collection = 0, x: Array | None = None) -> float | None:
        """The isotropy constant (12) for n training samples at rho = 0, q = 1, or None where there is none.

        It presumes generic weights and inputs, on which it depends with linear and smooth activations only by the
        widths. Piecewise linear ones need samples that are alive in every layer (for K-FAC, with activation patterns
        of their own), which is next to certain in wide layers alone; and no two inputs x and -x of each other.

        n: the number of training samples.
        frozen: what is kept fixed; it is then the constant for `Signals.above(frozen)`.
        x: the n training inputs (n, M_0), if it is not to be for generic ones of unit norm, on which `Unitwise` and,
            with fewer inputs of the first layer than samples, `KFAC` depend.
        """
        checked_instance("net", net, Network, "a Network")
        n, trained = checked_whole("n", n, 1), net.trained(frozen)
        self.require(trained)
        if x is not None:
            checked_array("x", x, (n, net.widths[0]))
            if _has_twins(net, x):
                return None
        return self._alpha(net, n, trained, x)

    def require(self, trained: Trained, q: float = 1) -> None:  # noqa: B027
        """Raise ValueError if G, or its power -1/q, is not defined for these layers."""

    def __repr__(self) -> str:
        options = ", ".join(f"{key.strip('_')}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({options})"

    def _definition(self, trained: Trained) -> definitions.Fisher:
        """What `refngd.definitions` calls this approximation of these layers."""
        return definitions.Fisher(type(self).__name__)

    @abstractmethod
    def _direction(self, s: Signals, e: Array, rho: float, q: float) -> list[Array]: ...

    def _coefficient(self, test: Signals, train: Signals, rho: float, q: float) -> Array:
        """Column k is push(test, direction(train, e_k)): the definition of Theta_bar for anything."""
        xp = array_module(train.f)
        basis = xp.eye(train.f.size, dtype=train.f.dtype).reshape(-1, *train.f.shape)  # (NC, N, C)
        return xp.stack([push(test, self._direction(train, e, rho, q)).ravel() for e in basis], axis=1)

    def _kernel_coefficient(self, cross: Kernels, train: Kernels, rho: float, q: float) -> Array:
        raise ValueError(f"{self}: Theta_bar is not made of the kernels alone; call coefficient with signals")

    def _alpha(self, net: Network, n: int, trained: Trained, x: Array | None) -> float | None:
        return None


class Identity(Fisher):
    """G = (1 + rho) I: gradient descent, K&O (4), whose Theta_bar is the NTK (5)."""

    def __init__(self) -> None:
        super().__init__()

    def _direction(self, s, e, rho, q):
        v = e / (len(e) * (1 + rho) ** (1 / q))
        return [pull_layer(h, delta, v) for h, delta in zip(s.h, s.delta, strict=True)]

    def _coefficient(self, test, train, rho, q):
        return ntk(test, train) / (1 + rho) ** (1 / q)

    def _kernel_coefficient(self, cross, train, rho, q):
        return sum(cross.Theta) / (1 + rho) ** (1 / q)


def fisher_information(s: Signals) -> Array:
    """F = J^T J / N (P, P), K&O (8). Raises MemoryError if it cannot fit."""
    checked_signals("s", s)
    what, instead = f"F ({s.P} x {s.P})", "call Exact().direction(s, e)"
    require_memory(array_module(s.f), 2 * s.P**2 * s.f.dtype.itemsize, what, instead)
    J = jacobian(s)
    with np.errstate(all="ignore"):  # reported by `finite`
        F = J.T @ J
    F /= len(s.f)
    return finite(F)


def has_full_rank(net: Network, trained: Trained, n: int) -> bool:
    """Whether J of these layers has n C independent rows for generic weights and n generic inputs.

    A layer does by itself if its n inputs h are independent, and every output reaches its units. Else the delta of a
    smooth network differ from sample to sample, and the ranks of the layers, M times that of h, add up; those of a
    piecewise linear one differ in which units live, so that only a share gamma of M counts, and a wide layer is needed.
    """
    C, L, rank, on_rays, most = net.widths[-1], len(net.shapes), 0.0, 0.0, 0.0
    for l, b in zip(trained.layers, trained.bias, strict=True):
        M, rays = net.widths[l], _rays(net, l)
        if min(net.widths[l:]) < C:
            continue
        r = min(n, net.widths[l - 1] + bool(b), rays)
        if net.activation == linear:
            r = min(r, min(net.widths[:l]) + (net.sigma_b > 0))
        if r == n:
            return True
        own = C * r if l == L else net.activation.gamma(1.0) * M * r
        if rays == math.inf:
            rank += own
        else:  # J(t x) = t J(x), t > 0, of all layers whose inputs lie on rays: C rows a ray
            alive = round(rays * (1 - 0.5 ** min(net.widths[l:-1], default=math.inf)))  # through the narrowest layer
            on_rays, most = on_rays + own, max(most, C * alive)
    return net.activation != linear and rank + min(on_rays, most) >= n * C


def has_full_ranks(net: Network, trained: Trained, n: int) -> bool:
    """Whether every layer does by itself, with n independent inputs h."""
    inputs = (net.widths[l - 1] + bool(b) for l, b in zip(trained.layers, trained.bias, strict=True))
    return all(k >= n and has_full_rank(net, trained.take([i]), n) for i, k in enumerate(inputs))


def _has_twins(net: Network, x: Array) -> bool:
    """Whether two samples have signals that are equal but for their sign or size, or one sample has none.

    Without bias x and -x have such signals under an odd phi, x and t x, t > 0, where phi(t u) = t phi(u), and x = 0
    has none.
    """
    rows = to_device(x, "cpu")
    if not net.sigma_b and net.activation in (linear, relu):
        size = abs(rows).max(1, keepdims=True)
        rows = (rows / np.where(size > 0, size, 1)).round(10)  # t x is rounded
    if not net.sigma_b and net.activation in (linear, tanh, erf):
        rows = np.concatenate([rows, -rows])
    if not net.sigma_b and net.activation == relu:
        rows = np.concatenate([rows, 0 * rows[:1]])  # a sample of zeros is dead
    return len(np.unique(rows, axis=0)) < len(rows)


def _rays(net: Network, l: int) -> float:
    """How many rays the inputs of layer l lie on: ReLU without bias takes rays to rays, 1 unit to 1 or 2."""
    if net.activation != relu or net.sigma_b > 0:
        return math.inf
    return 1 if 1 in net.widths[1:l] else 2 if net.widths[0] == 1 else math.inf


def warn_of_loss(lost: float, e: Array) -> None:
    """Warn if a cut-off removes directions that hold the share `lost` of the residual e (N, C)."""
    if lost > cutoff(e.size, e.dtype):
        warnings.warn(
            f"singular values of the Jacobian count as zero in directions that hold {lost:.1g} of the residual: the "
            "pseudo-inverse leaves that share as it is. Duplicate samples or too few inputs do that; damping, or "
            "another rcond, if they should count",
            RuntimeWarning,
            stacklevel=4,
        )


def _check_kernels(cross: Kernels, train: Kernels) -> None:
    """Raise ValueError unless A (N', N) and B (N'C, NC) of all layers of both fit; in `train` N' is N."""
    for name, kernels in (("train", train), ("cross", cross)):
        checked_instance(name, kernels, Kernels, "the Kernels of empirical_kernels or analytic_kernels")
    N = len(checked_array("train.A", train.A[0], ("N", "N"))) if train.A else 1
    C = len(checked_array("train.B", train.B[0], ("NC", "NC"))) // N if train.B else 1
    for name, kernels in (("train", train), ("cross", cross)):
        N1, L = len(kernels.A[0]) if kernels.A else 1, len(train.A) or 1
        checked_list(f"{name}.A", kernels.A, [(N1, N)] * L, train.A[0] if train.A else None)
        checked_list(f"{name}.B", kernels.B, [(N1 * C, N * C)] * L, train.A[0])
    if cross.trained != train.trained:
        raise ValueError(f"cross has {cross.trained}; expected {train.trained} as train")
