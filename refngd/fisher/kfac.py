"""K-FAC: each layer's block is the Kronecker product of the Gram matrices of its backward signals and of its inputs.

    G_l         = (B*_l + rho I) (x) (A*_{l-1} + rho I)                                         K&O (20)
    A*_{l-1}    = h_{l-1}^T h_{l-1} / N,    B*_l = delta_l^T delta_l / N summed over outputs,   (S.95)
    B*_L        = I / N (last="identity"), or as the others, which is I for the MSE loss (last="gram")
    direction_l = (B*_l + rho I)^{-1/q} delta_l^T E h_{l-1} (A*_{l-1} + rho I)^{-1/q} / N,      E[(n,c), n] = e[n,c]
    Theta_bar   = sum_l [B'_l (B_l / N + rho I)^{-1/q}] * [A'_{l-1} (A_{l-1} / N + rho I)^{-1/q}] / N       (21), (S.96)

with A' = A(x', x), B' = B(x', x), and B'_L / (1/N + rho)^{1/q} as the first factor of a last layer with B*_L = I / N.
In `direction` each factor is formed on its smaller side, of the samples or of the width. bias="augmented" treats the
bias as one more input; bias="separate" gives it the block b^2 delta_l^T delta_l / N^2 + rho I of (S.123), b the bias
column of h, and K-FAC the weights alone. The damping is on each factor, not on the product.
"""

from dataclasses import replace
from functools import partial

from ..activations import linear
from ..arrays import Array, array_module
from ..kernels import hadamard
from ..network import Network, Signals
from ..spectral import damped, gram, solve
from .base import GramFisher, KernelFisher, has_full_rank


class KFAC(GramFisher, KernelFisher):
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

    bias, last: see above. rcond, refine: see `GramFisher`; they hold for each factor. Raises ValueError.
    """

    def __init__(
        self, bias: str = "augmented", last: str = "identity", *, rcond: float | None = None, refine: bool = True
    ) -> None:
        if bias not in ("augmented", "separate"):
            raise ValueError(f"bias is {bias!r}; expected 'augmented' or 'separate'")
        if last not in ("identity", "gram"):
            raise ValueError(f"last is {last!r}; expected 'identity' (B*_L = I / N) or 'gram' (B*_L = I)")
        super().__init__(rcond=rcond, refine=refine)
        self.bias, self.last = bias, last

    def _matrix(self, s, rho):
        xp = array_module(s.f)
        N, C = s.f.shape
        inputs, b = self._split(s)
        G, start = xp.zeros((s.P, s.P), s.f.dtype), 0
        for l, (h, delta, (M, k)) in enumerate(zip(inputs.h, s.delta, s.shapes, strict=True), 1):
            delta = delta.reshape(N * C, M)
            A, B = h.T @ h / N, delta.T @ delta / N
            if self._is_fixed(l, s.h):
                B = xp.eye(C, dtype=B.dtype) / N
            m = len(A)
            G_l = xp.zeros((M, k, M, k), G.dtype)
            G_l[:, :m, :, :m] = damped(B, rho)[:, None, :, None] * damped(A, rho)[:, None, :]
            if b:
                G_l[:, m, :, m] = damped(b * b * (delta.T @ delta) / N**2, rho)
            G[start : start + M * k, start : start + M * k] = G_l.reshape(M * k, M * k)
            start += M * k
        return G

    def _direction(self, s, e, rho, q):
        xp, N = array_module(e), len(e)
        inputs, b = self._split(s)
        solve, dW = partial(self._solve, rho=rho, q=q), []
        for l, (h, delta) in enumerate(zip(inputs.h, s.delta, strict=True), 1):
            rows = delta.reshape(e.size, -1)  # (NC, M_l)
            left = (e[:, None, :] @ delta)[:, 0].T / N  # delta_l^T E / N (M_l, N)
            if self._is_fixed(l, s.h):
                left /= (1 / N + rho) ** (1 / q)
            elif _is_wide(rows):
                left = rows.T @ solve(rows, _sample_columns(e) / N, N)
            # transposed: refinement makes h^T times a column accurate, not h^T times a row
            dw = left @ (solve(h, xp.eye(N, dtype=e.dtype), N).T @ h if _is_wide(h) else h)
            if not _is_wide(h):
                dw = solve(h.T, dw.T, N).T
            if not (self._is_fixed(l, s.h) or _is_wide(rows)):
                dw = solve(rows.T, dw, N)
            if b:
                rows, e_column = b * rows, e.reshape(-1, 1) / N
                wide = _is_wide(rows)
                column = rows.T @ solve(rows, e_column, N**2) if wide else solve(rows.T, rows.T @ e_column, N**2)
                dw = xp.concatenate([dw, column], axis=1)
            dW.append(dw)
        return dW

    def _solve(self, X: Array, B: Array, n: int, rho: float, q: float) -> Array:
        """(X X^T / n + rho I)^{-1/q} B (r, k) for X (r, m)."""
        product = (lambda Y: X @ (X.T @ Y) / n) if self.refine else None
        return solve(gram(X, n), B, rho, q, product=product, rcond=self.rcond)

    def _kernel_coefficient(self, cross, train, rho, q):
        N, b = len(train.A[0]), train.bias if self.bias == "separate" else 0.0
        Theta_bar = 0
        for l, (A1, B1, A, B) in enumerate(zip(cross.A, cross.B, train.A, train.B, strict=True), 1):
            if b:
                A1, A = A1 - b * b, A - b * b  # the bias has a block of its own
            if self._is_fixed(l, train.A):
                left = B1 / (1 / N + rho) ** (1 / q)
            else:
                left = solve(B / N, B1.T, rho, q, rcond=self.rcond).T
            right = solve(A / N, A1.T, rho, q, rcond=self.rcond).T
            Theta_bar = Theta_bar + hadamard(left, right) / N
            if b:
                Theta_bar = Theta_bar + solve(b * b * B / N**2, b * b * B1.T, rho, q, rcond=self.rcond).T / N
        return Theta_bar

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
        spans = all(net.shapes[l][1] >= n and has_full_rank(net, l, n) for l in layers)
        if not spans or any(hidden * net.widths[-1] > M for M in net.widths[frozen + 1 : -1]):
            return None
        if self.bias == "separate" and net.sigma_b:
            return None  # the output bias adds 1 1^T
        return float(hidden * (len(layers) - 1)) + (n if self.last == "identity" else 1.0)


def _is_wide(X: Array) -> bool:
    """Whether X X^T is smaller than X^T X: f(X^T X) X^T = X^T f(X X^T) offers both."""
    return len(X) <= X.shape[1]


def _sample_columns(e: Array) -> Array:
    """E (NC, N), E[(n,c), n] = e[n,c] and 0 elsewhere."""
    N, C = e.shape
    return (e[:, :, None] * array_module(e).eye(N, dtype=e.dtype)[:, None]).reshape(N * C, N)
