"""Both papers, literally: read this first, port this first. Plain NumPy, no checks of arguments, J always formed.

K&O is Karakida & Osawa (2020), Huh is Huh (2020). All is one formula. An approximation G of the Fisher matrix is made
of blocks, and every block b has an explicit root R_b:

    G_b       = R_b^T R_b / N + rho I                        R_b: J, or its columns of one layer, one unit, one entry
    K_b       = G_b^{-1/q} R_b^T                             `power_of_root`: one SVD, which squares nothing
    step      = K e / N,   Theta_bar(x', x) = J(x') K / N    K (P, NC), `preconditioned`, has the K_b one below another

K-FAC has two roots, delta_l and h_{l-1}, and multiplies their K sample by sample. Deep linear networks have J again.

    N samples, C outputs, L layers of widths M_0, .., M_L = C; k = M_{l-1}, + 1 with a bias; P parameters
    x (N, M_0);  f, y, e (N, C);  W_l (M_l, k);  h_{l-1} (N, k);  delta_l (N, C, M_l);  J (NC, P);  Theta (N'C, NC)

Samples are rows; (n, c) is row n C + c. theta has the layers in order, each W_l row by row, the bias last in a row.
Lists count from 0: W[l], h[l] and delta[l] are W_{l+1}, its inputs h_l, and its backward signals delta_{l+1}.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

# --------------------------------------------------------------------------------------------------- networks, K&O (1)


class Activation(NamedTuple):
    """phi and phi', entry by entry."""

    phi: Callable
    derivative: Callable


def shifted_relu(shift: float) -> Activation:
    """max(u, -shift), with derivative 0 at the kink."""
    return Activation(lambda u: np.maximum(u, -shift), lambda u: (u > -shift).astype(u.dtype))


def tanh_derivative(u: Array) -> Array:
    """1 - tanh(u)^2, which would cancel where units saturate: 4 t / (1 + t)^2 with t = e^{-2|u|}."""
    t = np.exp(-2 * abs(u))
    return 4 * t / (1 + t) ** 2


def error_function(u: Array) -> Array:
    """The integral of 2 exp(-u^2) / sqrt(pi)."""
    from scipy.special import erf  # here, since it takes longer to import than all the rest

    return erf(u)


relu = shifted_relu(0.0)
linear = Activation(lambda u: u, np.ones_like)
tanh = Activation(np.tanh, tanh_derivative)
erf = Activation(error_function, lambda u: 2 / math.sqrt(math.pi) * np.exp(-u * u))


class Net(NamedTuple):
    """Settings; the widths are those of W. parameterization: "ntk" or "standard". Biases exist if sigma_b > 0."""

    activation: Activation
    sigma_w: float = 1.0
    sigma_b: float = 0.0
    parameterization: str = "ntk"


class Signals(NamedTuple):
    """What a forward and a backward pass leave of the trained layers, of which all lists have an entry each.

    bias: the last column of h, 0 if none. layers: the numbers l = 1 .. L of these layers.
    """

    f: Array
    h: list[Array]
    delta: list[Array]
    bias: list[float]
    layers: list[int]
    L: int


def scales(net: Net, M: int) -> tuple[float, float]:
    """h = [scale phi(u) ; bias] for phi(u) (N, M)."""
    if net.parameterization == "standard":
        return 1.0, float(net.sigma_b > 0)
    return net.sigma_w / math.sqrt(M), net.sigma_b


def trained(frozen, L: int, bias: float) -> tuple[list[float], list[int]]:
    """Of the layers that are trained the bias columns, 0 if that is not trained, and the numbers l.

    frozen: k, for the first k layers, or a collection of numbers l and "output-bias", the bias of the last layer.
    """
    fixed = range(1, frozen + 1) if isinstance(frozen, int) else frozen
    layers = [l for l in range(1, L + 1) if l not in fixed]
    return [0.0 if l == L and "output-bias" in fixed else bias for l in layers], layers


def signals(net: Net, W: list[Array], x: Array, frozen=0) -> Signals:
    """u_l = h_{l-1} W_l^T, f = u_L, and delta_l = d f / d u_l, (S.65), without what is `frozen`, see `trained`."""
    phi, h, u = x, [], []  # u[l - 1] is u_l
    for w in W:
        scale, bias = scales(net, phi.shape[1])
        column = np.full((len(x), int(bias > 0)), bias, x.dtype)
        h.append(np.concatenate([scale * phi, column], axis=1))  # (N, k)
        u.append(h[-1] @ w.T)  # (N, M_l)
        phi = net.activation.phi(u[-1])
    (N, C), L = u[-1].shape, len(W)
    delta = [np.broadcast_to(np.eye(C, dtype=x.dtype), (N, C, C))] * L
    for l in range(L - 1, 0, -1):
        M = len(W[l - 1])
        scale, _ = scales(net, M)
        slope = scale * net.activation.derivative(u[l - 1])  # (N, M)
        delta[l - 1] = (delta[l] @ W[l][:, :M]) * slope[:, None]  # (N, C, M)
    biases, layers = trained(frozen, L, bias)
    h = [h[l - 1][:, : h[l - 1].shape[1] - (b != bias)] for l, b in zip(layers, biases, strict=True)]
    return Signals(u[-1], h, [delta[l - 1] for l in layers], biases, layers, L)


def shapes(s: Signals) -> list[tuple[int, int]]:
    """(M_l, k) of every W_l."""
    return [(delta.shape[2], h.shape[1]) for h, delta in zip(s.h, s.delta, strict=True)]


def jacobians(s: Signals) -> list[Array]:
    """J_l (NC, M_l, k), d f_c(x_n) / d W_l[i,j] = delta_l[n,c,i] h_{l-1}[n,j]: K&O (6)."""
    J = [np.einsum("nci,nj->ncij", delta, h) for h, delta in zip(s.h, s.delta, strict=True)]
    return [J_l.reshape(-1, *J_l.shape[2:]) for J_l in J]


