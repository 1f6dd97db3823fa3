"""PyTorch, by automatic differentiation and from the definitions alone: a template to copy from when porting.

    refngd check --implementation torch_autograd

A network is one function of one sample, `outputs`; all derivatives are torch.func's, and nothing of refngd is used.

    J[(n,c),(l,i,j)] = d f_c(x_n) / d W_l[i,j],   delta_l[n,c,i] = d f_c(x_n) / d u_l[i]             K&O (6), (S.65)
    G                = the Fisher matrix or an approximation, explicit, P x P: `matrix`              (8), (15), (20)
    K                = G^{-1/q} J^T (P, NC): `preconditioned`
    direction        = K e / N,   Theta_bar(x', x) = J(x') K / N                                     (9), (11)

Each block of G but those of coupled layers is R^T R / N + rho I with an explicit root R: its power goes through the
singular values of R, since the eigenvalues of G would square the condition number. With a loss whose output Hessian is
H_n = R_n^2, R_n J and R_n^{-1} g take the place of J and e (THEORY 7).

Not here, since there is nothing to differentiate in them: infinite width (kernels, kernel_coefficient,
order_parameters, gamma), alpha, forster, the closed forms of Huh (17) (mode_solution, mode_time, mode_escape,
mode_exponents), and the operations of a few lines on given arrays.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch.func import grad, hessian, jacrev, jvp, vmap

Tensor = torch.Tensor


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict) -> dict[str, np.ndarray]:
    """The outputs of an operation; for `direction` some of the intermediates as well."""
    if op not in OPERATIONS:
        raise NotImplementedError(f"{op}: nothing to differentiate")
    if attrs.get("kfac_damping", "factors") != "factors":
        raise NotImplementedError("the damping of the product")
    tensors = {name: torch.as_tensor(a) for name, a in inputs.items()}
    check(tensors, attrs)
    return {name: value.detach().numpy() for name, value in OPERATIONS[op](tensors, attrs).items()}


def listed(prefix: str, inputs: dict[str, Tensor]) -> list[Tensor]:
    """W_1, W_2, .."""
    return [inputs[f"{prefix}_{l}"] for l in range(1, 1 + len(inputs)) if f"{prefix}_{l}" in inputs]


def numbered(prefix: str, tensors, numbers=None) -> dict[str, Tensor]:
    """The inverse of `listed`; of other numbers than 1, 2, .. if they are given."""
    return {f"{prefix}_{l}": a for l, a in zip(numbers or range(1, 1 + len(tensors)), tensors, strict=True)}


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check(inputs: dict[str, Tensor], attrs: dict) -> None:
    """What would otherwise be computed with in silence."""
    for name, a in inputs.items():
        finite = a[~torch.isinf(a)] if name in ("t",) else a
        require(bool(torch.isfinite(finite).all()), f"{name} has non-finite entries")
    for name in ("rho", "loss_rho"):
        require(0 <= attrs.get(name, 0) < math.inf, f"{name} is {attrs.get(name)}; expected a finite number >= 0")
    require(attrs.get("q", 1) >= 1, f"q is {attrs.get('q')}; expected q >= 1")


# ------------------------------------------------------------------------------------------------------------ networks


def tanh(u: Tensor) -> Tensor:
    """tanh, whose derivative 4 t / (1 + t)^2, t = e^{-2|u|}, does not cancel as torch's 1 - tanh^2 does.

    Near 0 1 - t would cancel, and for large |u| the derivative of expm1, which torch takes to be expm1 + 1.
    """
    sign = torch.where(u < 0, -1.0, 1.0).to(u)
    t = torch.exp(-2 * sign * u)
    return sign * torch.where(t < 0.1, 1 - t, -torch.expm1(-2 * sign * u)) / (1 + t)


def shifted_relu(u: Tensor, shift: float) -> Tensor:
    """max(u, -s), with derivative 0 at the kink (torch.clamp has 1 there, torch.maximum 1/2)."""
    return torch.where(u > -shift, u, -shift)


@dataclass(frozen=True)
class Net:
    activation: str
    sigma_w: float = 1.0
    sigma_b: float = 0.0
    parameterization: str = "ntk"
    shift: float = 0.0

    @classmethod
    def of(cls, attrs: dict) -> "Net":
        return cls(**{name: attrs[name] for name in cls.__dataclass_fields__ if name in attrs})

    def phi(self, u: Tensor) -> Tensor:
        functions = {"tanh": tanh, "erf": torch.erf, "linear": lambda u: u}
        return functions[self.activation](u) if self.activation in functions else shifted_relu(u, self.shift)

    def scaled(self, v: Tensor) -> Tensor:
        """h of phi(u) (M,): [sigma_w / sqrt(M) phi ; sigma_b], or [phi ; 1] if standard."""
        standard = self.parameterization == "standard"
        h = v if standard else self.sigma_w / math.sqrt(len(v)) * v
        bias = [h.new_full((1,), 1.0 if standard else self.sigma_b)] if self.sigma_b > 0 else []
        return torch.cat([h, *bias])


def outputs(net: Net, W: list[Tensor], shifts: list[Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """f (C,) of one sample x (M_0,), with shifts (M_l,) added to the u_l, and h_0 .. h_{L-1}: K&O (1)."""
    h, phi = [], x
    for l, (w, shift) in enumerate(zip(W, shifts, strict=True), 1):
        h.append(net.scaled(phi))
        require(w.shape[1] == len(h[-1]), f"W_{l} has {w.shape[1]} columns; x and the widths ask for {len(h[-1])}")
        u = w @ h[-1] + shift
        phi = net.phi(u)
    return u, h


@dataclass(frozen=True)
class Signals:
    """f (N, C), h_{l-1} (N, k_l), delta_l (N, C, M_l), J_l (N, C, M_l, k_l) of the trained layers.

    layers: their numbers, of L. bias: whether the last column of h is one, in each.
    """

    f: Tensor
    h: list[Tensor]
    delta: list[Tensor]
    J: list[Tensor]
    layers: list[int]
    bias: list[bool]
    L: int

    @property
    def N(self) -> int:
        return len(self.f)

    def flat(self) -> Tensor:
        """J (NC, P)."""
        return torch.cat([J.flatten(2).flatten(0, 1) for J in self.J], 1)

    def times(self, R: Tensor) -> "Signals":
        """R delta and R J, for R (N, C, C)."""
        products = ([torch.einsum("ncd,nd...->nc...", R, a) for a in arrays] for arrays in (self.delta, self.J))
        return replace(self, **dict(zip(("delta", "J"), products, strict=True)))


def trained(attrs: dict, L: int) -> tuple[list[int], bool]:
    """The numbers of the layers that are not frozen, the first k or those of a list, and whether the output bias is."""
    frozen = attrs.get("frozen", 0)
    fixed = range(1, frozen + 1) if isinstance(frozen, int) else frozen
    known = {*range(1, L + 1), *(["output-bias"] if attrs.get("sigma_b", 0) > 0 and L not in fixed else [])}
    require(set(fixed) <= known and len(set(fixed)) == len(fixed), f"frozen is {frozen}; expected some of {known}")
    layers = [l for l in range(1, L + 1) if l not in fixed]
    require(len(layers) > 0, f"frozen is {frozen}; expected less than all {L} layers")
    return layers, "output-bias" in fixed


def signals(inputs: dict[str, Tensor], attrs: dict, x: str = "x", W: list[Tensor] | None = None) -> Signals:
    """Forward pass and all derivatives, less what is frozen."""
    net, W = Net.of(attrs), W or listed("W", inputs)
    (layers, fixed_bias), L = trained(attrs, len(W)), len(W)
    shifts = [w.new_zeros(len(w)) for w in W]

    def of_sample(W, shifts, x_n):
        f, h = outputs(net, W, shifts, x_n)
        return f, (f, h)

    derivatives = vmap(jacrev(of_sample, argnums=(0, 1), has_aux=True), in_dims=(None, None, 0))
    (J, delta), (f, h) = derivatives(W, shifts, inputs[x])
    bias = [net.sigma_b > 0] * L
    if fixed_bias:
        h[-1], J[-1], bias[-1] = h[-1][:, :-1], J[-1][..., :-1], False
    h, delta, J, bias = ([arrays[l - 1] for l in layers] for arrays in (h, delta, J, bias))
    return Signals(f, h, delta, J, layers, bias, L)


# -------------------------------------------------------------------------------------------------------------- losses


def loss_value(attrs: dict, f: Tensor, y: Tensor) -> Tensor:
    """||f - y||^2 / (2N), K&O (3), or the mean of -log softmax(f)_y."""
    if attrs.get("loss", "mse") == "mse":
        return ((f - y) ** 2).sum() / (2 * len(f))
    others = torch.logsumexp(torch.where(y > 0, -math.inf, f), 1)  # p_y near 1 would cancel in log_softmax
    return torch.nn.functional.softplus(others - (y * f).sum(1)).mean()


def residual_and_hessian(attrs: dict, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """g (N, C) and Lambda_n (N, C, C): derivatives of the loss of one sample, without damping."""
    require(y.shape == f.shape, f"y has shape {tuple(y.shape)}; expected (N, C) = {tuple(f.shape)}")
    if attrs.get("loss", "mse") != "mse":
        one_hot = ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()
        require(bool(one_hot) and y.shape[1] > 1, "y is not one-hot")

    def of_sample(f_n, y_n):
        return loss_value(attrs, f_n[None], y_n[None])

    return vmap(grad(of_sample))(f, y), vmap(hessian(of_sample))(f, y)


def symmetric_power(K: Tensor, exponent: float) -> Tensor:
    """K^exponent of symmetric matrices (.., n, n) on their range, 0 on their null space."""
    w, V = torch.linalg.eigh(K)
    live = alive(abs(w), K.shape[-1])
    return (V * (live * torch.where(live, w, 1) ** exponent)[..., None, :]) @ V.mT


def alive(s: Tensor, n: int) -> Tensor:
    """Which of s (.., k) >= 0 are not zero: above n eps times the largest, n the size of the matrix."""
    return s > n * torch.finfo(s.dtype).eps * s.amax(-1, keepdim=True)


def whitened(attrs: dict, s: Signals, y: Tensor) -> tuple[Signals, Tensor]:
    """R delta, R J and e = R^{-1} g with R = (Lambda_n + loss_rho I)^{1/2}, so that F = J^T J / N again: (S.159)."""
    g, Lambda = residual_and_hessian(attrs, s.f, y)
    if attrs.get("loss", "mse") == "mse":
        return s, g
    H = Lambda + attrs.get("loss_rho", 0.0) * torch.eye(Lambda.shape[1]).to(g)
    return s.times(symmetric_power(H, 0.5)), torch.einsum("ncd,nd->nc", symmetric_power(H, -0.5), g)


# ----------------------------------------------------------------------------------------------------- Fisher matrices


def coupling(inputs: dict[str, Tensor], attrs: dict, s: Signals) -> Tensor | None:
    """Sigma (L, L) of the layer-wise approximations, K&O (15)."""
    L, like = len(s.h), s.f
    if attrs["fisher"] == "Layerwise":
        Sigma = inputs["Sigma"]
        require(Sigma.shape == (L, L), f"Sigma has shape {tuple(Sigma.shape)}; the network has {L} layers")
        require(bool((Sigma == Sigma.T).all()), "Sigma is not symmetric")
        return Sigma
    l = torch.tensor(s.layers)
    return (abs(l[:, None] - l) <= {"BlockDiagonal": 0, "BlockTridiagonal": 1, "Exact": s.L}[attrs["fisher"]]).to(like)


def matrix(inputs: dict[str, Tensor], attrs: dict, s: Signals) -> Tensor:
    """G (P, P), damped."""
    fisher, rho, J = attrs["fisher"], attrs.get("rho", 0.0), s.flat()
    F, I = J.T @ J / s.N, torch.eye(J.shape[1]).to(J)
    if fisher == "KFAC":
        return torch.block_diag(*[kfac_block(attrs, s, l) for l in range(len(s.h))])
    if fisher == "QuasiDiagonal":
        return torch.block_diag(*[G for l in range(len(s.J)) for G in quasi_diagonal(s, l, rho)])
    if fisher in ("Identity", "Entrywise"):
        return I + rho * I if fisher == "Identity" else I * F + rho * I
    units = torch.tensor([l for l, J_l in enumerate(s.J) for _ in range(J_l[0, 0].numel())])
    if fisher == "Unitwise":
        units = torch.tensor([unit for unit, k in enumerate(k for J in s.J for k in [J.shape[3]] * J.shape[2])
                              for _ in range(k)])  # fmt: skip
        return (units[:, None] == units) * F + rho * I
    return coupling(inputs, attrs, s)[units][:, units] * F + rho * I


def kfac_block(attrs: dict, s: Signals, l: int) -> Tensor:
    """(B* + rho I) (x) (A* + rho I) of a layer, K&O (20), (S.95); a separate bias has b^2 B* / N + rho I, (S.123)."""
    N, rho, h, delta = s.N, attrs.get("rho", 0.0), s.h[l], s.delta[l].flatten(0, 1)
    M, k = delta.shape[1], h.shape[1]
    A, B = h.T @ h / N, delta.T @ delta / N
    I_A, I_B = torch.eye(k).to(A), torch.eye(M).to(B)
    bias_block = h[0, -1] ** 2 * B / N + rho * I_B
    if s.layers[l] == s.L and attrs.get("kfac_last", "identity") == "identity":
        B = I_B / N
    G = torch.einsum("ik,jm->ijkm", B + rho * I_B, A + rho * I_A)
    if s.bias[l] and attrs.get("kfac_bias", "augmented") == "separate":
        G[:, -1], G[..., -1] = 0, 0
        G[:, -1, :, -1] = bias_block
    return G.reshape(M * k, M * k)


def quasi_diagonal(s: Signals, l: int, rho: float) -> Tensor:
    """QD (M, k, k) of the units of a layer, THEORY 5: QD_ij = A_0i A_0j / A_00 with A = F_unit + rho I, 0 the bias."""
    J = s.J[l].flatten(0, 1).movedim(1, 0)  # (M, NC, k)
    A = J.mT @ J / s.N + rho * torch.eye(J.shape[2]).to(J)
    diagonal = torch.diag_embed(A.diagonal(dim1=1, dim2=2))
    if not s.bias[l]:
        return diagonal
    column, A_00 = A[:, :, -1], A[:, -1, -1]
    QD = column[:, :, None] * column[:, None] / torch.where(A_00 > 0, A_00, 1)[:, None, None]
    QD = QD - torch.diag_embed(QD.diagonal(dim1=1, dim2=2)) + diagonal
    QD[:, -1], QD[:, :, -1] = column, column
    return QD


# ------------------------------------------------------------------------------------------------- natural gradients


def power_of_root(R: Tensor, N: float, rho: float, q: float) -> Tensor:
    """(R^T R / N + rho I)^{-1/q} R^T (.., k, n) of roots R (.., n, k); the pseudo-inverse if rho = 0."""
    U, s, Vt = torch.linalg.svd(R, full_matrices=False)
    live = alive(s, max(R.shape[-2:]))
    s = torch.where(live, s, 1)
    t = torch.hypot(s / math.sqrt(N), s.new_tensor(rho) ** 0.5) ** (-1 / q)  # not (s s / N + rho), which may overflow
    return (Vt.mT * (live * s * t * t)[..., None, :]) @ U.mT


def preconditioned(inputs: dict[str, Tensor], attrs: dict, s: Signals) -> Tensor:
    """K = G^{-1/q} J^T (P, NC)."""
    fisher, rho, q, J = attrs["fisher"], attrs.get("rho", 0.0), attrs.get("q", 1), s.flat()
    if fisher in ("BlockTridiagonal", "Layerwise"):
        Sigma = coupling(inputs, attrs, s)
        require(q in (1, math.inf) or merges(Sigma), f"G may be indefinite: q is {q}; expected 1 or inf")
    if fisher == "Identity" or math.isinf(q):
        return (1 + rho) ** (-1 / q) * J.T
    if fisher in ("BlockTridiagonal", "Layerwise"):
        return coupled(Sigma, s, rho, q)
    if fisher == "Exact":
        return power_of_root(J, s.N, rho, q)
    return torch.cat([layer(attrs, s, l).reshape(-1, len(J)) for l in range(len(s.h))])


def layer(attrs: dict, s: Signals, l: int) -> Tensor:
    """The rows of K that belong to a layer: (M k, NC), or (M, k, NC)."""
    fisher, rho, q = attrs["fisher"], attrs.get("rho", 0.0), attrs.get("q", 1)
    if fisher == "KFAC":
        return kfac(attrs, s, l, rho, q)
    J = s.J[l].flatten(0, 1)  # (NC, M, k)
    if fisher == "QuasiDiagonal" and s.bias[l]:
        R, X = factored(J.permute(1, 2, 0), s.N, rho)
        return power_of_root(R, 1, 0.0, q) @ X
    entries = J.flatten(1).T[:, :, None]
    blocks = {"BlockDiagonal": J.flatten(1)[None], "Unitwise": J.movedim(1, 0), "Entrywise": entries}
    return power_of_root(blocks.get(fisher, entries), s.N, rho, q)


def merges(Sigma: Tensor) -> bool:
    """Whether it only merges layers into blocks: entries of 0 and 1, and rows that are equal or have no 1 in common."""
    return bool(((Sigma == 0) | (Sigma == 1)).all() and (Sigma @ Sigma == Sigma.sum(1, keepdim=True) * Sigma).all())


def coupled(Sigma: Tensor, s: Signals, rho: float, q: float) -> Tensor:
    """G^{-1/q} J^T of G = S^T (Sigma (x) I) S / N + rho I, S = blockdiag(J_l): K&O (15).

    Sigma = T^T D T with signs D, so G = R^T D R / N + rho I, R = (T (x) I) S = U a V^T, is V t Q t V^T on the range of
    V, t^2 = a^2 / N + rho, and Q = (a/t) U^T D U (a/t) / N + rho / t^2 is I where all signs are positive. So no square
    of J is formed. The pseudo-inverse of t Q t is P t^{-1} Q^+ t^{-1} P, where P takes away Z / t, Z the null space of
    Q.
    """
    if not Sigma.any():
        return s.flat().T * (rho ** (-1 / q) if rho > 0 else 0.0)
    w, E = torch.linalg.eigh(Sigma)
    w, E = w[alive(w.abs(), len(w))], E[:, alive(w.abs(), len(w))]
    T, JT = w.abs().sqrt()[:, None] * E.T, s.flat().T
    R = torch.cat([torch.kron(T[:, [l]], J.flatten(2).flatten(0, 1)) for l, J in enumerate(s.J)], 1)
    U, a, Vt = torch.linalg.svd(R, full_matrices=False)
    keep = alive(a, max(R.shape))
    U, a, Vt, D = U[:, keep], a[keep, None], Vt[keep], w.sign().repeat_interleave(s.f.numel())
    in_range = torch.allclose(E @ E.sum(0), torch.ones(len(E)).to(E), rtol=0, atol=1e3 * torch.finfo(E.dtype).eps)
    z = torch.kron((E.sum(0) / w.abs().sqrt())[:, None], torch.eye(s.f.numel()).to(E))
    right = a * (U.T @ z) if in_range else Vt @ JT  # V^T J^T, J^T = R^T z
    outside = rho ** (-1 / q) * (JT - Vt.T @ (Vt @ JT)) if rho > 0 and not in_range else 0
    t = torch.hypot(a / math.sqrt(s.N), a.new_tensor(rho) ** 0.5)
    if (D > 0).all() or not len(a):
        return Vt.T @ (right * t ** (-1 / q) * t ** (-1 / q)) + outside
    c = a / t
    w, Z = torch.linalg.eigh(c * ((U.T * D) @ U) * c.T / s.N + torch.diag(rho / t[:, 0] ** 2))
    null = w.abs() <= len(w) * torch.finfo(w.dtype).eps * (a.max() / t.min())
    Y = torch.linalg.qr(Z[:, null] / t)[0]
    right = Z @ (torch.where(null, 0, 1 / torch.where(null, 1, w))[:, None] * (Z.T @ ((right - Y @ (Y.T @ right)) / t)))
    return Vt.T @ (right / t - Y @ (Y.T @ (right / t))) + outside


def kfac(attrs: dict, s: Signals, l: int, rho: float, q: float) -> Tensor:
    """(B* + rho I)^{-1/q} delta^T (x) (A* + rho I)^{-1/q} h^T, K&O (20): a sample's J is delta (x) h."""
    N, h, delta = s.N, s.h[l], s.delta[l].flatten(0, 1)
    last = s.layers[l] == s.L and attrs.get("kfac_last", "identity") == "identity"
    left = (1 / N + rho) ** (-1 / q) * delta.T if last else power_of_root(delta, N, rho, q)
    left = left.reshape(-1, 1, *s.f.shape)
    if not (s.bias[l] and attrs.get("kfac_bias", "augmented") == "separate"):
        return (left * power_of_root(h, N, rho, q)[:, :, None]).flatten(2)
    bias = power_of_root(s.J[l][..., -1].flatten(0, 1), N * N, rho, q)
    return torch.cat([(left * power_of_root(h[:, :-1], N, rho, q)[:, :, None]).flatten(2), bias[:, None]], 1)


