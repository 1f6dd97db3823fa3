"""The Gram matrices A_l, B_l of the signals, and the tangent kernels Theta_l that they make.

    A_{l-1}(x', x) = h_{l-1}(x') h_{l-1}(x)^T               (N', N)      scaled h: sigma_w^2 (S.66) + sigma_b^2
    B_l(x', x)     = delta_l(x') delta_l(x)^T               (N'C, NC)    (S.67), all outputs
    Theta_l        = B_l * A_{l-1} / N                      (N'C, NC)    (S.68), A repeated over outputs
    Theta          = sum_l Theta_l = J(x') J(x)^T / N                    K&O (6)

N is the number of training samples, the second argument, in the cross kernels too. At infinite width, A_{l-1} is the
covariance Q_l of the pre-activations u_l (S.175), and outputs decouple, so that N' x N matrices serve all, B_l (x) I_C:

    Q_1 = sigma_w^2 X' X^T / M_0 + sigma_b^2,    Q_{l+1} = sigma_w^2 E[phi(u_l) phi(u_l)^T] + sigma_b^2       (S.171)
    B_L = 1 1^T,                                 B_l     = sigma_w^2 E[phi'(u_l) phi'(u_l)^T] * B_{l+1}       (S.172)
"""

import math
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .activations import relu
from .arrays import Array, array_module, batches, require_memory, to_device
from .checks import checked_array, checked_instance, checked_number, checked_whole
from .network import Network, Signals, Trained, checked_pair, checked_trained
from .spectral import finite, gram, inverse_size

CLOSE = 2.0**-6  # below it, 1 - r^2 of the rounded r tells too little of the angle: errors of 8 units and more


@dataclass(frozen=True)
class Kernels:
    """The factors of the kernels of all layers, Theta_l = B_l * A_{l-1} / N.

    A: `A[l-1]` is A_{l-1} (N', N), for l = 1..L.
    B: `B[l-1]` is B_l (N'C, NC); at infinite width (N', N), the same for every output.
    trained: which layers these are, by default all of a network without bias.
    """

    A: list[Array]
    B: list[Array]
    trained: Trained | None = None

    def __post_init__(self) -> None:
        n = len(self.A) if isinstance(self.A, (list, tuple)) else 1
        object.__setattr__(self, "trained", checked_trained(self.trained, n))

    def above(self, frozen: int | Collection) -> "Kernels":
        """The kernels of what is trained if `frozen` is kept fixed, see `Signals.above`."""
        trained = self.trained.above(frozen)
        kept = [self.trained.layers.index(l) for l in trained.layers]
        lost = [self.trained.bias[i] ** 2 - b**2 for i, b in zip(kept, trained.bias, strict=True)]
        A = [self.A[i] - b2 if b2 else self.A[i] for i, b2 in zip(kept, lost, strict=True)]
        return replace(self, A=A, B=[self.B[i] for i in kept], trained=trained)

    @property
    def Theta(self) -> list[Array]:
        """Theta_1, .., Theta_L (N'C, NC), or (N', N) at infinite width."""
        return [hadamard(B, A) / A.shape[1] for A, B in zip(self.A, self.B, strict=True)]


def empirical_kernels(test: Signals, train: Signals) -> Kernels:
    """A and B between two sets of samples at finite width; `empirical_kernels(train, train)` on the training set.

    test, train: the signals of x' and of x.

    Raises ValueError unless both belong to the same weights; FloatingPointError, with the layer, if one overflows, or
    on the training set all of it underflows.
    """
    checked_pair(test, train)
    rows, columns = ([d.reshape(-1, d.shape[2]) for d in s.delta] for s in (test, train))
    pairs, deltas = zip(test.h, train.h, strict=True), zip(rows, columns, strict=True)
    A = [_product(f"A_{l}", h1, h, test is train) for l, (h1, h) in enumerate(pairs)]
    return Kernels(A, [_product(f"B_{l}", d1, d, test is train) for l, (d1, d) in enumerate(deltas, 1)], train.trained)


def _product(what: str, X1: Array, X: Array, same: bool) -> Array:
    try:
        with np.errstate(all="ignore"):  # reported below
            return gram(X) if same else finite(X1 @ X.T)
    except FloatingPointError as error:
        raise FloatingPointError(f"{what}: {error}") from error


