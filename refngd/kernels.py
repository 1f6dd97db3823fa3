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

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from .arrays import Array, array_module, batches, require_memory, to_device
from .network import Network, Signals
from .spectral import gram


@dataclass(frozen=True)
class Kernels:
    """`A[l-1]` is A_{l-1} (N', N) and `B[l-1]` is B_l (N'C, NC), for l = 1..L; `bias` is that of the signals.

    At infinite width B_l is (N', N), the same for every output.
    """

    A: list[Array]
    B: list[Array]
    bias: float = 0.0

    @property
    def Theta(self) -> list[Array]:
        """Theta_1, .., Theta_L (N'C, NC), or (N', N) at infinite width."""
        return [hadamard(B, A) / A.shape[1] for A, B in zip(self.A, self.B, strict=True)]


def empirical_kernels(test: Signals, train: Signals) -> Kernels:
    """A and B between two sets of samples at finite width; `empirical_kernels(train, train)` on the training set.

    Raises FloatingPointError if a training Gram matrix over- or underflows.
    """
    rows, columns = ([d.reshape(-1, d.shape[2]) for d in s.delta] for s in (test, train))
    if test is train:
        return Kernels([gram(h, 1) for h in train.h], [gram(d, 1) for d in columns], train.bias)
    A = [h1 @ h.T for h1, h in zip(test.h, train.h, strict=True)]
    return Kernels(A, [d1 @ d.T for d1, d in zip(rows, columns, strict=True)], train.bias)


def ntk(test: Signals, train: Signals) -> Array:
    """Theta(x', x) (N'C, NC), K&O (6)."""
    return sum(empirical_kernels(test, train).Theta)


def hadamard(B: Array, A: Array) -> Array:
    """B * A (N'C, NC), where A (N', N) is the same for all outputs."""
    (N1, N), C1, C = A.shape, B.shape[0] // A.shape[0], B.shape[1] // A.shape[1]
    return (B.reshape(N1, C1, N, C) * A[:, None, :, None]).reshape(B.shape)


def order_parameters(net: Network, norm: float = 1.0) -> list[float]:
    """q_1, .., q_L: the variance of u_l in the wide limit, for an input of that norm ||x|| (S.138), (S.176)."""
    q, mean_square = [], norm**2 / net.widths[0]
    for _ in net.widths[1:]:
        q.append(net.sigma_w**2 * mean_square + net.sigma_b**2)
        mean_square = net.activation.mean_square(q[-1])
    return q


def analytic_kernels(net: Network, test: Array, train: Array) -> Kernels:
    """A and B at infinite width for inputs (N', M_0) and (N, M_0); `test is train` takes half of the time.

    Raises and warns as `analytic_ntk`.
    """
    xp, L = array_module(train), len(net.shapes)
    _check_inputs(net, test, train, 2 * L)
    A, B = ([xp.empty((len(test), len(train)), train.dtype) for _ in range(L)] for _ in "AB")
    for rows, columns, Q, Xi in _blocks(net, test, train):
        Bs = accumulate(Xi[::-1], lambda B_next, Xi_l: B_next * Xi_l * net.sigma_w**2, initial=xp.ones_like(Q[0]))
        for kernels, blocks in ((A, Q), (B, list(Bs)[::-1])):
            for kernel, block in zip(kernels, blocks, strict=True):
                _put(kernel, rows, columns, block, test is train)
    return Kernels(A, B, net.sigma_b)


def analytic_ntk(net: Network, test: Array, train: Array) -> Array:
    """Theta(x', x) (N', N) at infinite width, the same for every output; with `test is train`, of the training set.

    In blocks of rows that stay in cache, and only half of it where it is symmetric; nothing else of its size is formed.
    Raises ValueError for a `standard` network, whose kernel has no limit, and for inputs that do not fit or are zero;
    MemoryError; ArithmeticError where the activation has no `dual` to rounding. Warns of duplicate training samples.
    """
    _check_inputs(net, test, train, 1)
    Theta = array_module(train).empty((len(test), len(train)), train.dtype)
    for rows, columns, (block, *Qs), Xi in _blocks(net, test, train):
        for Q, Xi_l in zip(Qs, Xi, strict=True):  # Horner's rule for sum_l Q_l B_l
            Xi_l *= net.sigma_w**2
            block *= Xi_l
            block += Q
        block /= len(train)
        _put(Theta, rows, columns, block, test is train)
    return Theta


