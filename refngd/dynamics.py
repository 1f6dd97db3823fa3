"""Training in function space: what Theta_bar at initialisation says of every later step, on any sample.

    R_t      = Theta_bar^{-1} (I - (I - eta Theta_bar)^t) (y - f_0) = eta sum_{s<t} (y - f_s)     (N, C)
    f_t(x')  = f_0(x') + Theta_bar(x', x) R_t                          K&O (10), and (14) for t -> inf
    theta_t  = theta_0 + direction(R_t)                                (22)

Theta_bar is the `coefficient` of an approximation, which makes this (5) for gradient descent, (13) for exact natural
gradient, and (16), (18), (21). Where Theta_bar = alpha I it reads f_t = y + (1 - alpha eta)^t (f_0 - y).
That is the squared error; `CrossEntropyFlow` is the cross-entropy.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from .arrays import Array, array_module, require_memory, to_device
from .checks import (
    checked_array,
    checked_list,
    checked_number,
    checked_positive,
    checked_rng,
    checked_symmetric,
    checked_whole,
)
from .jacobian import push
from .losses import cross_entropy, log_odds, softmax, softplus
from .network import Signals, checked_signals
from .spectral import cutoff, eigen, eigenvalues, finite, norm


@dataclass(frozen=True)
class Isotropy:
    """How far Theta_bar is from alpha I.

    eigenvalues: (NC,), ascending, on the host.
    alpha: their mean.
    deviation: ||Theta_bar - alpha I||_2 / |alpha|.
    condition: the largest eigenvalue over the smallest, inf if that is not positive.
    """

    eigenvalues: np.ndarray
    alpha: float
    deviation: float
    condition: float


def isotropy(Theta_bar: Array) -> Isotropy:
    """The report for Theta_bar (NC, NC) on the training set, K&O (12). Raises ValueError if it is not symmetric."""
    w = to_device(eigenvalues(checked_symmetric("Theta_bar", Theta_bar)), "cpu")
    alpha, low, high = float(w.mean()), float(w[0]), float(w[-1])
    gap = max(high - alpha, alpha - low)
    return Isotropy(w, alpha, gap / abs(alpha) if alpha else math.inf, high / low if low > 0 else math.inf)


def optimal_rate(Theta_bar: Array) -> float:
    """1 / lambda_max of a symmetric Theta_bar: K&O's rate for gradient descent, and 1 / alpha where it is alpha I (17).

    Raises ValueError if no eigenvalue is positive; warns if one is negative, since no rate converges along it.
    """
    w = isotropy(Theta_bar).eigenvalues
    smallest, largest = float(w[0]), float(w[-1])
    if smallest < -cutoff(len(w), w.dtype) * abs(w).max():
        warnings.warn(
            f"Theta_bar has a negative eigenvalue, {smallest:.3g}: training diverges along it at any learning rate",
            RuntimeWarning,
            stacklevel=2,
        )
    if not largest > 0:
        raise ValueError(
            f"Theta_bar has no positive eigenvalue (the largest is {largest:.3g}): no learning rate converges"
        )
    return 1 / largest


class Dynamics:
    """The linearised training of f_0 towards y.

    Theta_bar: (NC, NC), symmetric; or (N, N), as at infinite width, which acts on every output alike.
    f0: (N, C), the outputs at the start.
    y: (N, C), the targets.
    eta: the learning rate.

    Raises ValueError for shapes that do not match, a Theta_bar that is not symmetric, and eta <= 0.
    """

    def __init__(self, Theta_bar: Array, f0: Array, y: Array, eta: float) -> None:
        self.w, self.V = eigen(checked_symmetric("Theta_bar", Theta_bar))
        n, f0 = len(Theta_bar), checked_array("f0", f0, ("N", "C"), Theta_bar)
        checked_array("y", y, f0.shape, f0)
        if n not in (f0.size, len(f0)):
            raise ValueError(f"Theta_bar is {Theta_bar.shape} and f0 {f0.shape}; expected (NC, NC) or (N, N), (N, C)")
        self.f0, self.eta = f0, checked_positive("eta", eta)
        self.error = self.V.T @ (y - f0).reshape(n, -1)

    def accumulated(self, t: float) -> Array:
        """R_t (N, C) after t = 0, 1, 2, .. steps, or its limit at t = inf.

        Raises FloatingPointError if R_t overflows, or has no limit. Warns where the limit leaves a share of y - f_0,
        because Theta_bar counts as singular.
        """
        return (self.V @ (self._gain(t)[:, None] * self.error)).reshape(self.f0.shape)

    def _gain(self, t: float) -> Array:
        """(1 - (1 - eta w)^t) / w of the eigenvalues w (n,)."""
        t = checked_number("t", t, "0, 1, 2, .. or inf", lambda v: v >= 0 and (math.isinf(v) or v.is_integer()))
        xp = array_module(self.w)
        live = abs(self.w) > cutoff(len(self.w), self.w.dtype) * abs(self.w).max()
        if math.isinf(t):
            return self._limit(live)
        w, x = xp.where(live, self.w, 1), self.eta * self.w
        small = x < 0.5  # there 1 - (1 - x)^t would cancel
        with np.errstate(over="ignore"):  # reported below
            decayed = xp.where(small, -xp.expm1(t * xp.log1p(-xp.where(small, x, 0))), 1 - (1 - x) ** t)
            gain = xp.where(live, decayed / w, self.eta * t)
        if not xp.isfinite(gain).all():
            raise FloatingPointError(f"training diverges: R_t overflows at t = {t:g}, eta = {self.eta:.3g}")
        return gain

    def _limit(self, live: Array) -> Array:
        """1 / w of the eigenvalues w that are `live` (n,), and 0 for the others."""
        xp, x = array_module(self.w), self.eta * self.w
        if (live & ((x <= 0) | (x >= 2))).any():
            raise FloatingPointError(f"no limit: eta = {self.eta:.3g}, expected 0 < eta lambda < 2 for all eigenvalues")
        left = norm(xp.where(live[:, None], 0, self.error)) / (norm(self.error) or 1.0)
        if left > cutoff(len(x), x.dtype):
            warnings.warn(
                f"eigenvalues of Theta_bar count as zero in directions that hold {left:.1g} of y - f_0: the limit "
                "leaves that share as it is",
                RuntimeWarning,
                stacklevel=5,
            )
        return live / xp.where(live, self.w, 1)

    def predict(self, cross: Array, f0: Array, t: float) -> Array:
        """f_t(x') (N', C), K&O (10).

        cross: Theta_bar(x', x) (N'C, NC), or (N', N) as at infinite width.
        f0: (N', C), f_0(x').
        t: that of `accumulated`.

        Raises ValueError for shapes that do not match, FloatingPointError if f_t overflows.
        """
        n, f0 = len(self.w), checked_array("f0", f0, ("N'", self.f0.shape[1]), self.f0)
        checked_array("cross", cross, (len(f0) * n // len(self.f0), n), f0)
        return _moved(f0, cross, self.accumulated(t))

    def covariance(self, cross: Array, K: Array, t: float) -> Array:
        """The covariance (N', N') of f_t(x'), the same for every output, over random f_0 ~ N(0, K): THEORY 7.

        At infinite width f_0 is Gaussian over the initialisations and Theta_bar the same for all of them, so that f_t
        is Gaussian too. Its mean is `predict(cross, 0, t)` of the `Dynamics` with f0 = 0.

        cross: Theta_bar(x', x) (N', N), where Theta_bar is (N, N).
        K: (N'+N, N'+N), the covariance of f_0, of the test samples first: `A[-1]` of the `analytic_kernels` of all.
        t: as in `accumulated`.

        Raises ValueError for shapes that do not match or a K that has a negative eigenvalue beyond rounding.
        """
        n = len(self.w)
        if n != len(self.f0):
            raise ValueError(
                f"Theta_bar is {(n, n)} for N = {len(self.f0)} samples; expected (N, N), of infinite width"
            )
        checked_array("cross", cross, ("N'", n), self.f0)
        size = len(cross) + n
        V, s = _root(checked_array("K", checked_symmetric("K", K), (size, size), self.f0))
        S = V * s  # K = S S^T
        with np.errstate(all="ignore"):  # reported by `finite`
            left = S[: len(cross)] - cross @ (self.V * self._gain(t)) @ (self.V.T @ S[len(cross) :])
            return finite(left @ left.T)


class CrossEntropyFlow:
    """The linearised training of f_0 (N, C) by the cross-entropy as its rho -> 0, in continuous time; THEORY 7.

    Where Theta_bar = alpha I for every loss, so for `Exact`, `BlockDiagonal` and all others that a Sigma couples, every
    probability goes to its target at the same rate. The logit of the target rises above the others, which keep their
    differences, by a:

        p_t     = y + (p_0 - y) e^{-alpha eta t}
        a_n     = alpha eta t + log(1 + (1 - e^{-alpha eta t}) (1 - p_{0,ny}) / p_{0,ny})
        f_t(x') = f_0(x') + Theta_bar(x', x) R_t,    R_t = a (y - 1 / C) / alpha

    A step of `train` or `linearized_training` is one of Euler's with the time step 1, close to this for alpha eta << 1
    and p_0 of the targets not much smaller.

    Raises ValueError for shapes that do not match, y that are not one-hot, and eta or alpha that are not > 0.

    f0: (N, C), the outputs of the training samples.
    y: (N, C), one-hot.
    eta: the learning rate.
    alpha: the isotropy constant, `Fisher.alpha`.
    """

    def __init__(self, f0: Array, y: Array, eta: float, alpha: float = 1.0) -> None:
        checked_array("y", y, checked_array("f0", f0, ("N", "C")).shape, f0)
        cross_entropy.check(y)
        self.f0, self.y, self.eta = f0, y, checked_positive("eta", eta)
        self.alpha = checked_positive("alpha", alpha)

    def probabilities(self, t: float) -> Array:
        """p_t (N, C) of the training samples at the time t >= 0."""
        x, p = self._time(t), softmax(self.f0)
        others = p * (1 - self.y)
        grown = p - math.expm1(-x) * others.sum(1, keepdims=True)  # p + (1 - e^{-x}) (1 - p), for the target
        return math.exp(-x) * others + self.y * grown

    def accumulated(self, t: float) -> Array:
        """R_t (N, C) at the time t >= 0."""
        x = self._time(t)
        v = log_odds(self.f0, self.y) + (math.log(-math.expm1(-x)) if x else -math.inf)
        return (x + softplus(v)) * (self.y - 1 / self.y.shape[1]) / self.alpha

    def predict(self, cross: Array, f0: Array, t: float) -> Array:
        """f_t(x') (N', C), up to one number for each sample.

        Raises ValueError for shapes that do not match, FloatingPointError if f_t overflows.

        cross: (N'C, NC), `coefficient(test, losses.centred(train))`; or (N', N), that of infinite width.
        f0: (N', C), f_0(x').
        t: the time, >= 0.
        """
        n = len(self.f0) if getattr(cross, "shape", ())[1:] == self.f0.shape[:1] else self.f0.size
        checked_array("f0", f0, ("N'", self.f0.shape[1]), self.f0)
        checked_array("cross", cross, (len(f0) * n // len(self.f0), n), f0)
        return _moved(f0, cross, self.accumulated(t))

    def _time(self, t: float) -> float:
        return self.alpha * self.eta * checked_number("t", t, "a finite number >= 0", lambda v: 0 <= v < math.inf)


def _moved(f0: Array, cross: Array, R: Array) -> Array:
    """f_0(x') + Theta_bar(x', x) R (N', C)."""
    with np.errstate(all="ignore"):  # reported by `finite`
        return finite(f0 + (cross @ R.reshape(cross.shape[1], -1)).reshape(f0.shape))


def linearized(s: Signals, W0: list[Array], W: list[Array]) -> Array:
    """f_0(x') + J_0(x') (theta - theta_0) (N', C), (S.23).

    s: the signals of x' at W0.
    W0, W: weights.
    """
    for name, weights in (("W0", W0), ("W", W)):
        checked_list(name, weights, checked_signals("s", s).shapes, s.f)
    return s.f + push(s, [w - w0 for w, w0 in zip(W, W0, strict=True)])


def gaussian_outputs(K: Array, C: int, rng: int | np.random.Generator) -> Array:
    """A sample of N(0, K (x) I_C) (n, C): f_0 of an infinitely wide random network with C outputs.

    There K = Q_L (S.171), i.e. `A[-1]` of the `analytic_kernels` of the n inputs, those to test on among them.

    K: (n, n), the covariance.
    C: the number of outputs.
    rng: a seed or a generator. The draw is the host's, and the root of K its symmetric one, so that every device has
        the same sample up to rounding.

    Raises ValueError if K is not symmetric, or has a negative eigenvalue beyond rounding.
    """
    C, n, rng = checked_whole("C", C, 1), len(checked_symmetric("K", K)), checked_rng(rng)
    require_memory(np, 8 * n * C, f"a sample ({n} x {C})", "take fewer outputs")
    V, s = _root(K)
    normal = rng.standard_normal((n, C))
    return (V * s) @ (V.T @ array_module(K).asarray(normal, dtype=K.dtype))


def _root(K: Array) -> tuple[Array, Array]:
    """V (n, n) and s (n,) of a covariance K = V s^2 V^T. Raises ValueError for a negative eigenvalue."""
    w, V = eigen(K)
    smallest, largest = float(w[0]), float(w[-1])
    zero = cutoff(len(K), K.dtype) * largest
    if smallest < -zero or largest < 0:
        raise ValueError(f"K has a negative eigenvalue, {smallest:.3g}; expected a covariance")
    return V, array_module(K).where(w > zero, w, 0) ** 0.5  # the root of what rounding leaves of a zero is large
