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

Inputs need not be white: S in R_i and E is all that Sigma_x changes. Vectors of length n_in n_out are input-major, i.e.
Lambda^T row by row. H_+ is the Fisher matrix of the core on the n_in samples of `Statistics.pseudo_samples`, and u its
`direction`; what this file has beyond the core is the Kronecker structure.

Weights are a list of w_i (n_i, n_{i-1}), NumPy or CuPy arrays of one dtype; layer i stands at index i - 1.
`Network(.., linear, sigma_w, parameterization="standard").init(rng)` draws them from N(0, sigma_w^2 / n_{i-1}).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .arrays import Array, array_module, kind, raising, require_memory
from .checks import FLOATS, checked_damping, checked_rcond, checked_symmetric
from .spectral import cutoff, eigen, power_of_gram


@dataclass(frozen=True, eq=False)
class Statistics:
    """What training sees of a data set: the map wanted, w_star (n_out, n_in), and a root S (n_in, n_in) of Sigma_x.

    w_star = E[y x^T] Sigma_x^{-1}; S is None for whitened inputs, Sigma_x = I; const: the least loss. `of` and
    `with_covariance` find S. Raises ValueError unless w_star, and S if given, are finite arrays of one kind that fit,
    and S is not singular.
    """

    w_star: Array
    S: Array | None = None
    const: float = 0.0

    def __post_init__(self) -> None:
        _require("w_star", self.w_star, (None, None), self.w_star)
        if self.S is not None:
            _require("S", self.S, 2 * self.w_star.shape[1:], self.w_star)
            _, t, _ = _live_svd(self.S, None)
            _require_regular(t > 0, len(t))

    @classmethod
    def of(cls, x: Array, y: Array) -> "Statistics":
        """Those of samples x (P, n_in), y (P, n_out). Raises ValueError, also if Sigma_x = x^T x / P is singular."""
        _require("x", x, (None, None), x)
        _require("y", y, (len(x), None), x)
        P, n_in = x.shape
        U, t, Vt = _live_svd(x, None)  # Sigma_x would square the condition number
        _require_regular(t > 0, n_in)
        w_star = (y.T @ U / t) @ Vt
        return cls(w_star, (Vt.T * (t / math.sqrt(P))) @ Vt, float(((y - x @ w_star.T) ** 2).sum()) / (2 * P))

    @classmethod
    def with_covariance(cls, w_star: Array, Sigma_x: Array, const: float = 0.0) -> "Statistics":
        """Those of inputs with Sigma_x = E[x x^T] (n_in, n_in). Raises ValueError unless it is positive definite."""
        _require("w_star", w_star, (None, None), w_star)
        _require("Sigma_x", Sigma_x, 2 * w_star.shape[1:], w_star)
        w, V = eigen(checked_symmetric("Sigma_x", Sigma_x))
        _require_regular(w > cutoff(len(w), w.dtype) * abs(w).max(), len(w))
        return cls(w_star, (V * w**0.5) @ V.T, const)

    def pseudo_samples(self) -> tuple[Array, Array]:
        """x (n_in, n_in) and y (n_in, n_out) of these statistics, `const` aside: the core runs on them unchanged."""
        xp, n_in = array_module(self.w_star), self.w_star.shape[1]
        x = math.sqrt(n_in) * (xp.eye(n_in, dtype=self.w_star.dtype) if self.S is None else self.S.T)
        return x, x @ self.w_star.T


@dataclass(frozen=True)
class Rule:
    """An update rule w' = -eta u: `Rule(inf)` SGD, `Rule(1)` NGD, `Rule(2)` sqrt-NGD, with block=True NGD-d, ..

    q in [1, inf]: the power of H_+^{-1/q}; block: of its diagonal blocks alone, times d^{-1/q}, Huh (19); rho:
    Levenberg-Marquardt damping, H_+ + rho I, 0 for the Moore-Penrose pseudo-inverse; regularised: times
    (1 + rho)^{1/q}, so that rho -> inf is SGD, (S.I.15), for blocks d^{-1/q} of it; clip: the largest norm of u, all
    layers together, after that; rcond: what counts as zero, relative to the largest, of the eigenvalues of K, or in
    blocks of the singular values of L_i and of R_i: None for `spectral.cutoff`. K has the squares, so a full undamped
    rule leaves modes alone whose ||j|| is below the root of that, 5e-7 of the largest or so in float64 and 1e-2 in
    float32, which wants damping. Where J = 0, u is 0. Raises ValueError.
    """

    q: float = 1
    block: bool = False
    rho: float = 0.0
    clip: float = math.inf
    regularised: bool = False
    rcond: float | None = None

    def __post_init__(self) -> None:
        rho, q = checked_damping(self.rho, self.q)
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; expected a number > 0")
        checked_rcond(self.rcond)
        object.__setattr__(self, "clip", float(self.clip))  # NumPy scalars would promote float32 arrays
        object.__setattr__(self, "rho", rho)
        object.__setattr__(self, "q", q)

    def update(self, w: list[Array], data: Statistics) -> list[Array]:
        """u, a list like w. Raises ValueError where w and data do not fit, FloatingPointError if u is not finite."""
        check(w, data)
        with np.errstate(all="ignore"):  # reported below
            if self.block or len(w) == 1:  # one layer is its own block, and needs no K
                E, scale = displacement(w, data), len(w) ** (-1 / self.q)
                factors = (_block_update(L, R, E, self.q, self.rho, self.rcond) for L, R in partial_pairs(w, data.S))
                u = [scale * u_i for u_i in factors]
            else:
                Lambda, pairs, c = _scaled_multiplier(w, data, self.q, self.rho, self.rcond)
                u = [c ** (1 - 2 / self.q) * (L.T @ Lambda @ R.T) for L, R in pairs]
            size = norm(u)
        if not math.isfinite(size):
            raise FloatingPointError(
                f"the update has norm {size}: the weights are too large, or too small, for this rule"
            )
        gain = (1 + self.rho) ** (1 / self.q) if self.regularised else 1.0
        gain *= min(1.0, self.clip / (gain * size)) if size else 1.0
        return [gain * u_i for u_i in u]