def jacobian(s: Signals) -> Array:
    """J (NC, P)."""
    return np.concatenate([J_l.reshape(len(J_l), -1) for J_l in jacobians(s)], axis=1)


def flatten(dW: list[Array]) -> Array:
    """theta (P,)."""
    return np.concatenate([dw.ravel() for dw in dW])


def unflatten(theta: Array, like: list[tuple[int, int]]) -> list[Array]:
    """The list of matrices of these shapes of which theta (P,) is the flattening."""
    parts = np.split(theta, np.cumsum([M * k for M, k in like])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, like, strict=True)]


def push(s: Signals, dW: list[Array]) -> Array:
    """J dtheta (N, C)."""
    return (jacobian(s) @ flatten(dW)).reshape(s.f.shape)


def pull(s: Signals, v: Array) -> list[Array]:
    """J^T v, a list like W, for v (N, C)."""
    return unflatten(jacobian(s).T @ v.ravel(), shapes(s))


def ntk(test: Signals, train: Signals) -> Array:
    """Theta(x', x) = J(x') J(x)^T / N (N'C, NC), N the number of training samples: K&O (5)."""
    return jacobian(test) @ jacobian(train).T / len(train.f)


# ----------------------------------------------------------------------------------------------------------- powers


def svd(R: Array, rcond: float | None = None) -> tuple[Array, Array, Array]:
    """The thin U s V^T of R (.., n, p), with s = 0 up to rcond times the largest; None: max(n, p) eps, by rounding."""
    U, s, Vt = np.linalg.svd(R, full_matrices=False)
    cut = max(R.shape[-2:]) * np.finfo(s.dtype).eps if rcond is None else rcond
    return U, np.where(s > cut * s.max(-1, keepdims=True, initial=0), s, 0), Vt


def gain(s: Array, N: float, rho: float, q: float) -> Array:
    """s (s^2/N + rho)^{-1/q}, and 0 at s = 0, which is the pseudo-inverse; s is not squared, so nothing overflows."""
    t = np.where(s > 0, np.hypot(s / math.sqrt(N), math.sqrt(rho)), 1)
    return s / t * t ** (1 - 2 / q)


def power_of_root(R: Array, N: float, rho: float, q: float, rcond: float | None = None) -> Array:
    """K = (R^T R / N + rho I)^{-1/q} R^T (.., p, n) for R (.., n, p) and q in [1, inf]."""
    U, s, Vt = svd(R, rcond)
    return (Vt.mT * gain(s, N, rho, q)[..., None, :]) @ U.mT


def eigen(G: Array) -> tuple[Array, Array]:
    """w and V of a symmetric G = V w V^T (n, n), with w = 0 where it is 0 to rounding: up to n eps of the largest."""
    w, V = np.linalg.eigh(G)
    return np.where(abs(w) > len(w) * np.finfo(w.dtype).eps * abs(w).max(initial=0), w, 0), V


def inverse_power(G: Array, rho: float = 0.0, q: float = 1) -> Array:
    """(G + rho I)^{-1/q} of a symmetric G (n, n), which may be indefinite if q = 1; the pseudo-inverse if singular."""
    w, V = eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    return (V * np.where(w != 0, np.where(w != 0, w, 1) ** (-1 / q), 0)) @ V.T


# ----------------------------------------------------------------------------------------------------- losses, K&O (3)