def step(inputs: dict[str, Tensor], attrs: dict, s: Signals, y: Tensor) -> list[Tensor]:
    """The direction K e / N, a list like W."""
    white, e = whitened(attrs, s, y)
    return unflatten(preconditioned(inputs, attrs, white) @ e.flatten() / s.N, [J.shape[2:] for J in s.J])


def factored(J: Tensor, N: int, rho: float) -> tuple[Tensor, Tensor]:
    """R (M, k, k) and X (M, k, NC) with QD = R^T R and J = R^T X, for units J (M, k, NC) with their bias, 0, last.

    The elimination of the bias, THEORY 5, in terms of r_i = J_i - beta_i J_0, beta_i = A_0i / A_00, does not cancel:
    R = [diag(sqrt(D)) 0; sqrt(A_00) (beta 1)],   D_i = A_ii - A_0i^2 / A_00 = ||r_i||^2 / N + rho (1 + beta_i^2)
    """
    bias, J = J[:, -1:], J[:, :-1]
    A_00 = (bias * bias).sum(2, keepdim=True) / N + rho
    beta = (J * bias).sum(2, keepdim=True) / N / torch.where(A_00 > 0, A_00, 1)
    r = J - beta * bias
    D = (r * r).sum(2, keepdim=True) / N + rho * (1 + beta * beta)
    roots = torch.cat([D, A_00], 1) ** 0.5  # (M, k, 1)
    R = torch.diag_embed(roots[:, :, 0])
    R[:, -1, :-1] = (roots[:, -1:] * beta)[:, :, 0]
    return R, torch.cat([r, bias], 1) / torch.where(roots > 0, roots, 1)