def product(w: list[Array]) -> Array:
    """w_bar = w_d .. w_1 (n_out, n_in)."""
    w_bar = w[0]
    for w_i in w[1:]:
        w_bar = w_i @ w_bar
    return w_bar


def partial_products(w: list[Array], S: Array | None = None) -> tuple[list[Array], list[Array]]:
    """L_1, .., L_d, L_i (n_out, n_i), and R_1, .., R_d, R_i (n_{i-1}, n_in), with S (n_in, n_in) if there is one.

    Raises ValueError, as all that calls it, unless the widths of w chain.
    """
    check_chain(w)
    xp, dtype = array_module(w[0]), w[0].dtype
    L = [xp.eye(len(w[-1]), dtype=dtype)]
    R = [xp.eye(w[0].shape[1], dtype=dtype) if S is None else S]
    for left, right in zip(w[:0:-1], w[:-1], strict=True):
        L.insert(0, L[0] @ left)
        R.append(right @ R[-1])
    return L, R


def displacement(w: list[Array], data: Statistics) -> Array:
    """E = Delta S (n_out, n_in), Huh (1). w and data are taken to fit: see `check`."""
    Delta = product(w) - data.w_star
    return Delta if data.S is None else Delta @ data.S


def loss(w: list[Array], data: Statistics) -> float:
    """E[||w_bar x - y||^2] / 2, Huh (1); inf or nan where it overflows. Raises ValueError unless w and data fit."""
    check_fit(w, data)
    with np.errstate(all="ignore"):  # inf and nan are for the caller to judge
        return float((displacement(w, data) ** 2).sum()) / 2 + data.const


def push(w: list[Array], dw: list[Array], S: Array | None = None) -> Array:
    """The change of w_bar S (n_out, n_in) as w changes by dw, to first order: Huh's J^T dw, below (3).

    Raises ValueError for a dw unlike w.
    """
    _require_like("dw", dw, [w_i.shape for w_i in w], w)
    return sum(L @ dw_i @ R for (L, R), dw_i in zip(partial_pairs(w, S), dw, strict=True))


def pull(w: list[Array], Lambda: Array, S: Array | None = None) -> list[Array]:
    """The transpose of `push`, a list like w, for Lambda (n_out, n_in): J Lambda of Huh (9). Raises ValueError."""
    _require("Lambda", Lambda, (len(w[-1]), w[0].shape[1]), w[0])
    return [L.T @ Lambda @ R.T for L, R in partial_pairs(w, S)]


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
    _require_like("dw", dw, [w_i.shape for w_i in w], w)
    E, S = displacement(w, data), data.S
    L, R = partial_products(w, S)
    dL, dR = [0 * L[-1]], [0 * R[0]]
    for i in range(len(w) - 1, 0, -1):
        dL.insert(0, dL[0] @ w[i] + L[i] @ dw[i])
    for i in range(len(w) - 1):
        dR.append(w[i] @ dR[i] + dw[i] @ R[i])
    second = [dl.T @ E @ r.T + l.T @ E @ dr.T for dl, l, dr, r in zip(dL, L, dR, R, strict=True)]
    return [a + b for a, b in zip(gauss_newton_product(w, dw, S), second, strict=True)]


