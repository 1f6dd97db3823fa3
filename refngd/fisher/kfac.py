"""K-FAC: each layer's block is the Kronecker product of the Gram matrices of its backward signals and of its inputs.

    G_l         = (B*_l + rho I) (x) (A*_{l-1} + rho I)                                         K&O (20)
    A*_{l-1}    = h_{l-1}^T h_{l-1} / N,    B*_l = delta_l^T delta_l / N summed over outputs,   (S.95)
    B*_L        = I / N (last="identity"), or as the others, which is I for the MSE loss (last="gram")
    K_h         = (A*_{l-1} + rho I)^{-1/q} h_{l-1}^T   (M_{l-1}+1, N)
    K_delta     = (B*_l + rho I)^{-1/q} delta_l^T       (M_l, NC)
    direction_l = sum_{n,c} K_delta[:,(n,c)] e[n,c] K_h[:,n]^T / N
    Theta_bar   = sum_l (delta'_l K_delta) * (h'_{l-1} K_h) / N                                 (21), (S.96)

The roots of the two factors are delta_l and h_{l-1} themselves, so that nothing of the size of G_l comes up, and errors
are those of the condition numbers of the roots. From kernels alone, delta' K_delta = B(x', x) (B / N + rho I)^{-1/q},
and A is alike.

damping="product" is that of Huh, Fig. S.I.2, which the eigenvectors of the two factors invert:

    G_l         = B*_l (x) A*_{l-1} + rho I
    delta_l     = U t V^T,   h_{l-1} = X s Y^T
    direction_l = V t [ (t_a^2 s_b^2 / N^2 + rho)^{-1/q} (U^T E X)_ab ] s Y^T / N
    Theta_bar   = sum_l sum_a (delta'_l V t)_a U_a^T * (h'_{l-1} Y s [..]_a X^T) / N

bias="augmented" treats the bias as one more input; bias="separate" gives it the block b^2 delta_l^T delta_l / N^2 +
rho I of (S.123), b the bias column of h, and K-FAC the weights alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .. import definitions
from ..activations import linear
from ..arrays import Array, array_module
from ..checks import checked_choice
from ..kernels import hadamard
from ..network import Network, Signals, Trained
from ..spectral import LinearMap, eigen_root, power_of_gram, power_of_root, root_svd
from .base import Fisher, has_full_ranks


class KFAC(Fisher):
    """G of K&O (20), for any number of outputs; alpha = N L, or N (L-1) + 1 with last="gram".

    If N exceeds the k inputs of the first layer (k = M_0, or M_0 + 1 with bias="augmented") and L >= 2, Theta_bar has
    N diag(X (X^T X)^{-1} X^T) for that layer instead of N I, X = h_0 (N, k): (S.109). After the Forster transform of X
    (`preprocess.forster`) that is k I, and alpha is

        bias             last="identity"                  last="gram"
        none             N (L-1) + M_0           (S.111)  N (L-2) + M_0 + 1
        "augmented"      N (L-1) + M_0 + 1                N (L-2) + M_0 + 2
        "separate"       N (2L-2) + M_0          (S.123)  N (2L-3) + M_0 + 1     + 1 1^T of a trained output bias

    "augmented" would have to transform the extended [sigma_w x / sqrt(M_0) ; sigma_b]; its last column then varies,
    which no `Network` has. The method `alpha` has to see the inputs in these cases, `alpha(net, N, x=X)`. The other
    way out is not to train the first layer (`Signals.above`).

    Raises ValueError for other options.

    bias: "augmented" or "separate", see above.
    last: "identity" or "gram", see above.
    damping: "factors", rho on each of the two, or "product", see above.
    rcond: the singular values of h_{l-1}, and of delta_l, that are at most rcond times the largest count as zero.
    """

    def __init__(
        self, bias: str = "augmented", last: str = "identity", damping: str = "factors", *, rcond: float | None = None
    ) -> None:
        super().__init__(rcond=rcond)
        self.bias = checked_choice("bias", bias, ("augmented", "separate"))
        self.last = checked_choice("last", last, ("identity", "gram"))
        self.damping = checked_choice("damping", damping, ("factors", "product"))

    def _definition(self, trained):
        return definitions.Fisher("KFAC", bias=self.bias, last=self.last, damping=self.damping)

    def _direction(self, s, e, rho, q):
        (N, C), dW = e.shape, []
        for layer, K_bias_e in self._layers(s, rho, q, lambda T: (T.reshape(-1, N, C) * e).sum(2) / N):
            dW.append(layer.step(e))
            if K_bias_e is not None:
                dW[-1] = array_module(e).concatenate([dW[-1], K_bias_e.sum(1)[:, None]], axis=1)
        return dW

    def _coefficient(self, test, train, rho, q):
        Theta_bar, N = 0, len(train.f)
        layers = self._layers(train, rho, q, lambda T: T)
        for (layer, K_bias), (h, b), delta in zip(layers, self._inputs(test), test.delta, strict=True):
            delta = delta.reshape(test.f.size, -1)  # (N'C, M_l)
            Theta_bar = Theta_bar + layer.coefficient(delta, h)
            if K_bias is not None:
                Theta_bar = Theta_bar + b * (delta @ K_bias) / N
        return Theta_bar

    def _layers(
        self, s: Signals, rho: float, q: float, right: LinearMap
    ) -> Iterator[tuple["_Factors | _Product", Array | None]]:
        """Every layer, and K_delta B (M_l, p) of its bias if that has a block of its own.

        right: T (m, NC) -> T B (m, p).
        """
        (N, C), rcond = s.f.shape, self.rcond
        for l, (h, b), delta in zip(s.trained.layers, self._inputs(s), s.delta, strict=True):
            delta = delta.reshape(N * C, -1)
            if self._is_fixed(l, s.trained):
                left, rho_h = self._fixed(N, rho, q)
                layer = _Factors(right(delta.T) * left, power_of_root(h, N, rho_h, q, rcond))
            elif self.damping == "product" and rho > 0:
                layer = _Product.of(delta, h, rho, q, rcond)
            else:
                K_h, K_delta = power_of_root(h, N, rho, q, rcond), power_of_root(delta, N, rho, q, rcond, right)
                layer = _Factors(K_delta, K_h)
            yield layer, power_of_root(b * delta, N**2, rho, q, rcond, right) if b else None

    def _fixed(self, N: int, rho: float, q: float) -> tuple[float, float]:
        """The power of B*_L = I / N, and the damping of A: (A / N + rho I)^{-1/q} = N^{1/q} (A + N rho I)^{-1/q}."""
        return (N ** (1 / q), N * rho) if self.damping == "product" else ((1 / N + rho) ** (-1 / q), rho)

    def _kernel_coefficient(self, cross, train, rho, q):
        N, trained, Theta_bar = len(train.A[0]), train.trained, 0
        kernels = zip(cross.A, cross.B, train.A, train.B, trained.layers, self._own_biases(trained), strict=True)
        for A1, B1, A, B, l, b in kernels:
            A1, A = A1 - b * b, A - b * b
            if self._is_fixed(l, trained):
                left, rho_A = self._fixed(N, rho, q)
                Theta_bar = Theta_bar + hadamard(left * B1, A1 @ self._power(A / N, rho_A, q)) / N
            elif self.damping == "product" and rho > 0:
                (U, t), (X, s) = (eigen_root(K / N, self.rcond) for K in (B, A))
                Theta_bar = Theta_bar + _Product(U, X, B1 @ U, A1 @ X, _gain(t, s, rho, q)).sum()
            else:
                Theta_bar = Theta_bar + hadamard(B1 @ self._power(B / N, rho, q), A1 @ self._power(A / N, rho, q)) / N
            if b:
                Theta_bar = Theta_bar + b * b * B1 @ self._power(b * b * B / N**2, rho, q) / N
        return Theta_bar

    def _power(self, K: Array, rho: float, q: float) -> Array:
        return power_of_gram(K, rho, q, self.rcond)

    def _inputs(self, s: Signals) -> list[tuple[Array, float]]:
        """The inputs h that K-FAC sees of each layer, and the bias's value if it has a block of its own, else 0."""
        return [(h[:, :-1] if b else h, b) for h, b in zip(s.h, self._own_biases(s.trained), strict=True)]

    def _own_biases(self, trained: Trained) -> tuple[float, ...]:
        """For each layer the bias's value if it has a block of its own, else 0."""
        return tuple(b * (self.bias == "separate") for b in trained.bias)

    def _is_fixed(self, l: int, trained: Trained) -> bool:
        """Whether B*_l is I / N: of the output layer of the network, not of the last that is trained."""
        return l == trained.L and self.last == "identity"

    def _alpha(self, net: Network, n: int, trained: Trained, x: Array | None) -> float | None:
        C, L, layers, own = net.widths[-1], trained.L, trained.layers, self._own_biases(trained)
        # all samples of a linear network share one delta_l: the projector on its range has 1 / n on the diagonal
        hidden = 1 if net.activation == linear else n
        seen = x is not None and hidden > 1 and layers[0] == 1 < L
        first = self._rank_of_inputs(net, x) if seen else None
        weights = replace(trained, bias=tuple(a - b for a, b in zip(trained.bias, own, strict=True)))
        others = weights if first is None else weights.take(range(1, len(layers)))
        if not has_full_ranks(net, others, n) or any(hidden * C > net.widths[l] for l in layers if l < L):
            return None
        if n > 1 and any(b and (l == L or hidden == 1) for l, b in zip(layers, own, strict=True)):
            return None  # a bias whose delta is that of all samples adds 1 1^T
        alpha = sum(hidden if l < L else n if self.last == "identity" else 1 for l in layers) + n * sum(map(bool, own))
        return float(alpha) if first is None else float(alpha) - (n - first)

    def _rank_of_inputs(self, net: Network, x: Array) -> float | None:
        """N times the diagonal of the projector on the range of h_0, if it is constant; then it is the rank of h_0."""
        h = x * net.sigma_w / net.widths[0] ** 0.5
        if net.sigma_b and self.bias == "augmented":
            xp = array_module(h)
            h = xp.concatenate([h, net.sigma_b * xp.ones_like(h[:, :1])], axis=1)
        U, t, _ = root_svd(h, self.rcond)
        leverage = len(h) * ((U * (t > 0)) ** 2).sum(1)
        spread = float(leverage.max() - leverage.min())
        return float((t > 0).sum()) if spread < len(h) * float(np.finfo(h.dtype).eps) ** 0.5 else None


