"""JAX, by automatic differentiation and from the definitions alone: the short template.

    refngd check --implementation jax_autograd

`torch_autograd` has all operations, and explains more; this is its core in the idiom of JAX. With the Jacobian J of
jax.jacrev, of samples by jax.vmap, and a root R_b of every block of the Fisher matrix, G_b = R_b^T R_b / N + rho I:

    K = G^{-1/q} J^T (P, NC),   direction = K e / N,   Theta_bar(x', x) = J(x') K / N              K&O (9), (11), (13)

Not here: the approximations that are no R^T R (coupled layers, the quasi-diagonal one), fisher_matrix, training,
prediction, deep linear networks, infinite width, closed forms. JAX must be told to compute in float64.

`.ci/conformance` runs it where jax can be installed, some 380 MB: no case may fail.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict) -> dict[str, np.ndarray]:
    """The outputs of an operation."""
    if op not in OPERATIONS:
        raise NotImplementedError(op)
    if attrs.get("kfac_damping", "factors") != "factors":
        raise NotImplementedError("the damping of the product")
    for name, a in inputs.items():
        require(np.isfinite(a).all(), f"{name} has non-finite entries")
    for name in ("rho", "loss_rho"):
        require(0 <= attrs.get(name, 0) < math.inf, f"{name} is {attrs.get(name)}; expected a finite number >= 0")
    require(attrs.get("q", 1) >= 1, f"q is {attrs.get('q')}; expected q >= 1")
    outputs = OPERATIONS[op]({name: jnp.asarray(a) for name, a in inputs.items()}, attrs)
    return {name: np.asarray(a) for name, a in outputs.items()}


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def listed(prefix, inputs):
    return [inputs[f"{prefix}_{l}"] for l in range(1, 1 + len(inputs)) if f"{prefix}_{l}" in inputs]


def numbered(prefix, arrays, numbers=None):
    return {f"{prefix}_{l}": a for l, a in zip(numbers or range(1, 1 + len(arrays)), arrays, strict=True)}


# ------------------------------------------------------------------------------------------------------------ networks


def tanh(u):
    """tanh, whose derivative 4 t / (1 + t)^2, t = e^{-2|u|}, does not cancel as the 1 - tanh^2 of jnp.tanh does.

    Near 0 1 - t would cancel, and for large |u| the derivative of expm1, which JAX takes to be expm1 + 1.
    """
    sign = jnp.where(u < 0, -1.0, 1.0).astype(u.dtype)
    t = jnp.exp(-2 * sign * u)
    return sign * jnp.where(t < 0.1, 1 - t, -jnp.expm1(-2 * sign * u)) / (1 + t)


def phi(attrs, u):
    """jnp.where: at the kink jnp.maximum has the derivative 1/2, here it is 0."""
    name, shift = attrs["activation"], attrs.get("shift", 0.0)
    smooth = {"tanh": tanh, "erf": jax.lax.erf, "linear": lambda v: v}
    return smooth[name](u) if name in smooth else jnp.where(u > -shift, u, jnp.asarray(-shift, u.dtype))


def outputs(W, shifts, x, attrs):
    """f (C,) of one sample x (M_0,), with shifts (M_l,) added to the u_l, and h_0 .. h_{L-1}: K&O (1)."""
    standard, sigma_b, h, v = attrs.get("parameterization") == "standard", attrs["sigma_b"], [], x
    for l, (w, shift) in enumerate(zip(W, shifts, strict=True), 1):
        v = v if standard else v * (attrs["sigma_w"] / math.sqrt(len(v)))
        bias = jnp.full(1 if sigma_b > 0 else 0, 1.0 if standard else sigma_b, v.dtype)
        h.append(jnp.concatenate([v, bias]))
        require(w.shape[1] == len(h[-1]), f"W_{l} has {w.shape[1]} columns; x and the widths ask for {len(h[-1])}")
        u = w @ h[-1] + shift
        v = phi(attrs, u)
    return u, h


def trained(attrs, L):
    """The numbers of the layers that are not frozen, the first k or those of a list, and whether the output bias is."""
    frozen = attrs.get("frozen", 0)
    fixed = range(1, frozen + 1) if isinstance(frozen, int) else frozen
    known = {*range(1, L + 1), *(["output-bias"] if attrs["sigma_b"] > 0 and L not in fixed else [])}
    require(set(fixed) <= known and len(set(fixed)) == len(fixed), f"frozen is {frozen}; expected some of {known}")
    layers = [l for l in range(1, L + 1) if l not in fixed]
    require(layers, f"frozen is {frozen}; expected less than all {L} layers")
    return layers, "output-bias" in fixed


def signals(inputs, attrs, x="x"):
    """f (N, C), and of the layers that are not frozen h (N, k), delta (N, C, M), J (N, C, M, k); which these are."""
    W = listed("W", inputs)
    layers, fixed = trained(attrs, len(W))
    shifts = [jnp.zeros(len(w), w.dtype) for w in W]

    def of_sample(W, shifts, x_n):
        f, h = outputs(W, shifts, x_n, attrs)
        return f, (f, h)

    derivatives = jax.vmap(jax.jacrev(of_sample, argnums=(0, 1), has_aux=True), in_axes=(None, None, 0))
    (J, delta), (f, h) = derivatives(W, shifts, inputs[x])
    if fixed:
        h[-1], J[-1] = h[-1][:, :-1], J[-1][..., :-1]
    is_last = [l == len(W) for l in layers]
    bias = [attrs["sigma_b"] > 0 and not (fixed and last) for last in is_last]
    return f, *([arrays[l - 1] for l in layers] for arrays in (h, delta, J)), (layers, is_last, bias)


def rows(a):
    """(N, C, ..) as (NC, P)."""
    return a.reshape(a.shape[0] * a.shape[1], -1)


def flat(J):
    return jnp.concatenate([rows(J_l) for J_l in J], 1)


# -------------------------------------------------------------------------------------------------------------- losses


def sample_loss(attrs, f_n, y_n):
    if attrs.get("loss", "mse") == "mse":
        return ((f_n - y_n) ** 2).sum() / 2
    return -(y_n * jax.nn.log_softmax(f_n)).sum()


def symmetric_power(K, exponent):
    w, V = jnp.linalg.eigh(K)
    live = abs(w) > len(w) * jnp.finfo(w.dtype).eps * abs(w).max()
    return (V * jnp.where(live, jnp.where(live, w, 1) ** exponent, 0)) @ V.T


def whitened(inputs, attrs, s):
    """R delta, R J, e = R^{-1} g, R = H_n^{1/2}, from the derivatives g, H of the loss of a sample: (S.159)."""
    (f, h, delta, J, which), y = s, inputs["y"]
    require(y.shape == f.shape, f"y has shape {y.shape}; expected (N, C) = {f.shape}")
    g, H = (jax.vmap(d(lambda a, b: sample_loss(attrs, a, b)))(f, y) for d in (jax.grad, jax.hessian))
    if attrs.get("loss", "mse") == "mse":
        return s, g
    require(bool(((y == 0) | (y == 1)).all() & (y.sum(1) == 1).all()), "y is not one-hot")
    H = H + attrs.get("loss_rho", 0.0) * jnp.eye(f.shape[1], dtype=f.dtype)
    R, inverse = (jax.vmap(lambda K, p=p: symmetric_power(K, p))(H) for p in (0.5, -0.5))
    products = ([jnp.einsum("ncd,nd...->nc...", R, a) for a in arrays] for arrays in (delta, J))
    return (f, h, *products, which), jnp.einsum("ncd,nd->nc", inverse, g)


# -------------------------------------------------------------------------------------------------- natural gradients


def power_of_root(R, N, rho, q):
    """(R^T R / N + rho I)^{-1/q} R^T (k, n) of R (n, k), by singular values; the pseudo-inverse if rho = 0."""
    U, s, Vt = jnp.linalg.svd(R, full_matrices=False)
    live = s > max(R.shape) * jnp.finfo(s.dtype).eps * s.max()
    s = jnp.where(live, s, 1)
    return (Vt.T * jnp.where(live, s * (s * s / N + rho) ** (-1 / q), 0)) @ U.T


def preconditioned(attrs, s):
    """K (P, NC)."""
    (f, h, _, J, _), fisher, rho, q = s, attrs["fisher"], attrs.get("rho", 0.0), attrs.get("q", 1)
    if math.isinf(q) or fisher == "Identity":
        return (1 + rho) ** (-1 / q) * flat(J).T
    if fisher == "Exact":
        return power_of_root(flat(J), len(f), rho, q)
    if fisher not in LAYERS:
        raise NotImplementedError(fisher)
    layers = [LAYERS[fisher](attrs, s, l, rho, q) for l in range(len(h))]
    return jnp.concatenate([K.reshape(-1, f.size) for K in layers])


def layerwise(attrs, s, l, rho, q):
    return power_of_root(rows(s[3][l]), len(s[0]), rho, q)


def unitwise(attrs, s, l, rho, q):
    J = s[3][l].reshape(s[0].size, *s[3][l].shape[2:])
    return jax.vmap(lambda R: power_of_root(R, len(s[0]), rho, q), in_axes=1)(J)


def entrywise(attrs, s, l, rho, q):
    return jax.vmap(lambda v: power_of_root(v[:, None], len(s[0]), rho, q), in_axes=1)(rows(s[3][l]))


def kfac(attrs, s, l, rho, q):
    """(B* + rho I)^{-1/q} delta^T (x) (A* + rho I)^{-1/q} h^T, K&O (20); a separate bias: (S.123)."""
    f, h, delta = s[0], s[1][l], rows(s[2][l])
    N, (_, is_last, bias) = len(f), s[4]
    last = is_last[l] and attrs.get("kfac_last", "identity") == "identity"
    left = (1 / N + rho) ** (-1 / q) * delta.T if last else power_of_root(delta, N, rho, q)
    separate = attrs.get("kfac_bias") == "separate" and bias[l]
    right = power_of_root(h[:, :-1] if separate else h, N, rho, q)
    K = jnp.einsum("inc,jn->ijnc", left.reshape(-1, *f.shape), right).reshape(len(left), -1, f.size)
    if not separate:
        return K
    return jnp.concatenate([K, power_of_root(h[0, -1] * delta, N * N, rho, q)[:, None]], 1)


LAYERS = {"BlockDiagonal": layerwise, "Unitwise": unitwise, "Entrywise": entrywise, "KFAC": kfac}


# ---------------------------------------------------------------------------------------------------------- operations


def forward(inputs, attrs):
    return {"f": signals(inputs, attrs)[0]}


def all_signals(inputs, attrs):
    f, h, delta, _, (layers, *_) = signals(inputs, attrs)
    return {"f": f, **numbered("h", h, [l - 1 for l in layers]), **numbered("delta", delta, layers)}


def of_weights(inputs, attrs):
    """W -> f, to differentiate."""
    return lambda W: signals({**inputs, **numbered("W", W)}, attrs)[0]


def push(inputs, attrs):
    W, dW = listed("W", inputs), listed("dW", inputs)
    require([a.shape for a in W] == [a.shape for a in dW], "dW has not the shapes of W")
    return {"Jv": jax.jvp(of_weights(inputs, attrs), (W,), (dW,))[1]}


def pull(inputs, attrs):
    f, pulled = jax.vjp(of_weights(inputs, attrs), listed("W", inputs))
    require(inputs["v"].shape == f.shape, f"v has shape {inputs['v'].shape}; expected (N, C) = {f.shape}")
    return numbered("dW", pulled(inputs["v"])[0])


def direction(inputs, attrs):
    f, _, _, J, (layers, *_) = signals(inputs, attrs)
    white, e = whitened(inputs, attrs, signals(inputs, attrs))
    theta = preconditioned(attrs, white) @ e.ravel() / len(f)
    parts = jnp.split(theta, np.cumsum([math.prod(J_l.shape[2:]) for J_l in J])[:-1])
    return numbered("dW", [v.reshape(J_l.shape[2:]) for v, J_l in zip(parts, J, strict=True)], layers)


def coefficient(inputs, attrs):
    if "y" in inputs:
        raise NotImplementedError("a coefficient with a loss")
    test, train = signals(inputs, attrs, "x_test"), signals(inputs, attrs)
    return {"Theta_bar": flat(test[3]) @ preconditioned(attrs, train) / len(train[0])}


OPERATIONS = {
    "forward": forward,
    "signals": all_signals,
    "jacobian": lambda inputs, attrs: {"J": flat(signals(inputs, attrs)[3])},
    "push": push,
    "pull": pull,
    "ntk": lambda inputs, attrs: {"Theta": coefficient(inputs, {**attrs, "fisher": "Identity"})["Theta_bar"]},
    "direction": direction,
    "coefficient": coefficient,
}