def null_update(w: list[Array], m: Sequence[Array]) -> list[Array]:
    """dw_i = m_i w_i - w_i m_{i-1}, which leaves w_bar alone; m_i (n_i, n_i) for i = 1..d-1, m_0 = m_d = 0.

    Huh, section 2, for any depth. Raises ValueError for other shapes.
    """
    check_chain(w)
    _require_like("m", m, [2 * w_i.shape[:1] for w_i in w[:-1]], w)
    dw = [0 * w_i for w_i in w]
    for i, m_i in enumerate(m):
        dw[i] = dw[i] + m_i @ w[i]
        dw[i + 1] = dw[i + 1] - w[i + 1] @ m_i
    return dw


def multiplier(w: list[Array], data: Statistics, q: float = 1, rho: float = 0.0, rcond: float | None = None) -> Array:
    """Lambda = (K + rho I)^{-1/q} E (n_out, n_in); for NGD the Lambda of Huh (9), (S.I.9), (S.I.10).

    rcond: see `spectral.cutoff`; rho = 0 is the pseudo-inverse, where a narrow layer makes K singular. With d = 2 and
    whitened inputs K is a Kronecker sum, for q = 1 a Sylvester equation, and costs two small eigenproblems; else it is
    formed, O((n_in n_out)^3), and for q > 1 diagonalised. At q = 1 the solution is refined once through the factors.
    """
    check(w, data)
    rho, q = checked_damping(rho, q)
    Lambda, _, c = _scaled_multiplier(w, data, q, rho, checked_rcond(rcond))
    return c ** (-2 / q) * Lambda


def _scaled_multiplier(
    w: list[Array], data: Statistics, q: float, rho: float, rcond: float | None
) -> tuple[Array, list[tuple[Array, Array]], float]:
    """c^{2/q} Lambda, the pairs L_i, R_i that make J / c, and c: so K / c^2 neither overflows nor underflows."""
    E, pairs = displacement(w, data), list(partial_pairs(w, data.S))
    sizes = [float(abs(L).max()) for L, _ in pairs]
    c = max([math.sqrt(rho), *(a * float(abs(R).max()) for a, (_, R) in zip(sizes, pairs, strict=True))]) or 1.0
    pairs = [(L / (a or 1.0), R * (a / c)) for a, (L, R) in zip(sizes, pairs, strict=True)]
    if math.isinf(q):
        return E, pairs, c

    rho /= c * c
    if len(w) == 2 and data.S is None:
        w_1, w_2 = (w_i / c for w_i in w)
        inverse = _kronecker_sum_power(w_2 @ w_2.T, w_1.T @ w_1, rho, q, rcond)
        return inverse(E), pairs, c

    columns = power_of_gram(_kernel(pairs), rho, q, rcond) @ E.T.reshape(-1, 1)
    return columns.reshape(E.T.shape).T, pairs, c


def kernel(w: list[Array], S: Array | None = None) -> Array:
    """K (n_in n_out, n_in n_out). Raises MemoryError if it cannot fit."""
    return _kernel(list(partial_pairs(w, S)))


def _kernel(pairs: list[tuple[Array, Array]]) -> Array:
    L, R = pairs[0]
    xp, n = array_module(L), len(L) * R.shape[1]
    require_memory(xp, 4 * n * n * L.itemsize, f"K ({n} x {n}) and its work space", "use a block-diagonal rule")
    return sum(xp.kron(R.T @ R, L @ L.T) for L, R in pairs)


def conserved(w: list[Array]) -> list[Array]:
    """c_1, .., c_{d-1}, c_i (n_i, n_i): constant under every full rule, damped and clipped ones included, Huh (15)."""
    return [a @ a.T - b.T @ b for a, b in pairwise(w)]


def euler_drift(u: list[Array], h: float) -> list[Array]:
    """What a step w - h u of a full rule adds to `conserved`: h^2 (u_i u_i^T - u_{i+1}^T u_{i+1}), exactly."""
    return [h * h * c for c in conserved(u)]


def norm(w: list[Array]) -> float:
    """||w|| = sqrt(sum_i ||w_i||_F^2), whatever the scale; nan or inf where w is not finite."""
    sizes = [float(abs(w_i).max()) for w_i in w]
    top = max(sizes)
    if not 0 < top < math.inf or math.isnan(sum(sizes)):
        return sum(sizes)
    return top * math.sqrt(sum(float(((w_i / top) ** 2).sum()) for w_i in w))


def check(w: list[Array], data: Statistics) -> None:
    """Raise ValueError unless w fits data and is finite."""
    check_fit(w, data)
    for i, w_i in enumerate(w):
        if not array_module(w_i).isfinite(w_i).all():
            raise ValueError(f"w[{i}] has non-finite entries; expected finite numbers")