def unflatten(theta: Tensor, shapes) -> list[Tensor]:
    return [v.reshape(shape) for v, shape in zip(theta.split([math.prod(s) for s in shapes]), shapes, strict=True)]


# ---------------------------------------------------------------------------------------------------------- operations


def forward(inputs, attrs):
    net, W = Net.of(attrs), listed("W", inputs)
    shifts = [w.new_zeros(len(w)) for w in W]
    return {"f": vmap(lambda x_n: outputs(net, W, shifts, x_n)[0])(inputs["x"])}


def all_signals(inputs, attrs):
    s = signals(inputs, attrs)
    return {"f": s.f, **numbered("h", s.h, [l - 1 for l in s.layers]), **numbered("delta", s.delta, s.layers)}


def jacobian(inputs, attrs):
    return {"J": signals(inputs, attrs).flat()}


def push(inputs, attrs):
    """J dW by forward mode."""
    W, dW = listed("W", inputs), listed("dW", inputs)
    require([a.shape for a in W] == [a.shape for a in dW], "dW has not the shapes of W")
    tangents = {**inputs, **numbered("W", dW)}
    names = [f"W_{l}" for l in range(1, 1 + len(W))]

    def f(*W):
        return forward({**inputs, **numbered("W", W)}, attrs)["f"]

    return {"Jv": jvp(f, tuple(W), tuple(tangents[name] for name in names))[1]}


