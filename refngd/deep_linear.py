"""Deep linear networks under curvature-corrected updates, from gradient descent to the natural gradient: Huh (2020).

    w_bar   = w_d .. w_1,   L_i = w_d .. w_{i+1},   R_i = w_{i-1} .. w_1 S,   Sigma_x = S S^T
    loss    = ||E||^2 / 2 + const,   E = (w_bar - w_bar_*) S = Delta S                                       Huh (1)
    push    = sum_i L_i dw_i R_i                     d(w_bar S), which Huh writes J^T dw
    pull    = L_i^T Lambda R_i^T                     J Lambda; the gradient is pull(E)                       (4)
    H_+     = pull(push(.)),   H = H_+ + J' E        Gauss-Newton matrix and Hessian                         (2), (3)
    K       = sum_i R_i^T R_i (x) L_i L_i^T          J^T J, (n_in n_out, n_in n_out)
    full    : u = pull(Lambda),   Lambda = K^{-1/q} E                    w' = -eta u                         (9), (12)
    block   : u_i = d^{-1/q} pull_i(Lambda_i),   Lambda_i = (R_i^T R_i (x) L_i L_i^T)^{-1/q} E               (19)
    c_i     = w_i w_i^T - w_{i+1}^T w_{i+1}          conserved by w' = -eta pull(Lambda), whatever Lambda    (15)

Inputs need not be white: S (n_in, r) in R_i and E is all that Sigma_x changes. Where Sigma_x is singular, as with fewer
samples than inputs, r < n_in is its rank, and r stands for n_in in the sizes of E, Lambda and K. Vectors of length
n_in n_out are input-major, i.e. Lambda^T row by row. H_+ is the Fisher matrix of the core on the r samples of
`Statistics.pseudo_samples`, and u its `direction`; what this file has beyond the core is the Kronecker structure.

Weights are a list of w_i (n_i, n_{i-1}), NumPy or CuPy arrays of one dtype; layer i stands at index i - 1.
`Network(.., linear, sigma_w, parameterization="standard").init(rng)` draws them from N(0, sigma_w^2 / n_{i-1}).

Everything down to "How a power of K is taken" is the paper; what follows there keeps it right at any scale of the
weights and down to the singular values of J that rounding leaves.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from .arrays import Array, array_module, require_memory
from .checks import (
    checked_array,
    checked_damping,
    checked_flag,
    checked_instance,
    checked_list,
    checked_matrices,
    checked_number,
    checked_rcond,
    checked_shape,
    checked_symmetric,
)
from .jacobian import shaped
from .spectral import SAFE, cutoff, damped, eigen, gain, inverse, largest, root_svd, thin_svd

Pairs = list[tuple[Array, Array]]  # L_i, R_i of some layers


@dataclass(frozen=True, eq=False)
class Statistics:
    """What training sees of a data set: the map wanted and the covariance of the inputs.

    w_star: (n_out, n_in), the map wanted, E[y x^T] Sigma_x^{-1}; where Sigma_x is singular any one that solves the
        normal equations w_star Sigma_x = E[y x^T], since loss and E see w_star S alone.
    S: (n_in, r), a root of Sigma_x = S S^T of rank r, as `of` and `with_covariance` find it; None for whitened inputs.
    const: the least loss.

    Raises ValueError unless w_star, and S if given, are finite arrays of one kind that fit, the columns of S are
    independent, and const is finite.
    """

    w_star: Array
    S: Array | None = None
    const: float = 0.0

    def __post_init__(self) -> None:
        checked_array("w_star", self.w_star, ("n_out", "n_in"))
        object.__setattr__(self, "const", checked_number("const", self.const, "a finite number", math.isfinite))
        if self.S is not None:
            n_in, r = checked_array("S", self.S, (self.w_star.shape[1], "r"), self.w_star).shape
            _, t, _ = root_svd(self.S)
            if (rank := int((t > 0).sum())) < r:
                raise ValueError(
                    f"S has {r} columns of rank {rank}; expected as many as the rank of Sigma_x, {n_in} at most, as "
                    "Statistics.of and with_covariance make them"
                )

    @classmethod
    def of(cls, x: Array, y: Array) -> "Statistics":
        """The statistics of samples x (P, n_in) with targets y (P, n_out); of all maps wanted the one of least norm.

        Raises ValueError for other arguments, if all x are zero, and if the least loss overflows.
        """
        checked_array("x", x, ("P", "n_in"))
        checked_array("y", y, (len(x), "n_out"), x)
        U, t, Vt = thin_svd(x)  # Sigma_x would square the condition number
        U, t, V = U[:, t > 0], t[t > 0], Vt[t > 0].T
        _require_some(len(t))
        w_star = (y.T @ U / t) @ V.T
        rest = norm([y - x @ w_star.T]) / math.sqrt(2 * len(x))
        return cls(w_star, _root(V * (t / math.sqrt(len(x))), V), rest * rest)

    @classmethod
    def with_covariance(cls, w_star: Array, Sigma_x: Array, const: float = 0.0) -> "Statistics":
        """The statistics of inputs with a given covariance.

        w_star: (n_out, n_in), the map wanted.
        Sigma_x: (n_in, n_in), E[x x^T].
        const: the loss that is left at w_star.

        Raises ValueError for other arguments, and unless Sigma_x is positive semi-definite, and not zero.
        """
        checked_array("w_star", w_star, ("n_out", "n_in"))
        checked_array("Sigma_x", Sigma_x, 2 * w_star.shape[1:], w_star)
        w, V = eigen(checked_symmetric("Sigma_x", Sigma_x))
        rounding = cutoff(len(w), w.dtype) * abs(w).max()
        if w.min() < -rounding:
            raise ValueError(f"Sigma_x has a negative eigenvalue, {float(w.min()):.3g}; expected a covariance")
        w, V = w[w > rounding], V[:, w > rounding]
        _require_some(len(w))
        return cls(w_star, _root(V * w**0.5, V), const)

    def pseudo_samples(self) -> tuple[Array, Array]:
        """x (r, n_in) and y (r, n_out) of these statistics, `const` aside: the core runs on them unchanged."""
        x = math.sqrt(self.root.shape[1]) * self.root.T
        return x, x @ self.w_star.T

    @property
    def is_regular(self) -> bool:
        """Whether Sigma_x is, so that the map wanted is unique."""
        return self.S is None or self.S.shape[0] == self.S.shape[1]

    @property
    def root(self) -> Array:
        """S (n_in, r), the identity for whitened inputs."""
        xp, n_in = array_module(self.w_star), self.w_star.shape[1]
        return xp.eye(n_in, dtype=self.w_star.dtype) if self.S is None else self.S


@dataclass(frozen=True)
class Rule:
    """An update rule w' = -eta u: `Rule(inf)` SGD, `Rule(1)` NGD, `Rule(2)` sqrt-NGD, with block=True NGD-d, ..

    q: the power of H_+^{-1/q}, in [1, inf].
    block: take the diagonal blocks of H_+ alone, one a layer, and the factor d^{-1/q}, Huh (19).
    rho: Levenberg-Marquardt damping, H_+ + rho I; 0 for the Moore-Penrose pseudo-inverse.
    clip: the largest norm of u, all layers together; a longer u is shortened, after all else.
    regularised: multiply by (1 + rho)^{1/q}, so that rho -> inf is SGD, (S.I.15), or d^{-1/q} of it for blocks.
    rcond: which singular values of J count as zero, relative to the largest, and in block rules of L_i and of R_i; with
        damping too. None for what rounding leaves of a zero: see `singular_cutoff`, and `spectral.cutoff` for blocks.

    Raises ValueError for numbers out of range.
    """

    q: float = 1
    block: bool = False
    rho: float = 0.0
    clip: float = math.inf
    regularised: bool = False
    rcond: float | None = None

    def __post_init__(self) -> None:
        rho, q = checked_damping(self.rho, self.q)
        numbers = dict(rho=rho, q=q, clip=checked_number("clip", self.clip, "a number > 0", lambda v: v > 0))
        for name, value in (numbers | dict(rcond=checked_rcond(self.rcond))).items():
            object.__setattr__(self, name, value)  # NumPy scalars would promote float32 arrays
        checked_flag("block", self.block), checked_flag("regularised", self.regularised)

    def update(self, w: list[Array], data: Statistics) -> list[Array]:
        """u, a list like w; 0 where J = 0.

        Raises ValueError where w and data do not fit, and FloatingPointError if u is beyond the range of its dtype.
        """
        check(w, data)
        blocks = [slice(i, i + 1) for i in range(len(w))] if self.block else [slice(None)]
        factor = len(w) ** (-1 / self.q) if self.block else 1.0
        if self.regularised:
            factor *= (1 + self.rho) ** (1 / self.q)
        with np.errstate(all="ignore"):  # `_shortened` reports it
            L, R, E = _scaled_factors(w, data)
            u = [u_i for b in blocks for u_i in _natural(L[b], R[b], E, data.S is None, self)[1]]
            return _shortened(u, factor, self.clip)


def product(w: list[Array]) -> Array:
    """w_bar = w_d .. w_1 (n_out, n_in). Raises ValueError unless w is a list of finite matrices that chain."""
    check_chain(w)
    return _product(w)


def _product(w: list) -> Any:
    return reduce(lambda w_bar, w_i: w_i @ w_bar, w)


def partial_products(w: list[Array], S: Array | None = None) -> tuple[list[Array], list[Array]]:
    """L_1, .., L_d, L_i (n_out, n_i), and R_1, .., R_d, R_i (n_{i-1}, n_in), with S (n_in, r) if there is one.

    Raises ValueError, as all that calls it, unless w is a list of finite matrices that chain.
    """
    check_chain(w)
    xp, dtype = array_module(w[0]), w[0].dtype
    return _chains(w, xp.eye(w[0].shape[1], dtype=dtype) if S is None else S, xp.eye(len(w[-1]), dtype=dtype))


def _chains(w: list, first: Any, last: Any) -> tuple[list, list]:
    L, R = [last] * len(w), [first] * len(w)
    for i in range(len(w) - 1, 0, -1):
        L[i - 1] = L[i] @ w[i]
    for i in range(1, len(w)):
        R[i] = w[i - 1] @ R[i - 1]
    return L, R


def partial_pairs(w: list[Array], S: Array | None) -> Iterator[tuple[Array, Array]]:
    """L_i, R_i of one layer after the other: see `partial_products`."""
    return zip(*partial_products(w, S), strict=True)


def displacement(w: list[Array], data: Statistics) -> Array:
    """E = Delta S (n_out, r), Huh (1); nan where w is not finite. Raises ValueError unless w and data fit."""
    check(w, data, checked_shape)
    Delta = _product(w) - data.w_star
    return Delta if data.S is None else Delta @ data.S


def loss(w: list[Array], data: Statistics) -> float:
    """E[||w_bar x - y||^2] / 2, Huh (1); inf or nan where it overflows. Raises ValueError unless w and data fit."""
    with np.errstate(all="ignore"):  # inf and nan are for the caller to judge
        return float((displacement(w, data) ** 2).sum()) / 2 + data.const


def push(w: list[Array], dw: list[Array], S: Array | None = None) -> Array:
    """The change of w_bar S (n_out, n_in) as w changes by dw, to first order: Huh's J^T dw, below (3).

    w: the weights, w_i (n_i, n_{i-1}).
    dw: arrays like those of w.
    S: (n_in, r), a root of Sigma_x, or None for white inputs.

    Raises ValueError for other arguments.
    """
    pairs = partial_pairs(w, S)
    checked_list("dw", dw, [w_i.shape for w_i in w], w[0])
    return sum(L @ dw_i @ R for (L, R), dw_i in zip(pairs, dw, strict=True))


def pull(w: list[Array], Lambda: Array, S: Array | None = None) -> list[Array]:
    """The transpose of `push`, a list like w: J Lambda of Huh (9).

    w, S: those of `push`.
    Lambda: (n_out, n_in), or (n_out, r) with an S.

    Raises ValueError for other arguments.
    """
    pairs = partial_pairs(w, S)
    checked_array("Lambda", Lambda, (len(w[-1]), (w[0] if S is None else S).shape[1]), w[0])
    return [L.T @ Lambda @ R.T for L, R in pairs]


def gradient(w: list[Array], data: Statistics) -> list[Array]:
    """g_i = L_i^T E R_i^T, a list like w, Huh (4). Raises ValueError unless w and data fit."""
    check(w, data)
    return pull(w, displacement(w, data), data.S)


def gauss_newton_product(w: list[Array], dw: list[Array], S: Array | None = None) -> list[Array]:
    """H_+ dw, a list like w, Huh (3). Raises as `push`."""
    return pull(w, push(w, dw, S), S)


def hessian_product(w: list[Array], dw: list[Array], data: Statistics) -> list[Array]:
    """H dw, a list like w: the change of the gradient as w changes by dw, to first order, Huh (2).

    Raises as `push` and `gradient`.
    """
    check(w, data)
    checked_list("dw", dw, [w_i.shape for w_i in w], w[0])
    E, S, d = displacement(w, data), data.S, len(w)
    L, R = partial_products(w, S)
    dL, dR = [0 * L[-1]] * d, [0 * R[0]] * d  # the changes of L_i and R_i, by the product rule
    for i in range(d - 1, 0, -1):
        dL[i - 1] = dL[i] @ w[i] + L[i] @ dw[i]
    for i in range(1, d):
        dR[i] = w[i - 1] @ dR[i - 1] + dw[i - 1] @ R[i - 1]
    second = [dl.T @ E @ r.T + l.T @ E @ dr.T for dl, l, dr, r in zip(dL, L, dR, R, strict=True)]
    return [a + b for a, b in zip(gauss_newton_product(w, dw, S), second, strict=True)]


def null_update(w: list[Array], m: Sequence[Array]) -> list[Array]:
    """dw_i = m_i w_i - w_i m_{i-1}, which leaves w_bar alone; m_i (n_i, n_i) for i = 1..d-1, m_0 = m_d = 0.

    Huh, section 2, for any depth. Where a layer is narrow there are changes besides these that leave w_bar alone.
    Raises ValueError for other shapes.
    """
    check_chain(w)
    checked_list("m", m, [2 * w_i.shape[:1] for w_i in w[:-1]], w[0])
    dw = [0 * w_i for w_i in w]
    for i, m_i in enumerate(m):
        dw[i] = dw[i] + m_i @ w[i]
        dw[i + 1] = dw[i + 1] - w[i + 1] @ m_i
    return dw


def multiplier(w: list[Array], data: Statistics, q: float = 1, rho: float = 0.0, rcond: float | None = None) -> Array:
    """Lambda = (K + rho I)^{-1/q} E (n_out, n_in); for NGD the Lambda of Huh (9), (S.I.9), (S.I.10).

    w: the weights, w_i (n_i, n_{i-1}).
    data: the statistics of the samples.
    q, rho, rcond: those of `Rule`.

    With d = 2 and whitened inputs K is a Kronecker sum, which for q = 1 is a Sylvester equation, and takes two small
    decompositions; else K is formed, and this costs O((n_in n_out)^3). Raises ValueError, MemoryError, and
    FloatingPointError if Lambda is beyond the range of its dtype.
    """
    check(w, data)
    with np.errstate(all="ignore"):  # `_in_range` reports it
        L, R, E = _scaled_factors(w, data)
        Lambda, _ = _natural(L, R, E, data.S is None, Rule(q, rho=rho, rcond=rcond))
        return _in_range([_shift(Lambda.m, Lambda.k)], "Lambda")[0]


def kernel(w: list[Array], S: Array | None = None) -> Array:
    """K (n_in n_out, n_in n_out). Raises MemoryError if it cannot fit."""
    return _kernel(list(partial_pairs(w, S)))


def _kernel(pairs: Pairs) -> Array:
    L, R = pairs[0]
    xp, n = array_module(L), len(L) * R.shape[1]
    require_memory(xp, 4 * n * n * L.itemsize, f"K ({n} x {n}) and its work space", "use a block-diagonal rule")
    return sum(xp.kron(R.T @ R, L @ L.T) for L, R in pairs)


def conserved(w: list[Array]) -> list[Array]:
    """c_1, .., c_{d-1}, c_i (n_i, n_i): constant under every full rule, damped and clipped ones included, Huh (15).

    Raises ValueError unless w is a list of finite matrices that chain.
    """
    check_chain(w)
    return [a @ a.T - b.T @ b for a, b in pairwise(w)]


def euler_drift(u: list[Array], h: float) -> list[Array]:
    """What a step w - h u of a full rule adds to `conserved`: h^2 (u_i u_i^T - u_{i+1}^T u_{i+1}), exactly.

    Raises as `conserved`, and for an h that is not finite.
    """
    check_chain(u, name="u")
    h = checked_number("h", h, "a finite number", math.isfinite)
    return [h * h * c for c in conserved(u)]


def norm(w: list[Array]) -> float:
    """||w|| = sqrt(sum_i ||w_i||_F^2), whatever the scale; nan or inf where w is not finite.

    Raises ValueError unless w is a list of matrices.
    """
    sizes = [float(abs(w_i).max()) for w_i in checked_matrices("w", w, checked_shape)]
    top = max(sizes)
    if not 0 < top < math.inf or math.isnan(sum(sizes)):
        return sum(sizes)
    return top * math.sqrt(sum(float(((w_i / top) ** 2).sum()) for w_i in w))


def check(w: list[Array], data: Statistics, each: Callable[..., Array] = checked_array) -> None:
    """Raise ValueError unless w is a list as `check_chain` asks for, of the kind of data, and maps as w_star does."""
    checked_instance("data", data, Statistics, "the Statistics of a data set")
    check_chain(w, each)
    n_out, n_in = len(w[-1]), w[0].shape[1]
    if (n_out, n_in) != data.w_star.shape:
        raise ValueError(f"w maps {n_in} inputs to {n_out} outputs; w_star is {data.w_star.shape}")
    checked_shape("w[0]", w[0], w[0].shape, data.w_star)


def check_chain(w: list[Array], each: Callable[..., Array] = checked_array, name: str = "w") -> None:
    """Raise ValueError unless w is a list of finite matrices (n_1, n_0), (n_2, n_1), .. of one kind.

    each: `checked_shape` where it is not to be asked whether they are finite.
    """
    shapes = [w_i.shape for w_i in checked_matrices(name, w, each)]
    if any(a[0] != b[1] for a, b in pairwise(shapes)):
        raise ValueError(f"{name} has shapes {shapes}; expected (n_1, n_0), (n_2, n_1), .., (n_d, n_{{d-1}})")


def _root(V_s: Array, V: Array) -> Array:
    """S of Sigma_x = V s^2 V^T from V s and V (n_in, r): the symmetric one if Sigma_x is regular, else V s."""
    return V_s @ V.T if V.shape[0] == V.shape[1] else V_s


def _require_some(rank: int) -> None:
    if not rank:
        raise ValueError("Sigma_x is zero; expected inputs that are not all zero")


# ---------------------------------------------------------------------------------------- How a power of K is taken
#
# With the singular values s of J = U s V^T, U (P, n), V (n, n), n = n_in n_out:
#
#     Lambda = V (s^2 + rho)^{-1/q} V^T E,   u = U s (s^2 + rho)^{-1/q} V^T E
#
# A block of one layer, and two layers with whitened inputs, have s and V from their factors. Else the decomposition of
# J is accurate, to u cond(J), and slow. K = J^T J has V as well, much faster, but the squares s^2, of which those
# below u of the largest are lost: `_by_kernel` mends what can be mended, and declines the rest.


def singular_cutoff(n: int, dtype: Any, rcond: float | None = None) -> float:
    """Singular values of J below this share of the largest count as zero: `rcond`, or by default 2 sqrt(n) eps.

    Rounding changes an entry of J by about eps of it, so J by about eps ||J||_F <= eps sqrt(n) s_max, n = n_in n_out
    being the number of singular values; and none of these moves by more than the norm of the change. Of exact zeros it
    leaves up to 0.9 sqrt(n) eps s_max, measured for n = 4, and less for larger n.
    """
    return 2 * math.sqrt(n) * float(np.finfo(dtype).eps) if rcond is None else float(rcond)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """The matrix m 2^k. As `of` makes it, the largest |m| is in [1, 2), so that products stay within the range."""

    m: Array
    k: int

    @classmethod
    def of(cls, a: Array, k: int = 0) -> "_Scaled":
        top = largest(a)
        shift = math.frexp(top)[1] - 1 if top else -(2**20)  # a zero is smaller than all else
        return cls(_shift(a, -shift), k + shift)

    def __matmul__(self, other: "_Scaled") -> "_Scaled":
        return _Scaled.of(self.m @ other.m, self.k + other.k)

    def __sub__(self, other: "_Scaled") -> "_Scaled":
        k = max(self.k, other.k)
        return _Scaled.of(_shift(self.m, self.k - k) - _shift(other.m, other.k - k), k)


def _shift(a: Array, k: int) -> Array:
    """a 2^k."""
    return array_module(a).ldexp(a, k)


def _scaled_factors(w: list[Array], data: Statistics) -> tuple[list[_Scaled], list[_Scaled], _Scaled]:
    """L_i, R_i and E, as `partial_products` and `displacement` have them, where these would leave the range."""
    layers, S = [_Scaled.of(w_i) for w_i in w], _Scaled.of(data.root)
    last = _Scaled.of(array_module(w[0]).eye(len(w[-1]), dtype=w[0].dtype))
    Delta = _product(layers) - _Scaled.of(data.w_star)
    return *_chains(layers, S, last), Delta if data.S is None else Delta @ S


def is_saddle(w: list[Array], data: Statistics) -> bool:
    """Whether J = 0, as where two layers or more are zero."""
    L, R, _ = _scaled_factors(w, data)
    return not any(largest(l.m) and largest(r.m) for l, r in zip(L, R, strict=True))


def _natural(L: list[_Scaled], R: list[_Scaled], E: _Scaled, white: bool, rule: Rule) -> tuple[_Scaled, list[_Scaled]]:
    """Lambda = (K + rho I)^{-1/q} E and u_i = L_i^T Lambda R_i^T, with the K of these layers alone."""
    if math.isinf(rule.q):
        return E, _pulled(L, R, E)
    k = [l.k + r.k for l, r in zip(L, R, strict=True)]  # J_i is of the size of 2^k_i
    top = max(k)
    if rule.rho:
        top = max(top, (math.frexp(rule.rho)[1] + 1) // 2)  # J^T J + rho I, over 4^top, is of the size of 1
    pairs, shifts = [(l.m, r.m) for l, r in zip(L, R, strict=True)], [k_i - top for k_i in k]
    route = _one_layer if len(k) == 1 else _two_layers if len(k) == 2 and white else _many_layers
    Lambda, u = route(pairs, shifts, E.m, rule, math.ldexp(rule.rho, -2 * top))
    whole, rest = divmod(2 * top, rule.q)  # 2^{-2 top / q}, without losing digits of a large exponent
    fraction, x = 2.0 ** (-rest / rule.q), E.k - int(whole)
    Lambda = _Scaled.of(fraction * Lambda, x)
    if u is None:
        return Lambda, _pulled(L, R, Lambda)
    return Lambda, [_Scaled.of(fraction * u_i, x + k_i) for u_i, k_i in zip(u, k, strict=True)]


def _pulled(L: list[_Scaled], R: list[_Scaled], Lambda: _Scaled) -> list[_Scaled]:
    return [_Scaled.of(l.m.T @ Lambda.m @ r.m.T, l.k + Lambda.k + r.k) for l, r in zip(L, R, strict=True)]


def _one_layer(pairs: Pairs, shifts: list[int], E: Array, rule: Rule, rho: float) -> tuple[Array, list[Array]]:
    """J = R^T (x) L: its singular values are the products of theirs."""
    ((L, R),) = pairs
    (U, a, Za), (V, b, Yb) = root_svd(L, rule.rcond), root_svd(R.T, rule.rcond)  # L = U Za^T, R = Yb V^T
    G = _gain(_shift(a[:, None] * b, shifts[0]), rho, rule.q) * (U.T @ E @ V)
    return U @ G @ V.T, [Za @ G @ Yb.T]


def _two_layers(pairs: Pairs, shifts: list[int], E: Array, rule: Rule, rho: float) -> tuple[Array, list[Array]]:
    """K = I (x) w_2 w_2^T + w_1^T w_1 (x) I: its eigenvalues are the sums of theirs."""
    (w_2, _), (_, w_1) = pairs
    (U, a, Za), (V, b, Yb) = root_svd(_at_least_square(w_2), 0.0), root_svd(_at_least_square(w_1.T), 0.0)
    s = (_shift(a, shifts[0])[:, None] ** 2 + _shift(b, shifts[1]) ** 2) ** 0.5  # (n_out, n_in)
    s, c = _live(s, singular_cutoff(s.size, s.dtype, rule.rcond)), U.T @ E @ V
    G = _gain(s, rho, rule.q) * c
    Lambda = U @ (G + array_module(E).where(s > 0, 0, _aside(rho, rule.q) * c)) @ V.T
    return Lambda, [Za[: len(w_1)] @ G @ V.T, U @ G @ Yb[: len(w_1)].T]


def _many_layers(pairs: Pairs, shifts: list[int], E: Array, rule: Rule, rho: float) -> tuple[Array, list[Array] | None]:
    """From K where its eigenvectors are good enough, else from J."""
    J = [(L, _shift(R, shift)) for (L, R), shift in zip(pairs, shifts, strict=True)]
    e, u, rcond = E.T.reshape(-1, 1), None, singular_cutoff(E.size, E.dtype, rule.rcond)  # e is input-major
    Lambda, condition = _by_kernel(J, e, rule.q, rho, rcond) if rule.rcond is None else (None, 0.0)
    if Lambda is None or _cancels(J, Lambda, condition):
        inside, outside, theta = _by_singular_values(J, e, rule.q, rho, rcond)
        Lambda = inside + outside
        if 2.0 ** min(shifts) > rcond:
            u = [_shift(u_i, -shift) for u_i, shift in zip(theta, shifts, strict=True)]
        else:  # J does not feel some layers, and theta has lost theirs
            u = [L.T @ inside.reshape(E.T.shape).T @ R.T for L, R in pairs]
    return Lambda.reshape(E.T.shape).T, u


def _by_kernel(J: Pairs, e: Array, q: float, rho: float, rcond: float) -> tuple[Array | None, Array | float]:
    """(K + rho I)^{-1/q} e (n, 1), or None where K is too ill-conditioned to be right to about u cond(J), and cond(K).

    K as it is formed is off by u ||K||, and so are its eigenvectors V. What that has done is in J V, taken from the
    factors: its columns are nearly orthogonal, J V = Q D, D diagonal, Q^T Q = I + F. A correction of first order in F
    leaves an error of the second, which is rounding while ||F||_F^2 <= eps. At q = 1 it is one step of iterative
    refinement with the inverse of K, which is cheaper.
    """
    xp, eps, K = array_module(e), float(np.finfo(e.dtype).eps), damped(_kernel(J), rho)
    if q == 1:
        inverse_K, condition = inverse(K)
        if condition * eps**0.5 < 1:
            Lambda = inverse_K @ e
            return Lambda + inverse_K @ (e - _gauss_newton(J, Lambda) - rho * Lambda), condition
    _, V = eigen(K)
    G = damped(V.T @ _gauss_newton(J, V), rho)  # D (I + F) D
    w = G.diagonal()
    if not w.min() > rcond**2 * w.max():
        return None, math.inf
    off, condition = G - xp.diag(w), w.max() / w.min()
    if not (off**2 / w / w[:, None]).sum() <= eps:
        return None, condition
    c = V.T @ e
    return V @ (w[:, None] ** (-1 / q) * c + (_divided_differences(w, q) * off) @ c), condition


def _cancels(J: Pairs, Lambda: Array, condition: Array | float) -> bool:
    """Whether Lambda (n, 1) is so large outside the range of K that u cancels: where rho is small and J loses rank."""
    size = sum((L * L).sum() * (R * R).sum() for L, R in J)  # ||J||_F^2
    return bool(size * (Lambda * Lambda).sum() > SAFE * condition * (Lambda * _gauss_newton(J, Lambda)).sum())


def _gauss_newton(J: Pairs, X: Array) -> Array:
    """K X for columns X (n, k), from the factors of K."""
    KX = 0
    for L, R in J:
        Y = (R.T @ (R @ X.reshape(R.shape[1], -1))).reshape(R.shape[1], len(L), -1)  # (n_in, n_out, k)
        KX = KX + (L @ (L.T @ Y)).reshape(X.shape)
    return KX


def _divided_differences(w: Array, q: float) -> Array:
    """(f(w_i) - f(w_j)) / (w_i - w_j) (n, n) for f(w) = w^{-1/q}, and f'(w_j) where w_i is next to w_j."""
    xp, f, gap = array_module(w), w ** (-1 / q), w[:, None] - w
    near = abs(gap) <= float(np.finfo(w.dtype).eps) ** 0.5 * w
    return xp.where(near, -f / (q * w), (f[:, None] - f) / xp.where(near, 1, gap))