def check_chain(w: list[Array]) -> None:
    """Raise ValueError unless w is a list of matrices (n_1, n_0), (n_2, n_1), ..; their kind is `check_fit`'s."""
    shapes = [getattr(w_i, "shape", None) for w_i in w]
    chained = all(s is not None and len(s) == 2 for s in shapes) and all(a[0] == b[1] for a, b in pairwise(shapes))
    if not (shapes and chained):
        raise ValueError(f"w has shapes {shapes}; expected (n_1, n_0), (n_2, n_1), .., (n_d, n_{{d-1}})")


def check_fit(w: list[Array], data: Statistics) -> None:
    """Raise ValueError unless the widths of w chain, and w is of the kind of data and maps as w_star does."""
    check_chain(w)
    n_out, n_in = len(w[-1]), w[0].shape[1]
    if (n_out, n_in) != data.w_star.shape:
        raise ValueError(f"w maps {n_in} inputs to {n_out} outputs; w_star is {data.w_star.shape}")
    kinds = {kind(w_i) for w_i in w}
    if kinds != {kind(data.w_star)}:
        raise ValueError(f"w is {', '.join(sorted(kinds))}; expected {kind(data.w_star)} as w_star")


def partial_pairs(w: list[Array], S: Array | None) -> Iterator[tuple[Array, Array]]:
    """L_i, R_i of one layer after the other: see `partial_products`."""
    return zip(*partial_products(w, S), strict=True)


def _block_update(L: Array, R: Array, E: Array, q: float, rho: float, rcond: float | None) -> Array:
    """J_i (K_i + rho I)^{-1/q} E (n_i, n_{i-1}), K_i = R^T R (x) L L^T, from the singular values of L and R."""
    xp = array_module(E)
    if not (xp.isfinite(L).all() and xp.isfinite(R).all()):
        raise FloatingPointError("products of the weights overflow")
    (U, s, Vt), (P, t, Qt) = (_live_svd(a, rcond) for a in (L, R))
    live = (s > 0)[:, None] & (t > 0)
    k = xp.where(live, s[:, None] * t, 1)  # the singular values of J_i
    weight = k ** (1 - 2 / q) if rho == 0 else k * (k * k + rho) ** (-1 / q)
    return Vt.T @ (live * weight * (U.T @ E @ Qt.T)) @ P.T


def _live_svd(a: Array, rcond: float | None) -> tuple[Array, Array, Array]:
    """The thin singular value decomposition of a, with 0 for singular values that are so up to rounding."""
    xp = array_module(a)
    with raising(xp):
        U, s, Vt = xp.linalg.svd(a, full_matrices=False)
    live = s > cutoff(max(a.shape), a.dtype, rcond) * s.max()  # not >=, or this fails on a matrix of all zeros
    return U, xp.where(live, s, 0), Vt


def _kronecker_sum_power(A: Array, B: Array, rho: float, q: float, rcond: float | None):
    """X -> (I (x) A + B (x) I + rho)^{-1/q} X = sum over eigenvectors, for X (n_out, n_in)."""
    xp = array_module(A)
    (a, U), (b, V) = eigen(A), eigen(B)
    k = a[:, None] + b + rho
    live = k > cutoff(k.size, k.dtype, rcond) * k.max()
    power = live * xp.where(live, k, 1) ** (-1 / q)
    return lambda X: U @ (power * (U.T @ X @ V)) @ V.T


def _require(name: str, a: Array, shape: tuple, like: Array) -> None:
    """Raise ValueError unless a is a finite array of that shape, None for any size >= 1, of the kind of `like`."""
    given = getattr(a, "shape", ())
    fits = len(given) == len(shape) and all(n == m or (m is None and n > 0) for n, m in zip(given, shape, strict=True))
    floats = getattr(like, "dtype", None) in FLOATS
    if not fits or not floats or kind(a) != kind(like):
        sizes = " x ".join("any" if m is None else str(m) for m in shape)
        wanted = kind(like) if floats else "float32 or float64"
        raise ValueError(f"{name} is {kind(a)} of shape {given}; expected a matrix {sizes}, {wanted}")
    if not array_module(a).isfinite(a).all():
        raise ValueError(f"{name} has non-finite entries; expected finite numbers")


def _require_like(name: str, given: Sequence[Array], shapes: list[tuple[int, int]], w: list[Array]) -> None:
    """Raise ValueError unless `given` has a finite matrix of each of these shapes, of the kind of w."""
    if len(given) != len(shapes):
        raise ValueError(f"{name} has {len(given)} matrices; expected {len(shapes)}")
    for i, (a, shape) in enumerate(zip(given, shapes, strict=True)):
        _require(f"{name}[{i}]", a, shape, w[0])


def _require_regular(live: Array, n_in: int) -> None:
    rank = int(live.sum())
    if rank < n_in:
        raise ValueError(
            f"Sigma_x is singular: rank {rank} with {n_in} inputs, so the map wanted is not unique; expected as many "
            "independent samples as inputs (project the inputs on the directions that occur)"
        )