def pull(inputs, attrs):
    """J^T v by reverse mode."""
    s, v = signals(inputs, attrs), inputs["v"]
    require(v.shape == s.f.shape, f"v has shape {tuple(v.shape)}; expected (N, C) = {tuple(s.f.shape)}")
    W = listed("W", inputs)
    gradients = grad(lambda W: (forward({**inputs, **numbered("W", W)}, attrs)["f"] * v).sum())(W)
    return numbered("dW", gradients)


def ntk(inputs, attrs):
    test, train = signals(inputs, attrs, "x_test"), signals(inputs, attrs)
    return {"Theta": test.flat() @ train.flat().T / train.N}


def fisher_matrix(inputs, attrs):
    s = signals(inputs, attrs)
    return {"G": matrix(inputs, attrs, whitened(attrs, s, inputs["y"])[0] if "y" in inputs else s)}


def direction(inputs, attrs):
    s = signals(inputs, attrs)
    white, e = whitened(attrs, s, inputs["y"])
    gram = [a.flatten(0, -2) @ a.flatten(0, -2).T for a in (*white.h, *white.delta)]
    A, B = gram[: len(s.h)], gram[len(s.h) :]
    J = [J.flatten(2).flatten(0, 1) for J in white.J]
    return {
        **numbered("dW", step(inputs, attrs, s, inputs["y"]), s.layers),
        **all_signals(inputs, attrs),
        "e": residual_and_hessian(attrs, s.f, inputs["y"])[0],
        "e_white": e,
        **numbered("delta_white", white.delta, s.layers),
        **numbered("A", A, [l - 1 for l in s.layers]),
        **numbered("B", B, s.layers),
        **numbered("Theta", [J_l @ J_l.T / s.N for J_l in J], s.layers),
    }