def ntk(test: Signals, train: Signals, n: int | None = None) -> Array:
    """Theta(x', x) (N'C, NC), K&O (6).

    test, train: the signals of x' and of x, of the same weights.
    n: what stands for N, the number of all training samples, where `train` has some of them only; default: theirs.
    """
    Theta = sum(empirical_kernels(test, train).Theta)
    return Theta if n is None else Theta * (len(train.f) / checked_whole("n", n, 1))


def tangent_kernel(test: Signals, train: Signals) -> Array:
    """`ntk` without checks: what leaves the range is not finite."""
    rows, columns = ([d.reshape(-1, d.shape[2]) for d in s.delta] for s in (test, train))
    layers = zip(rows, columns, test.h, train.h, strict=True)
    return sum(hadamard(d1 @ d.T, h1 @ h.T) for d1, d, h1, h in layers) / len(train.f)


def hadamard(B: Array, A: Array) -> Array:
    """B * A (N'C, NC), where A (N', N) is the same for all outputs."""
    (N1, N), C1, C = A.shape, B.shape[0] // A.shape[0], B.shape[1] // A.shape[1]
    return (B.reshape(N1, C1, N, C) * A[:, None, :, None]).reshape(B.shape)


def order_parameters(net: Network, norm: float = 1.0) -> list[float]:
    """q_1, .., q_L: the variance of u_l in the wide limit (S.138), (S.176).

    net: the network.
    norm: ||x|| of the input.

    Raises ValueError for other arguments, FloatingPointError if a variance leaves the range of float64, ArithmeticError
    where the activation cannot give its averages to rounding.
    """
    norm = checked_number("norm", norm, "a finite number >= 0", lambda v: 0 <= v < math.inf)
    return _moments(checked_instance("net", net, Network, "a Network"), norm, np.float64, "")[1]


def analytic_kernels(net: Network, test: Array, train: Array) -> Kernels:
    """A and B at infinite width; `test is train` takes half of the time.

    net, test, train: those of `analytic_ntk`.

    Raises and warns as `analytic_ntk`.
    """
    _check_inputs(net, test, train, True)
    xp, L = array_module(train), len(net.shapes)
    A, B = ([xp.empty((len(test), len(train)), train.dtype) for _ in range(L)] for _ in "AB")
    for block in _blocks(net, test, train, True):
        Q, Xi = _recursion(net, block)
        B_l = {L: xp.ones_like(Q[0])}
        for l in range(L - 1, 0, -1):
            B_l[l] = net.sigma_w**2 * Xi[l - 1] * B_l[l + 1]
        block.warn_of_singular(sum(Q_l * B_l[l] for l, Q_l in enumerate(Q, 1)))
        for l in range(1, L + 1):
            A[l - 1][block.i, block.j], B[l - 1][block.i, block.j] = Q[l - 1], B_l[l]
    for kernel in [*A, *B] if test is train else []:
        _mirror(kernel)
    return Kernels(A, B, net.trained())


def analytic_ntk(net: Network, test: Array, train: Array, n: int | None = None) -> Array:
    """Theta(x', x) (N', N) at infinite width, the same for every output; with `test is train`, of the training set.

    In blocks of rows that stay in cache, and only half of it where it is symmetric; nothing else of its size is formed.

    net: the network; of its widths only the number of layers counts.
    test, train: inputs (N', M_0) and (N, M_0) of any norm; of norm 0 only if the network has a bias.
    n: what stands for N, the number of all training samples, where `train` has some of them only; default: theirs.

    Raises ValueError for a `standard` network, whose kernel has no limit, and for inputs that do not fit or are zero;
    MemoryError; FloatingPointError, with the layer, where a kernel leaves the range of the dtype; ArithmeticError where
    the activation has no `dual` to rounding. Warns of pairs of training samples that make the kernel singular.
    """
    _check_inputs(net, test, train, False)
    n = len(train) if n is None else checked_whole("n", n, 1)
    Theta = array_module(train).empty((len(test), len(train)), train.dtype)
    for block in _blocks(net, test, train, False):
        (T, *Qs), Xi = _recursion(net, block)
        for Q, Xi_l in zip(Qs, Xi, strict=True):  # Horner's rule for sum_l Q_l B_l
            T *= net.sigma_w**2 * Xi_l
            T += Q
        block.warn_of_singular(T)
        Theta[block.i, block.j] = T / n
    if test is train:
        _mirror(Theta)
    return Theta