def _blocks(net: Network, test: Array, train: Array) -> Iterator[tuple[slice, slice, list[Array], list[Array]]]:
    """Q_1, .., Q_L and Xi_1, .., Xi_{L-1}, some rows at a time; on and above the diagonal where `test is train`."""
    xp, same = array_module(train), test is train
    test_layers, train_layers = (_layers(net, x) for x in (test, train))
    for rows, columns, A in _products(test, train):
        A /= net.widths[0]
        Q, Xi = [_covariance(net, A)], []
        for a, b in zip(test_layers, train_layers, strict=True):
            a, b = a[rows] if len(a) > 1 else a, b[columns] if len(b) > 1 else b
            r = xp.clip(Q[-1] / (a[:, :1] * b[:, 0]), -1, 1)
            near = 16 * float(np.finfo(r.dtype).eps)
            parallel = r > 1 - near
            r[parallel] = 1  # or Xi would be wrong by the root of a rounding error
            r[r < near - 1] = -1  # likewise
            if same and not Xi:
                _warn_of_duplicates(parallel, rows.start)
            A, Xi_l = net.activation.dual(r, a, b)
            Q.append(_covariance(net, A))
            Xi.append(Xi_l)
        yield rows, columns, Q, Xi


def _warn_of_duplicates(parallel: Array, start: int) -> None:
    """Warn of pairs of samples that are parallel up to rounding, of which `parallel` (n, m) is true; a sample is so
    to itself, on the diagonal."""
    if int(parallel.sum()) > len(parallel):
        i = array_module(parallel).arange(len(parallel))
        parallel[i, i] = False
        i, j = divmod(int(parallel.argmax()), parallel.shape[1])
        warnings.warn(
            f"samples {start + i} and {start + j} are duplicates, or nearly so: the kernels are singular, and their "
            "pseudo-inverse averages the targets of such samples",
            RuntimeWarning,
            stacklevel=4,
        )


def _products(test: Array, train: Array) -> Iterator[tuple[slice, slice, Array]]:
    """X' X^T in blocks of rows that stay in cache, cut from larger ones, which matrix products are faster on."""
    for panel in batches(len(test), 1, limit=512):
        start = panel.start if test is train else 0
        product = test[panel] @ train[start:].T
        for block in batches(len(product), len(train), limit=2**18):
            rows = slice(panel.start + block.start, panel.start + block.stop)
            columns = slice(rows.start if test is train else 0, len(train))
            yield rows, columns, product[block, columns.start - start :]


def _covariance(net: Network, A: Array) -> Array:
    A *= net.sigma_w**2
    A += net.sigma_b**2
    return A


def _put(kernel: Array, rows: slice, columns: slice, block: Array, symmetric: bool) -> None:
    if symmetric:
        n = len(block)
        block[:, :n] = (block[:, :n] + block[:, :n].T) / 2  # up to rounding it is
        kernel[columns, rows] = block.T
    kernel[rows, columns] = block


def _layers(net: Network, x: Array) -> list[Array]:
    """`features` of the scales sqrt(q_l) of the hidden layers: (n, k), or (1, k) if all norms agree up to rounding."""
    xp = array_module(x)
    norms = to_device(xp.linalg.norm(x, axis=1), "cpu").astype(float)
    if not norms.all():
        raise ValueError(f"sample {int(norms.argmin())} of the inputs is zero; expected inputs of positive norm")
    if np.ptp(norms) <= 4 * float(np.finfo(x.dtype).eps) * norms.max():
        norms = norms.mean(keepdims=True)
    q = np.array([order_parameters(net, norm) for norm in norms.tolist()])
    return [xp.asarray(net.activation.features(q_l**0.5), dtype=x.dtype) for q_l in q.T[:-1]]


def _check_inputs(net: Network, test: Array, train: Array, count: int) -> None:
    if net.parameterization != "ntk":
        raise ValueError(f"parameterization is {net.parameterization!r}; expected 'ntk': the other has no wide limit")
    net.check_inputs(test)
    net.check_inputs(train)
    if array_module(test) is not array_module(train) or test.dtype != train.dtype:
        raise ValueError("test and train differ in device or dtype; expected the same")
    nbytes = count * len(test) * len(train) * train.dtype.itemsize
    require_memory(array_module(train), nbytes, f"{count} kernels {len(test)} x {len(train)}", "take fewer samples")