def theta_bar(inputs, attrs, test, train):
    return test.flat() @ preconditioned(inputs, attrs, train) / train.N


def coefficient(inputs, attrs):
    """J(x') G^{-1/q} J^T / N; with a loss J^T = (R J)^T R^{-1}, R_n = H_n^{1/2}."""
    test, train = signals(inputs, attrs, "x_test"), signals(inputs, attrs)
    if "y" not in inputs:
        return {"Theta_bar": theta_bar(inputs, attrs, test, train)}
    white, _ = whitened(attrs, train, inputs["y"])
    _, Lambda = residual_and_hessian(attrs, train.f, inputs["y"])
    inverse = symmetric_power(Lambda + attrs["loss_rho"] * torch.eye(Lambda.shape[1]).to(Lambda), -0.5)
    Theta_bar = theta_bar(inputs, attrs, test, white).unflatten(1, train.f.shape)
    return {"Theta_bar": torch.einsum("anc,ncd->and", Theta_bar, inverse).flatten(1)}


def prediction(inputs, attrs):
    """t literal steps f <- f - eta Theta_bar (f - y), K&O (10), or the limit for t = inf by the pseudo-inverse."""
    test, train = signals(inputs, attrs, "x_test"), signals(inputs, attrs)
    y, eta, t = inputs["y"], attrs["eta"], attrs["t"]
    require(y.shape == train.f.shape, f"y has shape {tuple(y.shape)}; expected {tuple(train.f.shape)}")
    require(eta > 0 and t >= 0 and (math.isinf(t) or t == int(t)), f"eta is {eta}, t is {t}")
    own, cross = (theta_bar(inputs, attrs, s, train) for s in (train, test))
    error = (y - train.f).flatten()
    if math.isinf(t):
        require(bool((abs(1 - eta * torch.linalg.eigvals(own)) < 1 + 1e-6).all()), "there is no limit: lower eta")
        total = torch.linalg.lstsq(own, error[:, None], driver="gelsd").solution[:, 0]
    else:
        total = torch.zeros_like(error)
        for _ in range(int(t)):
            total, error = total + eta * error, error - eta * (own @ error)
    moves = (own @ total).reshape_as(train.f), (cross @ total).reshape_as(test.f)
    return {"f_train": train.f + moves[0], "f_test": test.f + moves[1]}