def _recursion(net: Network, block: "_Block") -> tuple[list[Array], list[Array]]:
    """Q_1, .., Q_L (S.171) and Xi_1, .., Xi_{L-1} (S.173) of a block of pairs of samples, (n', n) each."""
    Q, Xi = [block.product + net.sigma_b**2], []
    for l in range(1, len(net.shapes)):
        r, c = block.correlation(l, Q[-1])  # cosine and sine of the angle between u_l(x') and u_l(x)
        A, Xi_l = net.activation.dual(r, *block.features(l), c)
        Q.append(net.sigma_w**2 * A + net.sigma_b**2)
        Xi.append(Xi_l)
    return Q, Xi


def _mirror(kernel: Array) -> None:
    """Put below the diagonal of a symmetric kernel what is above it."""
    triu = array_module(kernel).triu
    for i in batches(kernel, len(kernel), 1, limit=128):
        upper = triu(kernel[i, i])
        kernel[i, i] = upper + triu(upper, 1).T
        kernel[i.stop :, i] = kernel[i, i.stop :].T


# ------------------------------------------------------------------------------------------ blocks of pairs of samples


def _blocks(net: Network, test: Array, train: Array, B_too: bool) -> Iterator["_Block"]:
    """Blocks of rows that stay in cache, on and above the diagonal where `test is train`.

    They are cut from larger matrix products, which are faster. B_too: whether the B_l have to be in range.
    """
    columns = _Samples.of(net, train, B_too)
    rows = columns if test is train else _Samples.of(net, test, B_too)
    watch = _Watch(net, columns) if test is train else None
    for panel in batches(test, len(test), 1, limit=512):
        start = panel.start if test is train else 0
        product = (test[panel] * (net.sigma_w**2 / net.widths[0])) @ train[start:].T
        for part in batches(product, len(product), len(train), limit=2**16):
            i = slice(panel.start + part.start, panel.start + part.stop)
            j = slice(i.start if test is train else 0, len(train))
            yield _Block(net, i, j, rows[i], columns[j], product[part, j.start - start :], watch)


@dataclass
class _Block:
    """Pairs of test samples, the slice `i` of all, with training samples, the slice `j`.

    product: sigma_w^2 X' X^T / M_0 (n', n).
    watch: looks at the pairs of the training set, if these are such.
    last: the cosines and sines of the layer before (n', n).
    near: indices (n,) of the pairs nearly parallel or opposite at the first layer, and their cosines and sines.
    """

    net: Network
    i: slice
    j: slice
    test: "_Samples"
    train: "_Samples"
    product: Array
    watch: "_Watch | None"
    last: tuple[Array, Array] | None = None
    near: tuple[Array, Array, Array, Array] | None = None

    def features(self, l: int) -> tuple[Array, Array]:
        return self.test.features[l - 1], self.train.features[l - 1]

    def correlation(self, l: int, Q: Array) -> tuple[Array, Array]:
        """r = Q_l(x', x) / (q_l(x') q_l(x))^{1/2}, and (1 - r^2)^{1/2} as precisely as the angle between samples."""
        xp, (a, b) = array_module(Q), self.features(l)
        r = Q / (a[:, :1] * b[:, 0])
        square = 1 - r * r
        near = xp.flatnonzero(square < CLOSE)
        i, j = near // r.shape[1], near % r.shape[1]
        if len(near):
            r[i, j], square[i, j] = self._near(l, i, j, r[i, j])
        self.last = r, xp.sqrt(square)
        if l == 1:
            self.near = i, j, r[i, j], self.last[1][i, j]
        return self.last

    def _near(self, l: int, i: Array, j: Array, r: Array) -> tuple[Array, Array]:
        """r and 1 - r^2 (n,) of pairs (i, j) (n,). With the cosine rho between the phi_{l-1}, nothing cancels in

            r       = w w' rho + v v'
            1 - r^2 = (w w')^2 (1 - rho^2) + (w v' - w' v)^2 + 2 w w' v v' (1 - rho)

        where w = sigma_w (E[phi_{l-1}^2] / q_l)^{1/2} and v = sigma_b / q_l^{1/2} are the `weights`.
        """
        between = self._inputs(i, j) if l == 1 else self.net.activation.gap(*self._pairs(l - 1, i, j))
        if between is None:
            r = array_module(r).clip(r, -1, 1)
            return r, 1 - r * r
        gap, square = between
        (w1, v1), (w, v) = (_at(x.weights[l - 1], k).T for x, k in ((self.test, i), (self.train, j)))
        r = w1 * w * (1 - gap) + v1 * v
        return r, (w1 * w) ** 2 * square + (w1 * v - w * v1) ** 2 + 2 * w1 * w * v1 * v * gap

    def _inputs(self, i: Array, j: Array) -> tuple[Array, Array]:
        """1 - rho and 1 - rho^2 of the inputs; of nearly parallel ones from the chord between their directions."""
        xp, norm1, norm = array_module(self.product), self.test.norm[i], self.train.norm[j]
        scale = self.net.sigma_w / self.net.widths[0] ** 0.5
        rho = xp.clip(self.product[i, j] / (norm1[:, 0] * scale) / (norm[:, 0] * scale), -1, 1)
        gap, square = 1 - rho, (1 - rho) * (1 + rho)
        close = xp.flatnonzero(square < CLOSE)
        for part in batches(close, len(close), self.net.widths[0], limit=2**22):
            k = close[part]
            x1, x, opposite = self.test.x[i[k]] / norm1[k], self.train.x[j[k]] / norm[k], rho[k] < 0
            chord = ((x1 - xp.where(opposite[:, None], -x, x)) ** 2).sum(1)
            gap[k], square[k] = xp.where(opposite, 2 - chord / 2, chord / 2), chord * (1 - chord / 4)
        return gap, square

    def _pairs(self, l: int, i: Array, j: Array) -> tuple[Array, ...]:
        """The arguments of `gap` for the pairs (i, j)."""
        (r, c), (a, b) = self.last, self.features(l)
        return r[i, j], c[i, j], _at(a, i), _at(b, j)

    def warn_of_singular(self, T: Array) -> None:
        """T = N Theta (n', n)."""
        if self.watch and self.near:
            i, j, r, c = self.near
            self.watch.look(T[i, j], r, c, i + self.i.start, j + self.j.start)


