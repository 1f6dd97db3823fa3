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

bias="augmented" treats the bias as one more input; bias="separate" gives it the block b^2 delta_l^T delta_l / N^2 +
rho I of (S.123), b the bias column of h, and K-FAC the weights alone. The damping is on each factor, not on their
product.
"""

from collections.abc import Iterator
from dataclasses import replace

from .. import definitions
from ..activations import linear
from ..arrays import Array, array_module
from ..checks import checked_choice
from ..kernels import hadamard
from ..network import Network, Signals
from ..spectral import LinearMap, power_of_gram, power_of_root
from .base import Fisher, has_full_rank


class KFAC(Fisher):
    """G of K&O (20), for any number of outputs; alpha = N L, or N (L-1) + 1 with last="gram".

    If N exceeds the k inputs of the first layer (k = M_0, or M_0 + 1 with bias="augmented") and L >= 2, Theta_bar has
    N diag(X (X^T X)^{-1} X^T) for that layer instead of N I, X = h_0 (N, k): (S.109). After the Forster transform of X
    (`preprocess.forster`) that is k I, and alpha is

        bias             last="identity"                  last="gram"
        none             N (L-1) + M_0           (S.111)  N (L-2) + M_0 + 1
        "augmented"      N (L-1) + M_0 + 1                N (L-2) + M_0 + 2
        "separate"       N (2L-2) + M_0          (S.123)  N (2L-3) + M_0 + 1     + 1 1^T of the output bias

    "augmented" would have to transform the extended [sigma_w x / sqrt(M_0) ; sigma_b]; its last column then varies,
    which no `Network` has. The method `alpha` cannot see the inputs, and returns None in these cases. The other way
    out is not to train the first layer (`Signals.above`).

    Raises ValueError for other options.

    bias: "augmented" or "separate", see above.
    last: "identity" or "gram", see above.
    rcond: the singular values of h_{l-1}, and of delta_l, that are at most rcond times the largest count as zero.
    """

    def __init__(self, bias: str = "augmented", last: str = "identity", *, rcond: float | None = None) -> None:
        super().__init__(rcond=rcond)
        self.bias = checked_choice("bias", bias, ("augmented", "separate"))
        self.last = checked_choice("last", last, ("identity", "gram"))

    def _definition(self, L):
        return definitions.Fisher("KFAC", bias=self.bias, last=self.last)

    def _direction(self, s, e, rho, q):
        (N, C), dW = e.shape, []
        for K_h, K_delta_e, K_bias_e in self._powers(s, rho, q, lambda T: (T.reshape(-1, N, C) * e).sum(2) / N):
            dW.append(K_delta_e @ K_h.T)
            if K_bias_e is not None:
                dW[-1] = array_module(e).concatenate([dW[-1], K_bias_e.sum(1)[:, None]], axis=1)
        return dW

    def _coefficient(self, test, train, rho, q):
        inputs, b = self._split(test)
        Theta_bar, N = 0, len(train.f)
        powers = self._powers(train, rho, q, lambda T: T)
        for (K_h, K_delta, K_bias), h, delta in zip(powers, inputs.h, test.delta, strict=True):
            delta = delta.reshape(test.f.size, -1)  # (N'C, M_l)
            Theta_bar = Theta_bar + hadamard(delta @ K_delta, h @ K_h) / N
            if K_bias is not None:
                Theta_bar = Theta_bar + b * (delta @ K_bias) / N
        return Theta_bar

    def _powers(
        self, s: Signals, rho: float, q: float, right: LinearMap
    ) -> Iterator[tuple[Array, Array, Array | None]]:
        """K_h (k, N), K_delta B (M_l, p) of every layer, and that of the bias (M_l, p) if it has a block of its own.

        right: T (m, NC) -> T B (m, p).
        """
        (N, C), (inputs, b) = s.f.shape, self._split(s)
        for l, (h, delta) in enumerate(zip(inputs.h, s.delta, strict=True), 1):
            delta = delta.reshape(N * C, -1)
            K_h = power_of_root(h, N, rho, q, self.rcond)
            if self._is_fixed(l, s.h):
                K_delta = right(delta.T) * (1 / N + rho) ** (-1 / q)
            else:
                K_delta = power_of_root(delta, N, rho, q, self.rcond, right)
            yield K_h, K_delta, power_of_root(b * delta, N**2, rho, q, self.rcond, right) if b else None

    def _kernel_coefficient(self, cross, train, rho, q):
        N, b = len(train.A[0]), train.bias if self.bias == "separate" else 0.0
        Theta_bar = 0
        for l, (A1, B1, A, B) in enumerate(zip(cross.A, cross.B, train.A, train.B, strict=True), 1):
            A1, A = A1 - b * b, A - b * b  # the bias has a block of its own
            left = B1 * (1 / N + rho) ** (-1 / q) if self._is_fixed(l, train.A) else B1 @ self._power(B / N, rho, q)
            Theta_bar = Theta_bar + hadamard(left, A1 @ self._power(A / N, rho, q)) / N
            if b:
                Theta_bar = Theta_bar + b * b * B1 @ self._power(b * b * B / N**2, rho, q) / N
        return Theta_bar

    def _power(self, K: Array, rho: float, q: float) -> Array:
        return power_of_gram(K, rho, q, self.rcond)

    def _split(self, s: Signals) -> tuple[Signals, float]:
        """The signals with the inputs that K-FAC sees, and the bias's value if it has a block of its own, else 0."""
        separate = self.bias == "separate" and s.bias
        return (replace(s, h=[h[:, :-1] for h in s.h]), s.bias) if separate else (s, 0.0)

    def _is_fixed(self, l: int, layers: list[Array]) -> bool:
        """Whether B*_l is I / N."""
        return l == len(layers) and self.last == "identity"

    def _alpha(self, net: Network, n: int, frozen: int) -> float | None:
        # all samples of a linear network share one delta_l: the projector on its range has 1 / n on the diagonal
        hidden = 1 if net.activation == linear else n
        layers = range(frozen, len(net.shapes))
        spans = all(net.shapes[l][1] >= n and has_full_rank(net, [l], n) for l in layers)
        if not spans or any(hidden * net.widths[-1] > M for M in net.widths[frozen + 1 : -1]):
            return None
        if self.bias == "separate" and net.sigma_b:
            return None  # the output bias adds 1 1^T
        return float(hidden * (len(layers) - 1)) + (n if self.last == "identity" else 1.0)
