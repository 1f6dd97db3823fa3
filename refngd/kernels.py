"""The Gram matrices A_l, B_l of the signals, and the tangent kernels Theta_l that they make.

    A_{l-1}(x', x) = h_{l-1}(x') h_{l-1}(x)^T               (N', N)      scaled h: sigma_w^2 (S.66) + sigma_b^2
    B_l(x', x)     = delta_l(x') delta_l(x)^T               (N'C, NC)    (S.67), all outputs
    Theta_l        = B_l * A_{l-1} / N                      (N'C, NC)    (S.68), A repeated over outputs
    Theta          = sum_l Theta_l = J(x') J(x)^T / N                    K&O (6)

N is the number of training samples, the second argument, in the cross kernels too.
"""

from dataclasses import dataclass

from .arrays import Array
from .network import Network, Signals
from .spectral import gram


@dataclass(frozen=True)
class Kernels:
    """`A[l-1]` is A_{l-1} (N', N) and `B[l-1]` is B_l (N'C, NC), for l = 1..L."""

    A: list[Array]
    B: list[Array]

    @property
    def Theta(self) -> list[Array]:
        """Theta_1, .., Theta_L (N'C, NC)."""
        return [hadamard(B, A) / A.shape[1] for A, B in zip(self.A, self.B, strict=True)]


def empirical_kernels(test: Signals, train: Signals) -> Kernels:
    """A and B between two sets of samples at finite width; `empirical_kernels(train, train)` on the training set.

    Raises FloatingPointError if a training Gram matrix over- or underflows.
    """
    rows, columns = ([d.reshape(-1, d.shape[2]) for d in s.delta] for s in (test, train))
    if test is train:
        return Kernels([gram(h, 1) for h in train.h], [gram(d, 1) for d in columns])
    A = [h1 @ h.T for h1, h in zip(test.h, train.h, strict=True)]
    return Kernels(A, [d1 @ d.T for d1, d in zip(rows, columns, strict=True)])


def ntk(test: Signals, train: Signals) -> Array:
    """Theta(x', x) (N'C, NC), K&O (6)."""
    return sum(empirical_kernels(test, train).Theta)


def hadamard(B: Array, A: Array) -> Array:
    """B * A (N'C, NC), where A (N', N) is the same for all outputs."""
    (N1, N), C1, C = A.shape, B.shape[0] // A.shape[0], B.shape[1] // A.shape[1]
    return (B.reshape(N1, C1, N, C) * A[:, None, :, None]).reshape(B.shape)


def order_parameters(net: Network) -> list[float]:
    """q_1, .., q_L: the variance of u_l in the wide limit, for inputs of unit norm (S.138), (S.176)."""
    q, mean_square = [], 1 / net.widths[0]
    for _ in net.widths[1:]:
        q.append(net.sigma_w**2 * mean_square + net.sigma_b**2)
        mean_square = net.activation.mean_square(q[-1])
    return q