def training(inputs, attrs):
    """W <- W - eta direction."""
    W, y = listed("W", inputs), inputs["y"]
    require(0 < attrs["eta"] < math.inf and attrs["steps"] >= 0, "eta > 0 and steps >= 0 are expected")
    losses = []
    for _ in range(attrs["steps"]):
        s = signals(inputs, attrs, W=W)
        dW = step(inputs, attrs, s, y)
        losses.append(loss_value(attrs, s.f, y))
        for l, d in zip(s.layers, dW, strict=True):
            W[l - 1] = W[l - 1].clone()
            W[l - 1][:, : d.shape[1]] -= attrs["eta"] * d
    f = signals(inputs, attrs, W=W).f
    residual_and_hessian(attrs, f, y)  # for its checks, if there is no step
    return {**numbered("W", W), "loss": torch.stack([*losses, loss_value(attrs, f, y)])}


def cross_entropy(inputs, attrs):
    """Its value, derivatives, and dp/dt = alpha Lambda (Lambda + rho I)^{-1} (y - p), (S.168)."""
    f, y, rho, loss = inputs["f"], inputs["y"], attrs.get("loss_rho", 0.0), {"loss": "cross-entropy"}
    g, Lambda = residual_and_hessian(loss, f, y)
    damped = symmetric_power(Lambda + rho * torch.eye(f.shape[1]).to(f), -1)
    velocity = -attrs.get("alpha", 1.0) * torch.einsum("nab,nbc,nc->na", Lambda, damped, g)
    return {"value": loss_value(loss, f, y), "residual": g, "hessian": Lambda, "velocity": velocity}