def _by_singular_values(J: Pairs, e: Array, q: float, rho: float, rcond: float) -> tuple[Array, Array, list[Array]]:
    """(K + rho I)^{-1/q} e (n, 1) on the range of K and outside of it, and J times that, a list like the weights."""
    xp, shapes = array_module(e), [(len(R), L.shape[1]) for L, R in J]
    P = sum(math.prod(shape) for shape in shapes)
    require_memory(xp, 4 * P * e.nbytes, f"J ({P} x {len(e)}) and its work space", "use a block-diagonal rule")
    U, s, Vs = root_svd(xp.concatenate([xp.kron(R, L.T) for L, R in J]), rcond)  # rows (n_{i-1} n_i), columns e's
    V = Vs / xp.where(s > 0, s, 1)
    c = V.T @ e
    theta = U @ (s[:, None] * gain(s, rho, q).T * c)
    missing = int((s > 0).sum()) < len(e)  # else what is left of e is rounding
    outside = _aside(rho, q) * missing * (e - V @ c)
    return V @ (gain(s, rho, q).T * c), outside, [u_i.T for u_i in shaped(theta[:, 0], shapes)]


def _aside(rho: float, q: float) -> float:
    """(0 + rho)^{-1/q}, 0 for a pseudo-inverse."""
    return rho ** (-1 / q) if rho else 0.0