class _Watch:
    """Warns, once, of pairs of training samples that make Theta singular to rounding."""

    def __init__(self, net: Network, samples: "_Samples") -> None:
        self.net, self.size, self.opposite, self.silent = net, samples.size, 0, False
        self.rounding = 16 * len(net.shapes) * float(np.finfo(samples.x.dtype).eps)

    def look(self, T: Array, r: Array, c: Array, i: Array, j: Array) -> None:
        """T: N Theta (n,) of the pairs (i, j) (n,); r, c: the cosine and sine of the angle between inputs.

        Theta is singular where one of its 2 x 2 minors is: duplicates; x and -x under an odd phi without bias. Opposite
        pairs may also be too many together: of ReLU without bias and L = 2, f(x) - f(-x) is linear in x.
        """
        size = (_at(self.size, i) * _at(self.size, j))[:, 0]
        singular = (abs(T) >= (1 - self.rounding) * size) & (i < j)
        if singular.any():
            k = int(singular.argmax())
            kind, sign = ("duplicates", "") if float(r[k]) > 0 else ("opposite", ", up to their sign")
            self._warn(
                f"samples {int(i[k])} and {int(j[k])} are {kind}, or nearly so: the kernels are singular, and their "
                f"pseudo-inverse averages the targets of such samples{sign}"
            )
        self.opposite += int(((r < 0) & (c < self.rounding) & (i < j)).sum())
        M_0, L = self.net.widths[0], len(self.net.shapes)
        if self.opposite > M_0 and L == 2 and not self.net.sigma_b and self.net.activation == relu:
            self._warn(
                f"more than {M_0} samples, of {M_0} inputs, come with their opposite: the kernels are singular, since "
                "the odd part of a ReLU network with L = 2 and no bias is linear"
            )

    def _warn(self, what: str) -> None:
        if not self.silent:
            warnings.warn(what, RuntimeWarning, stacklevel=5)
        self.silent = True


# ------------------------------------------------------------------------------------------------- samples one by one