def inverse_power(inputs, attrs):
    K = inputs["K"]
    require(K.ndim == 2 and K.shape[0] == K.shape[1] and bool((K == K.T).all()), "K is not symmetric")
    damped, q = K + attrs.get("rho", 0.0) * torch.eye(len(K)).to(K), attrs.get("q", 1)
    w = torch.linalg.eigvalsh(damped)
    indefinite = bool((w < 0)[alive(abs(w), len(w))].any())
    require(q in (1, math.inf) or not indefinite, f"K + rho I has negative eigenvalues; q is {q}, expected 1 or inf")
    return {"power": symmetric_power(damped, -1 / q)}


# ------------------------------------------------------------------------------------------------ deep linear networks


def product(w: list[Tensor]) -> Tensor:
    """w_bar = w_d .. w_1."""
    w_bar = w[0]
    for i, w_i in enumerate(w[1:], 2):
        require(w_i.shape[1] == len(w_bar), f"w_{i} takes {w_i.shape[1]} inputs; w_{i - 1} gives {len(w_bar)}")
        w_bar = w_i @ w_bar
    return w_bar


def covariance(inputs: dict[str, Tensor]) -> Tensor:
    """Sigma_x, I if the inputs are white."""
    n_in = inputs["w_star"].shape[1]
    Sigma_x = inputs.get("Sigma_x", torch.eye(n_in).to(inputs["w_star"]))
    require(Sigma_x.shape == (n_in, n_in) and bool((Sigma_x == Sigma_x.T).all()), "Sigma_x is not symmetric")
    w = torch.linalg.eigvalsh(Sigma_x)
    require(bool((w >= -len(w) * torch.finfo(w.dtype).eps * w.max()).all()), "Sigma_x has a negative eigenvalue")
    return Sigma_x


def linear_problem(inputs):
    """w, the loss Tr(Delta Sigma_x Delta^T) / 2, Huh (1), and the map w_bar S (n_in, n_out), input-major."""
    w, w_star, Sigma_x = listed("w", inputs), inputs["w_star"], covariance(inputs)
    require(product(w).shape == w_star.shape, "w_star has not the shape of w_d .. w_1")
    S = symmetric_power(Sigma_x, 0.5)

    def loss(w):
        Delta = product(w) - w_star
        return (Delta @ Sigma_x * Delta).sum() / 2

    return w, loss, lambda w: (product(w) @ S).T


def map_jacobian(w, outputs) -> list[Tensor]:
    """J_i (n_in n_out, n_i n_{i-1}): the derivative of the map with respect to w_i."""
    return [J.flatten(2).flatten(0, 1) for J in jacrev(outputs)(w)]


def conserved(w):
    """c_i = w_i w_i^T - w_{i+1}^T w_{i+1}, Huh (15)."""
    return [a @ a.T - b.T @ b for a, b in pairwise(w)]