def _gain(s: Array, rho: float, q: float) -> Array:
    """(s^2 + rho)^{-1/q}, 0 where s is, of the shape of s (n, m)."""
    return gain(s, rho, q)[:, 0]


def _live(s: Array, rcond: float) -> Array:
    """s, and 0 where it counts as zero."""
    return array_module(s).where(s > rcond * s.max(), s, 0)


def _at_least_square(a: Array) -> Array:
    """a (n, m), with columns of zeros up to m = n, so that it has n left singular vectors."""
    xp = array_module(a)
    return xp.concatenate([a, xp.zeros((len(a), max(len(a) - a.shape[1], 0)), a.dtype)], axis=1)


def _shortened(u: list[_Scaled], factor: float, clip: float) -> list[Array]:
    """factor u, or of it what has the norm `clip` if it is longer."""
    ratio, k = math.frexp(factor)
    top = max(u_i.k for u_i in u)
    size = ratio * norm([_shift(u_i.m, u_i.k - top) for u_i in u])  # of factor u / 2^(k + top)
    if size > 0 and math.log2(size) + k + top > math.log2(clip):
        ratio, k = ratio * clip / size, -top
    return _in_range([_shift(ratio * u_i.m, u_i.k + k) for u_i in u], "the update")


def _in_range(a: list[Array], name: str) -> list[Array]:
    if not math.isfinite(norm(a)):
        raise FloatingPointError(
            f"{name} is beyond the range of {a[0].dtype}: the weights are too large, or too small, for this rule"
        )
    return a