@dataclass(frozen=True)
class _Factors:
    """A layer whose power is (B* + ..)^{-1/q} (x) (A* + ..)^{-1/q}."""

    left: Array  # K_delta (M_l, NC); for a step K_delta e / N (M_l, N)
    K_h: Array  # (k, N)

    def step(self, e: Array) -> Array:
        return self.left @ self.K_h.T  # e is in it

    def coefficient(self, delta: Array, h: Array) -> Array:
        return hadamard(delta @ self.left, h @ self.K_h) / self.K_h.shape[1]


@dataclass(frozen=True)
class _Product:
    """A layer whose power is (B* (x) A* + rho I)^{-1/q}, in the eigenvectors of B* and of A*."""

    U: Array  # (NC, r)
    X: Array  # (N, k)
    V: Array  # (.., r), V t of delta = U t V^T, or B(x', x) U
    Y: Array  # (.., k), Y s of h = X s Y^T, or A(x', x) X
    gain: Array  # (r, k)

    @classmethod
    def of(cls, delta: Array, h: Array, rho: float, q: float, rcond: float | None) -> "_Product":
        (U, t, V), (X, s, Y), N = root_svd(delta, rcond), root_svd(h, rcond), len(h)
        return cls(U, X, V, Y, _gain(t / N**0.5, s / N**0.5, rho, q))

    def step(self, e: Array) -> Array:
        EX = (e[:, :, None] * self.X[:, None]).reshape(e.size, -1)  # (NC, k)
        return self.V @ (self.gain * (self.U.T @ EX)) @ self.Y.T / len(e)

    def coefficient(self, delta: Array, h: Array) -> Array:
        return replace(self, V=delta @ self.V, Y=h @ self.Y).sum()

    def sum(self) -> Array:
        """sum_a V_a U_a^T * (Y [gain]_a X^T) / N, of one test sample a row of V and of Y."""
        terms = zip(self.V.T, self.U.T, self.gain, strict=True)
        return sum(hadamard(v[:, None] * u, (self.Y * g) @ self.X.T) for v, u, g in terms) / len(self.X)


def _gain(t: Array, s: Array, rho: float, q: float) -> Array:
    """(t_a^2 s_b^2 + rho)^{-1/q} (r, k), and 0 where t or s is."""
    ts = t[:, None] * s
    return (ts > 0) * (ts**2 + rho) ** (-1 / q)