def softmax(f: Array) -> tuple[Array, Array]:
    """p (N, C), and 1 - p as the sum of the others, which does not cancel."""
    p = np.exp(f - f.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    return p, p @ (1 - np.eye(p.shape[1], dtype=p.dtype))


def loss_value(f: Array, y: Array, loss: str = "mse") -> float:
    """||f - y||^2 / (2N), or for "cross-entropy" and one-hot y the mean of -log p_y, p = softmax(f)."""
    if loss == "mse":
        return ((f - y) ** 2).sum() / (2 * len(f))
    return np.logaddexp.reduce(f - (f * y).sum(1, keepdims=True), axis=1).mean()


def residual(f: Array, y: Array, loss: str = "mse") -> Array:
    """g (N, C), the derivative of the loss of a sample: f - y, or p - y = p (1 - y) - (1 - p) y."""
    if loss == "mse":
        return f - y
    p, rest = softmax(f)
    return p * (1 - y) - rest * y


def hessian_root(f: Array) -> Array:
    """R (N, C (C-1)/2, C) of rows sqrt(p_a p_b) (1_a - 1_b), a < b: R^T R = Lambda = diag(p) - p p^T, (S.158)."""
    (p, _), I = softmax(f), np.eye(f.shape[1], dtype=f.dtype)
    a, b = np.triu_indices(len(I), 1)
    return np.sqrt(p[:, a] * p[:, b])[:, :, None] * (I[a] - I[b])


def whiten(s: Signals, y: Array, loss: str = "mse", loss_rho: float = 0.0) -> tuple[Signals, Array]:
    """H^{1/2} delta and e = H^{-1/2} g, H = Lambda + loss_rho I: J^T H J / N is then as if H were I, (S.159)."""
    g = residual(s.f, y, loss)
    if loss == "mse":
        return s, g
    N, C = g.shape
    damping = np.broadcast_to(math.sqrt(loss_rho) * np.eye(C, dtype=g.dtype), (N, C, C))
    R = np.concatenate([hessian_root(s.f), damping], axis=1)  # H = R^T R
    polar = power_of_root(R, 1, 0.0, 2)  # H^{-1/2} R^T
    e = power_of_root(R, 1, 0.0, 1) @ (polar.mT @ g[:, :, None])  # H^{-1} R^T R H^{-1/2} g
    return s._replace(delta=[polar @ R @ delta for delta in s.delta]), e[:, :, 0]


# ------------------------------------------------------------------------------------------------ approximations of F


class Fisher(NamedTuple):
    """name: Identity, Exact, BlockDiagonal, BlockTridiagonal, Layerwise, Unitwise, Entrywise, QuasiDiagonal, KFAC.

    Sigma (L, L) belongs to Layerwise; to KFAC bias ("augmented" or "separate"), last ("identity" or "gram") and damping
    ("factors" or "product"); rcond, see `svd`, to Exact, BlockDiagonal, Unitwise and KFAC: of J, J_l, of the J of a
    unit, of h and of delta.
    """

    name: str
    Sigma: Array | None = None
    bias: str = "augmented"
    last: str = "identity"
    damping: str = "factors"
    rcond: float | None = None


def preconditioned(s: Signals, fisher: Fisher, rho: float = 0.0, q: float = 1) -> Array:
    """K = G^{-1/q} J^T (P, NC)."""
    N, name, J, rcond = len(s.f), fisher.name, jacobians(s), fisher.rcond
    if name == "Identity" or math.isinf(q):
        return (1 + rho) ** (-1 / q) * jacobian(s).T
    if name in ("BlockTridiagonal", "Layerwise"):
        return coupled(s, coupling(fisher, s.layers), rho, q)
    if name == "KFAC":
        K = [kfac(s, fisher, l, rho, q) for l in range(len(J))]
    elif name == "QuasiDiagonal":
        K = [quasi_diagonal(J_l.transpose(1, 2, 0), b, N, rho, q) for J_l, b in zip(J, s.bias, strict=True)]
    else:
        roots = {
            "Exact": [jacobian(s)],
            "BlockDiagonal": [J_l.reshape(s.f.size, -1) for J_l in J],
            "Unitwise": [J_l.transpose(1, 0, 2) for J_l in J],  # (M, NC, k)
        }
        entries = [J_l.reshape(s.f.size, -1).T[:, :, None] for J_l in J]  # (M k, NC, 1)
        K = [power_of_root(R, N, rho, q, rcond) for R in roots.get(name, entries)]
    return np.concatenate([K_b.reshape(-1, s.f.size) for K_b in K])


def kfac(s: Signals, fisher: Fisher, l: int, rho: float, q: float) -> Array:
    """The rows (M, k, N, C) of K: (B* + rho I)^{-1/q} delta^T times (A* + rho I)^{-1/q} h^T, sample by sample."""
    (N, C), separate, fixed = s.f.shape, s.bias[l] and fisher.bias == "separate", fixes_last(s, fisher, l)
    h, delta, rcond = s.h[l][:, :-1] if separate else s.h[l], s.delta[l].reshape(N * C, -1), fisher.rcond
    if fisher.damping == "product":
        K = kfac_of_product(h, delta, fixed, rho, q, rcond)
    else:
        left = power_of_root(delta, N, rho, q, rcond)  # (M, NC)
        if fixed:
            left = (1 / N + rho) ** (-1 / q) * delta.T
        right = power_of_root(h, N, rho, q, rcond)  # (k, N)
        K = np.einsum("inc,jn->ijnc", left.reshape(-1, N, C), right)
    if not separate:
        return K
    bias = power_of_root(s.bias[l] * delta, N * N, rho, q, rcond)  # (M, NC), with the matrix (S.123)
    return np.concatenate([K, bias.reshape(-1, 1, N, C)], axis=1)


def fixes_last(s: Signals, fisher: Fisher, l: int) -> bool:
    """Whether B* is I / N: of the output layer."""
    return s.layers[l] == s.L and fisher.last == "identity"


def kfac_of_product(h: Array, delta: Array, fixed: bool, rho: float, q: float, rcond: float | None) -> Array:
    """The rows (M, k, N, C) of K = (B* (x) A* + rho I)^{-1/q} (delta_n^T (x) h_n^T): the damping of Huh, Fig. S.I.2.

    B* (x) A* = (D^T D) (x) (h^T h) / N^2, with delta = Z D: D = I if B* is fixed. The singular values of D (x) h are
    the products of theirs.
    """
    D, Z = (np.eye(delta.shape[1], dtype=delta.dtype), delta) if fixed else (delta, np.eye(len(delta), dtype=h.dtype))
    (U, t, Vt), (X, s, Yt), N = svd(D, rcond), svd(h, rcond), len(h)
    left = (Z @ U).reshape(N, -1, len(t))  # (N, C, r)
    return np.einsum("ai,bj,ab,nca,nb->ijnc", Vt, Yt, gain(np.outer(t, s), N * N, rho, q), left, X, optimize=True)


def quasi_diagonal(J: Array, bias: float, N: int, rho: float, q: float) -> Array:
    """The rows (M, k, NC) of K from J (M, k, NC): G^{-1/q} T^T X, where G = T^T T and J = T^T X; diagonal without bias.

    Elimination of the bias, beta_i = A_0i / A_00, leaves r_i = J_i - beta_i J_0 and D_i = A_ii - A_0i^2 / A_00; then
    T = [D^{1/2}  0 ; A_00^{1/2} (beta  1)] and X = [r / D^{1/2} ; J_0 / A_00^{1/2}]. Neither cancels if written with
    the part of J_i = o_i + b_i J_0 that is orthogonal to J_0: r_i = o_i + b_i (rho / A_00) J_0 and
    D_i = |o_i|^2 / N + rho (1 + b_i beta_i).
    """

    def dot(a: Array, b: Array) -> Array:
        return (a * b).sum(2, keepdims=True)  # (M, k, 1)

    if not bias:
        return power_of_root(J[..., None], N, rho, q)[:, :, 0]
    J_i, J_0 = J[:, :-1], J[:, -1:]  # the bias is last
    F_00 = dot(J_0, J_0)
    A_00 = np.where(F_00 + rho > 0, F_00 / N + rho, 1)  # 1: the unit is dead, J = 0
    b = dot(J_i, J_0) / np.where(F_00 > 0, F_00, 1)
    o = J_i - b * J_0
    o = np.where(np.sqrt(dot(o, o)) > J.shape[2] * np.finfo(J.dtype).eps * np.sqrt(dot(J_i, J_i)), o, 0)  # or rounding
    beta, r = b * (F_00 / N / A_00), o + b * (rho / A_00) * J_0
    D = dot(o, o) / N + rho * (1 + b * beta)
    diagonal = np.sqrt(np.concatenate([D, A_00], axis=1))  # (M, k, 1)
    T = diagonal * np.eye(J.shape[1], dtype=J.dtype)  # (M, k, k)
    T[:, -1, :-1] = (diagonal[:, -1:] * beta)[:, :, 0]
    return power_of_root(T, 1, 0.0, q) @ (np.concatenate([r, J_0], axis=1) / np.where(diagonal > 0, diagonal, 1))


def coupling(fisher: Fisher, layers: list[int]) -> Array:
    """Sigma of K&O (15), a row for each of these layers; only neighbours in the network are so in the tri-diagonal."""
    l = np.array(layers)
    return fisher.Sigma if fisher.name == "Layerwise" else (abs(l[:, None] - l) <= 1).astype(float)


def coupled(s: Signals, Sigma: Array, rho: float, q: float) -> Array:
    """K = G^{-1/q} J^T (P, NC), G = S^T (Sigma (x) I) S / N + rho I, S = blockdiag(J_l), K&O (15); q = 1 if indefinite.

    Sigma = T^T D T with signs D, so G = R^T D R / N + rho I has the root R = (T (x) I) S, and J^T = R^T z if T^T z = 1.
    """
    N, JT = len(s.f), jacobian(s).T
    w, E = eigen(Sigma.astype(JT.dtype))
    w, E = w[w != 0], E[:, w != 0]  # (L, r), r = rank(Sigma)
    ones = E.sum(0)  # E^T 1
    T = np.sqrt(abs(w))[:, None] * E.T
    R = np.concatenate([np.kron(T[:, [l]], J_l.reshape(s.f.size, -1)) for l, J_l in enumerate(jacobians(s))], axis=1)
    U, a, Vt = svd(R)  # R (r NC, P)
    U, a, Vt = U[:, a > 0], a[a > 0], Vt[a > 0]
    root = U, a, np.repeat(np.sign(w), s.f.size), N, rho, q
    if np.allclose(E @ ones, 1, rtol=0, atol=1e3 * np.finfo(JT.dtype).eps):
        z = np.kron((ones / np.sqrt(abs(w)))[:, None], np.eye(s.f.size, dtype=JT.dtype))  # (r NC, NC)
        return Vt.T @ signed_power(*root, a[:, None] * (U.T @ z))
    K = Vt.T @ signed_power(*root, Vt @ JT)  # what lies outside the range of V has the eigenvalue rho
    return K + rho ** (-1 / q) * (JT - Vt.T @ (Vt @ JT)) if rho > 0 else K


def signed_power(U: Array, a: Array, D: Array, N: int, rho: float, q: float, X: Array) -> Array:
    """(a U^T D U a / N + rho I)^{-1/q} X for X (r, n), U (n, r), a (r,) > 0 and signs D (n,).

    It is t Q t with t^2 = a^2/N + rho, and Q = (a/t) U^T D U (a/t) / N + rho / t^2 is I unless a sign is negative. The
    pseudo-inverse is P t^{-1} Q^+ t^{-1} P, where P = I - Y Y^T takes away Z / t, Z being the null space of Q.
    """
    t = np.hypot(a / math.sqrt(N), math.sqrt(rho))[:, None]  # (r, 1)
    if (D > 0).all() or not len(a):
        return X * t ** (-2 / q)
    c = a[:, None] / t
    Q = c * ((U.T * D) @ U) * c.T / N + np.diag(rho / t[:, 0] ** 2)
    w, Z = np.linalg.eigh(Q)
    null = abs(w) <= len(w) * np.finfo(w.dtype).eps * (a.max() / t.min())  # U has errors of eps a / t
    Y, _ = np.linalg.qr(Z[:, null] / t)  # of no columns, as a rule
    X = Z @ (np.where(null, 0, 1 / np.where(null, 1, w))[:, None] * (Z.T @ ((X - Y @ (Y.T @ X)) / t))) / t
    return X - Y @ (Y.T @ X)


def matrix(s: Signals, fisher: Fisher, rho: float = 0.0) -> Array:
    """G (P, P): what the approximation keeps of F = J^T J / N, K&O (8), with its damping. Steps do without it."""
    J = jacobian(s)
    sizes = enumerate(zip(shapes(s), s.bias, strict=True))
    index = [(l, i, b != 0 and j == k - 1) for l, ((M, k), b) in sizes for i in range(M) for j in range(k)]
    layer, i, is_bias = np.array(index).T  # of every parameter
    same_layer, same_unit = layer[:, None] == layer, (layer[:, None] == layer) & (i[:, None] == i)
    I = np.eye(len(index), dtype=J.dtype)
    F = I if fisher.name == "Identity" else J.T @ J / len(s.f)
    A = F + rho * I
    if fisher.name == "KFAC":
        blocks = [kfac_block(s, fisher, l, rho) for l in range(len(s.h))]
        return np.block([[B if A is B else np.zeros((len(A), len(B)), A.dtype) for B in blocks] for A in blocks])
    if fisher.name == "QuasiDiagonal":  # of a unit A_ii, A_0i, and A_0i A_0j / A_00, 0 being the bias
        zero = (same_unit * is_bias).astype(F.dtype)  # (P, P), 1 at the bias that belongs to a parameter
        A_0, A_00 = (zero * A).sum(1), zero @ A.diagonal()
        return np.where(I, A, same_unit * np.outer(A_0, A_0) / np.where(A_00 > 0, A_00, 1))
    if fisher.name in ("BlockTridiagonal", "Layerwise"):
        return F * coupling(fisher, s.layers).astype(F.dtype)[layer][:, layer] + rho * I
    return A * {"Exact": 1, "BlockDiagonal": same_layer, "Unitwise": same_unit}.get(fisher.name, I)


def kfac_block(s: Signals, fisher: Fisher, l: int, rho: float) -> Array:
    """(B* + rho I) (x) (A* + rho I), K&O (20), (S.95); a separate bias has b^2 B* / N + rho I instead, (S.123).

    With damping "product" it is B* (x) A* + rho I.
    """
    N, h, delta = len(s.f), s.h[l], s.delta[l].reshape(s.f.size, -1)
    A, B = h.T @ h / N, delta.T @ delta / N
    I_A, I_B = np.eye(len(A), dtype=A.dtype), np.eye(len(B), dtype=B.dtype)
    bias_block = s.bias[l] ** 2 * B / N + rho * I_B
    if fixes_last(s, fisher, l):
        B = I_B / N
    G = np.einsum("ik,jm->ijkm", B + rho * I_B, A + rho * I_A)
    if fisher.damping == "product":
        G = np.einsum("ik,jm->ijkm", B, A) + rho * np.einsum("ik,jm->ijkm", I_B, I_A)
    if s.bias[l] and fisher.bias == "separate":
        G[:, -1], G[..., -1] = 0, 0
        G[:, -1, :, -1] = bias_block
    return G.reshape(A.shape[0] * B.shape[0], -1)


# -------------------------------------------------------------------------------- steps and predictions, K&O (9), (10)


def direction(s: Signals, e: Array, fisher: Fisher, rho: float = 0.0, q: float = 1) -> list[Array]:
    """The step K e / N = G^{-1/q} J^T e / N, a list like W."""
    return unflatten(preconditioned(s, fisher, rho, q) @ e.ravel() / len(e), shapes(s))


def coefficient(test: Signals, train: Signals, fisher: Fisher, rho: float = 0.0, q: float = 1) -> Array:
    """Theta_bar(x', x) = J(x') K / N (N'C, NC), K&O (11)."""
    return jacobian(test) @ preconditioned(train, fisher, rho, q) / len(train.f)


def moved(W: list[Array], s: Signals, dW: list[Array], eta: float) -> list[Array]:
    """W - eta dW where it is trained."""
    W = list(W)
    for l, dw in zip(s.layers, dW, strict=True):
        fixed = W[l - 1].shape[1] - dw.shape[1]  # 1 column, if that is the output bias
        W[l - 1] = W[l - 1] - eta * np.pad(dw, ((0, 0), (0, fixed)))
    return W


def training(net, W, x, y, fisher, eta, steps, rho=0.0, q=1, loss="mse", loss_rho=0.0, frozen=0):
    """W after `steps` of W <- W - eta direction, and the losses (steps + 1,) on the way."""
    losses = [loss_value(signals(net, W, x).f, y, loss)]
    for _ in range(steps):
        s, e = whiten(signals(net, W, x, frozen), y, loss, loss_rho)
        dW = direction(s, e, fisher, rho, q)
        W = moved(W, s, dW, eta)
        losses.append(loss_value(signals(net, W, x).f, y, loss))
    return W, losses


def prediction(test, train, y, fisher, eta, t, rho=0.0, q=1):
    """f_t of the training and of the test samples: t steps f <- f - eta Theta_bar (f - y) of the linearised network."""
    own, cross = (coefficient(s, train, fisher, rho, q) for s in (train, test))
    error = (y - train.f).ravel()
    total = 0 * error  # eta sum_{s<t} (y - f_s)
    if math.isinf(t):
        total = inverse_power(own) @ error
    else:
        for _ in range(t):
            total, error = total + eta * error, error - eta * own @ error
    return train.f + (own @ total).reshape(train.f.shape), test.f + (cross @ total).reshape(test.f.shape)


def batch_training(net, W, x, y, fisher, eta, batches, rho=0.0, q=1, loss="mse", loss_rho=0.0, frozen=0):
    """The same, of which step t sees the samples batches[t] only; the losses are those of the batch that comes next."""
    losses = []
    for t, rows in enumerate(batches):
        s, e = whiten(signals(net, W, x[rows], frozen), y[rows], loss, loss_rho)
        losses.append(loss_value(s.f, y[rows], loss))
        if t < len(batches) - 1:
            dW = direction(s, e, fisher, rho, q)
            W = moved(W, s, dW, eta)
    return W, losses


def linearized_training(test, train, y, fisher, eta, steps, rho=0.0, q=1, loss="mse", loss_rho=0.0):
    """f of both sets after `steps` steps with the first J, (S.24): the residual and the Hessian follow the outputs."""
    f, f_test = train.f, test.f
    for _ in range(steps):
        s, e = whiten(train._replace(f=f), y, loss, loss_rho)
        dW = direction(s, e, fisher, rho, q)
        f, f_test = f - eta * push(train, dW), f_test - eta * push(test, dW)
    return f, f_test


# ----------------------------------------------------------------------------------------------- infinite width, (S.66)


def wide_kernels(net: Net, phi: Any, L: int, test: Array, train: Array, frozen) -> tuple[list, list]:
    """A_0, .., A_{L-1} and B_1, .., B_L (N', N), (S.171), (S.172), of what is trained: the same for every output.

    phi: the Gaussian averages of the activation, an object as in `duals`.
    """
    w, b, M_0 = net.sigma_w**2, net.sigma_b**2, train.shape[1]
    A, slopes, gaps = [w * test @ train.T / M_0 + b], [], input_gaps(test, train)
    squares = [(x * x).sum(1) / M_0 for x in (test, train)]  # E[phi^2] of either set
    for _ in range(L - 1):
        variances = [w * m + b for m in squares]  # of u_l
        r, c = correlations(squares, variances, gaps, w, b)
        a1, a = (phi.features(np.sqrt(q)) for q in variances)
        products, slope = phi.dual(r, a1, a, c)
        slopes.append(w * slope)
        A.append(w * products + b)
        squares = [np.array([phi.mean_square(float(v)) for v in q], r.dtype) for q in variances]
        i, j = np.indices(r.shape).reshape(2, -1)
        found = phi.gap(r.ravel(), c.ravel(), a1[i], a[j])
        cosine = np.clip(products / np.sqrt(np.outer(*squares)), -1, 1)
        gaps = (1 - cosine, 1 - cosine**2, cosine) if found is None else (*[v.reshape(r.shape) for v in found], cosine)
    B = [np.ones_like(A[0])] * L
    for l in range(L - 1, 0, -1):
        B[l - 1] = slopes[l - 1] * B[l]
    biases, layers = trained(frozen, L, net.sigma_b)
    A = [A[l - 1] - (net.sigma_b**2 - bias**2) for l, bias in zip(layers, biases, strict=True)]
    return A, [B[l - 1] for l in layers]


def input_gaps(test: Array, train: Array) -> tuple[Array, Array, Array]:
    """1 - rho, 1 - rho^2 and rho (N', N), cosines between inputs: of the first two from chords between directions.

    Of angles below 1e-8 the cosine, which is 1 to rounding, knows nothing; phi' takes the root of 1 - rho.
    """
    units = [x / np.where(x.any(1), np.linalg.norm(x, axis=1), 1)[:, None] for x in (test, train)]
    near, far = (((units[0][:, None] + sign * units[1]) ** 2).sum(2) for sign in (-1, 1))
    return near / 2, near * far / 4, units[0] @ units[1].T


def correlations(squares, variances, gaps, w, b) -> tuple[Array, Array]:
    """r and (1 - r^2)^{1/2} (N', N) between u_l and u_l', from 1 - rho, 1 - rho^2 and rho of phi_{l-1} and phi_{l-1}'.

    In u_l' u_l = w (E[phi'^2] E[phi^2])^{1/2} rho + b, over (q' q)^{1/2}, nothing cancels if 1 - r^2 is made of these.
    """
    (own1, bias1), (own, bias) = (np.sqrt([w * m / q, b / q]) for m, q in zip(squares, variances, strict=True))
    both, shared = np.outer(own1, own), np.outer(bias1, bias)
    r = both * np.where(gaps[0] < 0.5, 1 - gaps[0], gaps[2]) + shared
    unequal = np.outer(own1, bias) - np.outer(bias1, own)
    return np.clip(r, -1, 1), np.sqrt(both**2 * gaps[1] + unequal**2 + 2 * both * shared * gaps[0])


def wide_ntk(A: list[Array], B: list[Array]) -> list[Array]:
    """Theta_l = B_l * A_{l-1} / N (N', N), (S.68)."""
    return [B_l * A_l / A_l.shape[1] for A_l, B_l in zip(A, B, strict=True)]


def wide_coefficient(cross, train, fisher: Fisher, rho, q, biases: list[float], layers: list[int], L: int) -> Array:
    """Theta_bar(x', x) (N', N) of kernels (A, B) between x' and x, and of the training set: (16), (18), (21).

    biases, layers, L: those of `Signals`.
    """
    if fisher.name == "Identity" or math.isinf(q):
        return sum(wide_ntk(*cross)) * (1 + rho) ** (-1 / q)
    if fisher.name == "KFAC":
        return wide_kfac(cross, train, fisher, rho, q, biases, layers, L)
    Theta, N = wide_ntk(*train), len(train[0][0])
    if fisher.name == "Exact":
        lam = [inverse_power(sum(Theta), rho, q)] * len(Theta)
    elif fisher.name == "BlockDiagonal":
        lam = [inverse_power(Theta_l, rho, q) for Theta_l in Theta]
    else:  # with Theta_l = T_l^2, on the range of T: sum_m Sigma_lm T_l T_m d_m + rho d_l = T_l, T_l lambda_l = d_l
        T = [covariance_root(Theta_l) for Theta_l in Theta]
        right, Sigma = np.concatenate(T), coupling(fisher, layers)
        d = inverse_power(np.kron(Sigma, np.ones((N, N))) * (right @ right.T), rho) @ right
        lam = [inverse_power(T_l) @ d_l for T_l, d_l in zip(T, d.reshape(-1, N, N), strict=True)]
    return sum(cross_l @ lam_l for cross_l, lam_l in zip(wide_ntk(*cross), lam, strict=True))


def wide_kfac(cross, train, fisher: Fisher, rho, q, biases: list[float], layers: list[int], L: int) -> Array:
    """(1/N) sum_l [B_l' (B_l/N + rho I)^{-1/q}] * [A_{l-1}' (A_{l-1}/N + rho I)^{-1/q}], (21)."""
    N, total = len(train[0][0]), 0
    for A1, B1, A, B, bias, l in zip(*cross, *train, biases, layers, strict=True):
        left = B1 @ inverse_power(B / N, rho, q)
        if bias and fisher.bias == "separate":
            A1, A = A1 - bias**2, A - bias**2
            total = total + bias**2 * B1 @ inverse_power(bias**2 * B / N**2, rho, q) / N
        fixed = l == L and fisher.last == "identity"
        if fixed:
            left = B1 * (1 / N + rho) ** (-1 / q)
        term = left * (A1 @ inverse_power(A / N, rho, q)) / N
        if fisher.damping == "product":
            term = wide_kfac_of_product(A1, B1, A, B, fixed, rho, q)
        total = total + term
    return total


def wide_kfac_of_product(A1: Array, B1: Array, A: Array, B: Array, fixed: bool, rho: float, q: float) -> Array:
    """The same of a layer with rho on B* (x) A*: rows of delta (x) h of all pairs of samples, of which (n, n) count."""
    N = len(A)
    if fixed:
        return B1 * (A1 @ inverse_power(A / N**2, rho, q)) / N
    power = inverse_power(np.kron(B, A) / N**2, rho, q)[:, :: N + 1]  # of the pairs (n, n)
    return np.einsum("an,am,nmb->ab", B1, A1, power.reshape(N, N, N)) / N


def isotropy_constant(fisher: Fisher, layers: list[int], L: int, N: int, is_linear=False, biases: int = 0) -> float:
    """alpha of K&O (12), where every kernel that is inverted is regular: 1^T Sigma^+ 1, (16), for the trained `layers`.

    Of K-FAC each layer adds N, below (21), but 1 where all samples have the same delta_l, and so does each of the
    `biases` in blocks of their own, which those of hidden layers alone may be, (S.123).
    """
    k = len(layers)
    if fisher.name == "KFAC":
        last = N if fisher.last == "identity" else 1
        return sum((1 if is_linear else N) if l < L else last for l in layers) + N * biases
    Sigma = {"Exact": np.ones((k, k)), "BlockDiagonal": np.eye(k)}
    return np.linalg.pinv(Sigma[fisher.name] if fisher.name in Sigma else coupling(fisher, layers)).sum()


def predictive(own: Array, cross: Array, K: Array, y: Array, eta: float, t: float) -> tuple[Array, Array]:
    """Mean (N', C) and covariance (N', N') of f_t(x') over f_0 ~ N(0, K), from Theta_bar at infinite width.

    f_t(x') = f_0(x') + Theta_bar(x', x) S_t (y - f_0(x)) is linear in f_0. own (N, N), cross (N', N): Theta_bar of the
    training set, and of x' with it; K (N'+N, N'+N): the covariance of f_0, the test samples first.
    """
    I, S = np.eye(len(own)), np.zeros(own.shape)
    if math.isinf(t):
        S = inverse_power(own)
    else:
        for _ in range(t):
            S = S + eta * (I - own @ S)  # S_t = eta sum_{s<t} (I - eta Theta_bar)^s
    T = np.concatenate([np.eye(len(cross)), -cross @ S], axis=1)
    return cross @ S @ y, T @ K @ T.T


# -------------------------------------------------------------------------------------------- deep linear networks, Huh


def covariance_root(Sigma_x: Array) -> Array:
    """The symmetric S (n_in, n_in) with Sigma_x = S S^T; S = I if the inputs are white."""
    w, V = eigen(Sigma_x)
    return (V * np.sqrt(w)) @ V.T


def products(w: list[Array], S: Array) -> tuple[list[Array], list[Array]]:
    """L_i = w_d .. w_{i+1} (n_out, n_i) and R_i = w_{i-1} .. w_1 S (n_{i-1}, n_in); L[0], R[0] belong to w[0] = w_1."""
    d = len(w)
    L, R = [np.eye(len(w[-1]), dtype=S.dtype)] * d, [S] * d
    for i in range(d - 1, 0, -1):
        L[i - 1] = L[i] @ w[i]
    for i in range(1, d):
        R[i] = w[i - 1] @ R[i - 1]
    return L, R


def displacement(w: list[Array], w_star: Array, S: Array) -> Array:
    """E = (w_bar - w_star) S (n_out, n_in), w_bar = w_d .. w_1."""
    L, _ = products(w, S)
    return (L[0] @ w[0] - w_star) @ S


def linear_loss(w: list[Array], w_star: Array, S: Array) -> float:
    """||E||^2 / 2, Huh (1)."""
    return (displacement(w, w_star, S) ** 2).sum() / 2


def linear_push(w: list[Array], dw: list[Array], S: Array) -> Array:
    """sum_i L_i dw_i R_i (n_out, n_in): the change of w_bar S as w changes by dw, to first order."""
    return sum(L @ dw_i @ R for L, R, dw_i in zip(*products(w, S), dw, strict=True))


def linear_pull(w: list[Array], Lambda: Array, S: Array) -> list[Array]:
    """L_i^T Lambda R_i^T, its transpose, a list like w: of E it is the gradient, Huh (4)."""
    return [L.T @ Lambda @ R.T for L, R in zip(*products(w, S), strict=True)]


def hessian_product(w: list[Array], dw: list[Array], w_star: Array, S: Array) -> list[Array]:
    """H dw, Huh (2): H_+ dw, (3), and the change of L_i and R_i in the gradient, one factor w_m at a time, m != i."""
    E = displacement(w, w_star, S)
    hv = linear_pull(w, linear_push(w, dw, S), S)
    for m in range(len(w)):
        changed = linear_pull([*w[:m], dw[m], *w[m + 1 :]], E, S)
        hv = [hv_i + (i != m) * g_i for i, (hv_i, g_i) in enumerate(zip(hv, changed, strict=True))]
    return hv


def linear_jacobian(w: list[Array], S: Array) -> Array:
    """J (n_in n_out, P) of w_bar S, row n n_out + c; K = J J^T = sum_i R_i^T R_i (x) L_i L_i^T."""
    J = [np.einsum("ca,bn->ncab", L, R) for L, R in zip(*products(w, S), strict=True)]
    return np.concatenate([J_i.reshape(-1, w_i.size) for J_i, w_i in zip(J, w, strict=True)], axis=1)


def block_update(L: Array, R: Array, E: Array, rho: float, q: float, rcond: float | None) -> Array:
    """(J_i^T J_i + rho I)^{-1/q} J_i^T E (n_i, n_{i-1}) from the singular values, products, of J_i = R_i^T (x) L_i."""
    (U, a, Vt), (X, b, Yt) = svd(L, rcond), svd(R.T, rcond)
    return Vt.T @ (gain(np.outer(a, b), 1, rho, q) * (U.T @ E @ X)) @ Yt


def multiplier(w, w_star, S, q=1, rho=0.0, rcond=None) -> Array:
    """Lambda = (K + rho I)^{-1/q} E (n_out, n_in), Huh (9), K = J J^T less what counts as zero of J: see `svd`.

    w: the weights, w_i (n_i, n_{i-1}). w_star (n_out, n_in), S (n_in, n_in): those of `displacement`.
    Outside the range of K it is rho^{-1/q} E, 0 if rho is.
    """
    E = displacement(w, w_star, S)
    J, e = linear_jacobian(w, S), E.T.ravel()
    U, s, _ = svd(np.hstack([J, np.zeros((len(e), len(e)), J.dtype)]), rcond)  # U is square
    t = np.hypot(s, math.sqrt(rho))
    power = np.where(t > 0, np.where(t > 0, t, 1) ** (-2 / q), 0)
    return (U @ (power * (U.T @ e))).reshape(E.T.shape).T


def update(w, w_star, S, q=1, block=False, rho=0.0, clip=math.inf, regularised=False, rcond=None) -> list[Array]:
    """u of w' = -eta u, a list like w: (H_+ + rho I)^{-1/q} J^T E, Huh (9), (12).

    q = inf is SGD, 1 NGD, 2 sqrt-NGD. block: d^{-1/q} times the same of every layer by itself, (19).
    regularised: times (1 + rho)^{1/q}, (S.I.15). clip: the largest norm of u, all layers together.
    rcond: see `svd`, of J, or in blocks of L_i and of R_i.
    """
    E, d = displacement(w, w_star, S), len(w)
    if block:
        u = [d ** (-1 / q) * block_update(L, R, E, rho, q, rcond) for L, R in zip(*products(w, S), strict=True)]
    else:
        theta = power_of_root(linear_jacobian(w, S), 1, rho, q, rcond) @ E.T.ravel()
        u = unflatten(theta, [w_i.shape for w_i in w])
    if regularised:
        u = [(1 + rho) ** (1 / q) * u_i for u_i in u]
    size = float(np.linalg.norm(flatten(u)))
    return [u_i * (clip / size) if size > clip else u_i for u_i in u]


def descent(w, w_star, S, eta, steps, **rule):
    """w after `steps` of w <- w - eta u, and the losses (steps + 1,) on the way."""
    losses = [linear_loss(w, w_star, S)]
    for _ in range(steps):
        w = [w_i - eta * u_i for w_i, u_i in zip(w, update(w, w_star, S, **rule), strict=True)]
        losses.append(linear_loss(w, w_star, S))
    return w, losses


def statistics(x: Array, y: Array) -> tuple[Array, Array, float]:
    """w_star = E[y x^T] Sigma_x^{-1}, Sigma_x = E[x x^T] and the least loss, of samples x (P, n_in), y (P, n_out)."""
    w_star = np.linalg.lstsq(x, y, rcond=None)[0].T
    return w_star, x.T @ x / len(x), ((x @ w_star.T - y) ** 2).sum() / (2 * len(x))


def null_update(w: list[Array], m: list[Array]) -> list[Array]:
    """dw_i = m_i w_i - w_i m_{i-1}, m_0 = m_d = 0, which leaves w_bar alone: Huh, section 2."""
    m = [np.zeros(2 * w[0].shape[1:]), *m, np.zeros(2 * w[-1].shape[:1])]
    return [m[i + 1] @ w[i] - w[i] @ m[i] for i in range(len(w))]


def euler_drift(u: list[Array], h: float) -> list[Array]:
    """What w - h u adds to c_i, if u = J Lambda: h^2 (u_i u_i^T - u_{i+1}^T u_{i+1})."""
    return [h * h * c for c in conserved(u)]


def conserved(w: list[Array]) -> list[Array]:
    """c_i = w_i w_i^T - w_{i+1}^T w_{i+1}, Huh (15): constant in time under every full rule."""
    return [a @ a.T - b.T @ b for a, b in pairwise(w)]


# --------------------------------------------------------------------------------------------- singular modes, Huh (12)


def others(s: Array) -> Array:
    """j (d, ..) of layers s (d, ..): j_i is the product of the others."""
    return np.stack([np.prod(np.delete(s, i, 0), axis=0) for i in range(len(s))])


def mode_velocity(s: Array, s_star: Array, q: float = 1, block: bool = False, eta: float = 1.0) -> Array:
    """s' (d, ..) = -eta s_Delta j_i / ||j||^{2/q}, 0 where j is, Huh (12); block: d^{1/2} |j_i| for ||j||, (20)."""
    j = others(s)
    size = math.sqrt(len(s)) * np.where(j != 0, abs(j), 1) if block else mode_norm(j)
    return -eta * (np.prod(s, axis=0) - s_star) * (j / size) * size ** (1 - 2 / q)


def mode_norm(j: Array) -> Array:
    """||j|| (..) over the layers, 1 where j = 0; entries are divided by the largest first, or small ones underflow."""
    top = abs(j).max(0)
    top = np.where(top > 0, top, 1)
    norm = top * np.sqrt(((j / top) ** 2).sum(0))
    return np.where(norm > 0, norm, 1)


def damped_mode_velocity(s: Array, s_star: Array, eps: float, eta: float = 1.0) -> Array:
    """-eta (eps + 1) s_Delta j / (eps + ||j||^2), Huh (S.I.16)."""
    j, norm = others(s), mode_norm(others(s))
    return -eta * (np.prod(s, axis=0) - s_star) * (j / norm) * ((eps + 1) / (eps / norm + norm))


def mode_map_velocity(s_bar: Array, s_star: Array, p: float, eta_bar: float = 1.0) -> Array:
    """s_bar' of balanced layers, Huh (17)."""
    return eta_bar * (s_star - s_bar) * abs(s_bar) ** p


def mode_invariants(s: Array, q: float, block: bool) -> Array:
    """s_i^2 - s_{i+1}^2, Huh (6); of block rules |s_i|^{2(1-1/q)} - .., footnote 4, and logarithms at q = 1."""
    power = 2 * (1 - 1 / q) if block else 2
    kept = abs(s) ** power if power else np.log(abs(s))
    return kept[:-1] - kept[1:]


def mode_exponents(d: float, q: float, eta: float) -> tuple[float, float, float]:
    """p, the effective depth d_eff and eta_bar of depth d and power q: Huh (17), (18)."""
    inverse = 1 / d + (1 - 1 / d) / q
    return 2 * (1 - 1 / d) * (1 - 1 / q), 1 / inverse if inverse else math.inf, eta * d ** (1 - 1 / q)
