"""K-FAC: each layer's block is the Kronecker product of the Gram matrices of its backward signals and of its inputs.

    G_l         = (B*_l + rho I) (x) (A*_{l-1} + rho I)                                         K&O (20)
    A*_{l-1}    = h_{l-1}^T h_{l-1} / N,    B*_l = delta_l^T delta_l / N summed over outputs,   (S.95)
    B*_L        = I / N (last="identity"), or as the others, which is I (last="gram")
    direction_l = (B*_l + rho I)^{-1/q} delta_l^T E h_{l-1} (A*_{l-1} + rho I)^{-1/q} / N,      E[(n,c), n] = e[n,c]
    Theta_bar   = sum_l [B'_l (B_l / N + rho I)^{-1/q}] * [A'_{l-1} (A_{l-1} / N + rho I)^{-1/q}] / N       (21), (S.96)

with A' = A(x', x) and B' = B(x', x). bias="augmented" treats the bias as one more input; bias="separate" gives it the
block b^2 delta_l^T delta_l / N^2 + rho I of (S.123), b the bias column of h, and K-FAC the weights alone. The damping
is on each factor, not on the product.
"""

from ..activations import linear
from ..arrays import Array, array_module
from ..kernels import Kernels, hadamard, kernels
from ..network import Network, Signals
from ..spectral import damped, gram_solve, solve
from .base import GramFisher


class KFAC(GramFisher):
    """G of K&O (20), for any number of outputs; alpha = N L, or N (L-1) + 1 with last="gram".

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
        G, start = xp.zeros((s.P, s.P), s.f.dtype), 0
        for l, (h, delta) in enumerate(zip(s.h, s.delta, strict=True), 1):
            weights, b = self._split(s, h)
            delta = delta.reshape(N * C, -1)
            A, B = weights.T @ weights / N, delta.T @ delta / N
            if l == len(s.h):
                B = self._last(N) * xp.eye(C, dtype=B.dtype)
            M, m, k = len(B), len(A), h.shape[1]
            G_l = xp.zeros((M, k, M, k), G.dtype)
            G_l[:, :m, :, :m] = damped(B, rho)[:, None, :, None] * damped(A, rho)[:, None, :]
            if b:
                G_l[:, m, :, m] = damped(b * b * (delta.T @ delta) / N**2, rho)
            G[start : start + M * k, start : start + M * k] = G_l.reshape(M * k, M * k)
            start += M * k
        return G

    def _direction(self, s, e, rho, q):
        xp = array_module(e)
        N, C = e.shape
        I = xp.eye(N, dtype=e.dtype)
        E = (e[:, :, None] * I[:, None, :]).reshape(N * C, N)
        dW = []
        for l, (h, delta) in enumerate(zip(s.h, s.delta, strict=True), 1):
            weights, b = self._split(s, h)
            delta = delta.reshape(N * C, -1)
            if l < len(s.h):
                left = gram_solve(delta, E, N, rho, q, self.rcond, self.refine)  # (M_l, N)
            else:
                left = e.T / (self._last(N) + rho) ** (1 / q)
            right = gram_solve(weights, I, N, rho, q, self.rcond, self.refine)  # (M_{l-1}, N)
            dw = (left / N) @ right.T
            if b:
                column = gram_solve(b * delta, e.reshape(-1, 1) / N, N**2, rho, q, self.rcond, self.refine)
                dw = xp.concatenate([dw, column], axis=1)
            dW.append(dw)
        return dW

    def _coefficient(self, test, train, rho, q):
        weights = [Signals(s.f, [self._split(s, h)[0] for h in s.h], s.delta) for s in (test, train)]
        b = self._split(train, train.h[0])[1]
        return self.kernel_coefficient(kernels(*weights), kernels(weights[1], weights[1]), rho, q, b)

    def kernel_coefficient(
        self, cross: Kernels, train: Kernels, rho: float = 0.0, q: float = 1, b: float = 0.0
    ) -> Array:
        """Theta_bar(x', x) (N'C, NC) from the kernels alone; b != 0: the bias is in a block of its own, not in A."""
        N, L = len(train.A[0]), len(train.A)
        Theta_bar = 0
        for l, (A1, B1, A, B) in enumerate(zip(cross.A, cross.B, train.A, train.B, strict=True), 1):
            left = solve(B / N, B1.T, rho, q, rcond=self.rcond).T if l < L else B1 / (self._last(N) + rho) ** (1 / q)
            right = solve(A / N, A1.T, rho, q, rcond=self.rcond).T
            Theta_bar = Theta_bar + hadamard(left, right) / N
            if b:
                Theta_bar = Theta_bar + solve(b * b * B / N**2, b * b * B1.T, rho, q, rcond=self.rcond).T / N
        return Theta_bar

    def _split(self, s: Signals, h: Array) -> tuple[Array, float]:
        """The inputs that K-FAC sees, and the bias column's value if it has a block of its own, else 0."""
        return (h[:, :-1], s.bias) if self.bias == "separate" and s.bias else (h, 0.0)

    def _last(self, N: int) -> float:
        """B*_L is this multiple of I_C."""
        return 1 / N if self.last == "identity" else 1.0

    def _alpha(self, net: Network, n: int) -> float | None:
        inputs_fit = all(k >= n for _, k in net.shapes)
        if net.activation == linear:
            hidden, hidden_fit = 1, all(net.widths[-1] <= M for M in net.widths[1:])  # all samples share one delta_l
        else:
            hidden, hidden_fit = n, all(n * net.widths[-1] <= M for M in net.widths[1:-1])
        if not (inputs_fit and hidden_fit) or (self.bias == "separate" and net.sigma_b):
            return None  # a trained output bias of its own adds 1 1^T: not isotropic
        return float(hidden * (len(net.shapes) - 1)) + 1 / self._last(n)