def deep_linear(inputs, attrs):
    """Gradient (4), Hessian products (2), (3), K = J J^T."""
    (w, loss, outputs), dw = linear_problem(inputs), listed("dw", inputs)
    J = torch.cat(map_jacobian(w, outputs), 1)
    found = {"loss": loss(w), **numbered("g", grad(loss)(w)), "K": J @ J.T, **numbered("c", conserved(w))}
    if dw:
        change = J @ torch.cat([a.flatten() for a in dw])
        found |= numbered("gn", unflatten(J.T @ change, [a.shape for a in w]))
        found |= numbered("hv", jvp(grad(loss), (w,), (dw,))[1])
    return found


def linear_update(inputs, attrs):
    """u = (H_+ + rho I)^{-1/q} g, g = J^T E, Huh (9), (12); layer by layer times d^{-1/q} if block, (19)."""
    rho, q, block = attrs.get("rho", 0.0), attrs.get("q", 1), attrs.get("block", False)
    w, _, outputs = linear_problem(inputs)
    target = (inputs["w_star"] @ symmetric_power(covariance(inputs), 0.5)).T
    E, J = (outputs(w) - target).flatten(), map_jacobian(w, outputs)
    blocks = J if block else [torch.cat(J, 1)]
    u = torch.cat([(J.T if math.isinf(q) else power_of_root(J, 1, rho, q)) @ E for J in blocks])
    u = u * (len(w) ** (-1 / q) if block else 1) * ((1 + rho) ** (1 / q) if attrs.get("regularised") else 1)
    require(attrs.get("clip", math.inf) > 0, "clip is not positive")
    return unflatten(u * min(1.0, attrs.get("clip", math.inf) / max(float(u.norm()), 1e-30)), [a.shape for a in w])


def deep_linear_update(inputs, attrs):
    return numbered("u", linear_update(inputs, attrs))


def deep_linear_step(inputs, attrs):
    """w <- w - eta u."""
    require(0 < attrs["eta"] < math.inf and attrs["steps"] >= 0, "eta > 0 and steps >= 0 are expected")
    w, loss, _ = linear_problem(inputs)
    losses = [loss(w)]
    for _ in range(attrs["steps"]):
        u = linear_update({**inputs, **numbered("w", w)}, attrs)
        w = [w_i - attrs["eta"] * u_i for w_i, u_i in zip(w, u, strict=True)]
        losses.append(loss(w))
    return {**numbered("w", w), "loss": torch.stack(losses), **numbered("c", conserved(w))}


def mode_velocity(inputs, attrs):
    """s_i' = -eta s_Delta j_i / ||j||^{2/q}, j the gradient of s_1 .. s_d: Huh (12), (20), (S.I.16); invariants (6).

    j is that of s / max |s|, of degree d - 1, since small layers would underflow in products.
    """
    s, s_star, eta = inputs["s"], inputs["s_star"], attrs.get("eta", 1.0)
    q, block = attrs.get("q", 1), attrs.get("block", False)
    require(bool((s_star >= 0).all()), "s_star is negative")
    require(s_star.shape in ((), s.shape[1:]), f"s_star has shape {tuple(s_star.shape)}; s {tuple(s.shape)}")
    require(eta > 0, f"eta is {eta}; expected a number > 0")
    size = abs(s).amax(0)
    size = torch.where(size > 0, size, 1)
    j = grad(lambda u: u.prod(0).sum())(s / size)
    norm = math.sqrt(len(s)) * abs(j) if block else torch.linalg.vector_norm(j, dim=0)
    degree, norm = len(s) - 1, torch.where(norm > 0, norm, 1)
    if "eps" in attrs:
        require(attrs["eps"] >= 0, "eps is negative")
        length = norm * size**degree  # of j
        speed = (attrs["eps"] + 1) / norm / (attrs["eps"] / length + length)
    else:
        speed = norm ** (-2 / q) * size ** (degree * (1 - 2 / q))
    return {"velocity": -eta * (s.prod(0) - s_star) * j * speed, "invariants": invariants(s, q, block)}


def invariants(s: Tensor, q: float, block: bool) -> Tensor:
    """s_i^2 - s_{i+1}^2, Huh (6); block: powers 2 (1 - 1/q) of |s_i|, and their limit, logarithms, at q = 1."""
    power = 2 * (1 - 1 / q) if block else 2
    require(power > 0 or bool((s != 0).all()), "s has a zero under a logarithm")
    kept = abs(s) ** power if power else torch.log(abs(s))
    return kept[:-1] - kept[1:]


OPERATIONS = {
    "forward": forward,
    "signals": all_signals,
    "jacobian": jacobian,
    "push": push,
    "pull": pull,
    "ntk": ntk,
    "fisher_matrix": fisher_matrix,
    "direction": direction,
    "coefficient": coefficient,
    "prediction": prediction,
    "training": training,
    "cross_entropy": cross_entropy,
    "inverse_power": inverse_power,
    "deep_linear": deep_linear,
    "deep_linear_update": deep_linear_update,
    "deep_linear_step": deep_linear_step,
    "mode_velocity": mode_velocity,
}