@dataclass(frozen=True)
class _Samples:
    """What the recursion needs to know of samples one by one; (1, k) instead of (n, k) serves where all norms agree.

    x: the inputs (n, M_0).
    norm: ||x|| (n, 1), but 1 for 0.
    features: per hidden layer, (n, k), of the standard deviations of u_l.
    weights: per hidden layer, (n, 2): the shares w of phi_{l-1} and v of the bias in u_l, with w^2 + v^2 = 1.
    size: (N Theta(x, x))^{1/2} (n, 1).
    """

    x: Array
    norm: Array
    features: list[Array]
    weights: list[Array]
    size: Array

    @classmethod
    def of(cls, net: Network, x: Array, B_too: bool) -> "_Samples":
        """Raises ValueError for a zero input without bias, FloatingPointError for q_l, or B_l if `B_too`, out of the
        range of the dtype of x."""
        xp, norm = array_module(x), _norms(x)
        if not (norm.all() or net.sigma_b):
            raise ValueError(f"sample {int(norm.argmin())} of x is zero; expected inputs of positive norm")
        agree = np.ptp(norm) <= 4 * float(np.finfo(x.dtype).eps) * norm.max()
        distinct = norm.mean(keepdims=True) if agree else norm
        each = [_moments(net, v, x.dtype, f" for sample {i}") for i, v in enumerate(distinct.tolist())]
        m, q, slopes = (np.array(v).T for v in zip(*each, strict=True))  # (L, n), (L, n), (L-1, n)
        if B_too:
            _check_B(net, slopes, x.dtype)
        Theta = q[0]
        for q_l, slope in zip(q[1:], slopes, strict=True):  # Horner's rule for sum_l q_l B_l(x, x)
            Theta = net.sigma_w**2 * slope * Theta + q_l
        weights = np.stack([net.sigma_w * np.sqrt(m / q), net.sigma_b / np.sqrt(q)], axis=2)
        features = [net.activation.features(np.sqrt(q_l)) for q_l in q[:-1]]
        to = partial(xp.asarray, dtype=x.dtype)
        norm, size = to(np.where(norm, norm, 1)[:, None]), to(np.sqrt(Theta)[:, None])
        return cls(x, norm, [to(a) for a in features], [to(a) for a in weights], size)

    def __getitem__(self, rows: slice) -> "_Samples":
        features, weights = ([_at(a, rows) for a in arrays] for arrays in (self.features, self.weights))
        return _Samples(self.x[rows], _at(self.norm, rows), features, weights, _at(self.size, rows))


def _at(a: Array, rows: Array | slice) -> Array:
    """These rows of a (n, k), or the only one (1, k), which stands for all of them."""
    return a if len(a) == 1 else a[rows]


def _norms(x: Array) -> np.ndarray:
    """||x|| (n,) in float64 on the host; squares of large x do not overflow, and of small x not underflow."""
    xp, T = array_module(x), inverse_size(abs(x).max(1))
    norm, T = (to_device(a, "cpu").astype(float) for a in (xp.linalg.norm(x * T[:, None], axis=1), T))
    return norm / T


def _moments(net: Network, norm: float, dtype: Any, of: str) -> tuple[list[float], list[float], list[float]]:
    """E[phi(u_{l-1})^2] and q_l for l = 1..L, and E[phi'(u_l)^2] for l < L, of an input of that norm; phi(u_0) is x."""
    m, q, slopes, L = [norm * norm / net.widths[0]], [], [], len(net.shapes)
    for l in range(1, L + 1):
        q.append(net.sigma_w**2 * m[-1] + net.sigma_b**2)
        _require_range(q[-1], f"q_{l}, the variance of layer {l}{of},", dtype)
        if l < L:
            m.append(net.activation.mean_square(q[-1]))
            slopes.append(net.activation.mean_square_derivative(q[-1]))
    return m, q, slopes


def _check_B(net: Network, slopes: np.ndarray, dtype: Any) -> None:
    B = 1.0
    for l in range(len(slopes), 0, -1):
        with np.errstate(over="ignore"):  # reported below
            B = net.sigma_w**2 * slopes[l - 1] * B
        for value in (B.min(), B.max()):
            _require_range(value, f"B_{l}(x, x)", dtype)


def _require_range(value: float, what: str, dtype: Any) -> None:
    """Raise FloatingPointError unless there is room for rounding errors of `value` > 0, and for its inverse."""
    least = float(np.finfo(dtype).tiny / np.finfo(dtype).eps)
    if not least <= value <= 1 / least:
        raise FloatingPointError(
            f"{what} is {value:.3g} and leaves the range of {np.dtype(dtype)}: rescale the inputs, sigma_w or sigma_b"
        )


def _check_inputs(net: Network, test: Array, train: Array, A_and_B: bool) -> None:
    checked_instance("net", net, Network, "a Network")
    if net.parameterization != "ntk":
        raise ValueError(f"parameterization is {net.parameterization!r}; expected 'ntk': the other has no wide limit")
    checked_array("train", train, ("N", net.widths[0]))
    checked_array("test", test, ("N'", net.widths[0]), train)
    nbytes = (2 * len(net.shapes) if A_and_B else 1) * len(test) * len(train) * train.dtype.itemsize
    require_memory(array_module(train), nbytes, f"kernels {len(test)} x {len(train)}", "take fewer samples")
