"""kfac-jax on the vectors: `run` as the library comes, `converted` with its factors, orders and damping chosen as ours.

refngd check --implementation bench.peers.kfac_jax_adapter[:converted]

Blocks of `BlockDiagonalCurvature` with "fisher_exact": KFAC, BlockDiagonal, Entrywise. A squared error is registered
with its default weight 1, the sum over outputs without 1/2, and with 1/2 in `converted`. K-FAC is damped by pi, and in
`converted` as the product of its factors plus rho I, neither of which is ours.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np

from .unsupported import unsupported

jax.config.update("jax_enable_x64", True)

BLOCKS = {
    "KFAC": kfac_jax.DenseTwoKroneckerFactored,
    "BlockDiagonal": kfac_jax.DenseFull,
    "Entrywise": kfac_jax.DenseDiagonal,
}


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict, convert: bool = False) -> dict[str, np.ndarray]:
    unsupported(op not in OPERATIONS, op)
    unsupported(bool(attrs.get("frozen")), "frozen layers")
    unsupported(attrs["fisher"] not in BLOCKS, attrs["fisher"])
    kfac = attrs["fisher"] == "KFAC"
    unsupported(kfac and attrs.get("kfac_last", "identity") == "identity", "the factor B*_L = I / N of the last layer")
    unsupported(kfac and attrs.get("kfac_bias") == "separate", "a block of its own for the bias")
    unsupported(attrs.get("loss_rho", 0) > 0, "damping of the output Hessian")
    return OPERATIONS[op](inputs, attrs, convert)


converted = partial(run, convert=True)


def weights(inputs: dict) -> list:
    return [inputs[f"W_{l}"] for l in range(1, 1 + len(inputs)) if f"W_{l}" in inputs]


def has_own_bias(attrs: dict) -> bool:
    return attrs.get("parameterization") == "standard" and attrs["sigma_b"] > 0


def parameters(inputs: dict, attrs: dict) -> list:
    """(w (in, out), b), or (w,) where the bias is one more input."""
    if has_own_bias(attrs):
        return [(jnp.asarray(w[:, :-1].T), jnp.asarray(w[:, -1])) for w in weights(inputs)]
    return [(jnp.asarray(w.T),) for w in weights(inputs)]


def loss_function(attrs: dict, convert: bool):
    known = {"tanh": jnp.tanh, "erf": jax.scipy.special.erf, "linear": lambda u: u}
    phi = known.get(attrs["activation"], lambda u: jnp.where(u > -attrs.get("shift", 0.0), u, -attrs.get("shift", 0.0)))
    standard = attrs.get("parameterization") == "standard"

    def loss(params, batch):
        u, y = batch
        for l, own in enumerate(params):
            h = phi(u) if l else u
            if not standard:
                bias = jnp.full((len(h), int(attrs["sigma_b"] > 0)), attrs["sigma_b"])
                h = jnp.concatenate([attrs["sigma_w"] / math.sqrt(h.shape[1]) * h, bias], axis=1)
            u = h @ own[0] + (own[1] if len(own) > 1 else 0.0)
            u = kfac_jax.register_dense(u, h, *own)
        if attrs.get("loss", "mse") == "mse":
            kfac_jax.register_squared_error_loss(u, y, weight=0.5 if convert else 1.0)
            return ((u - y) ** 2).sum() / (2 if convert else 1) / len(y)
        kfac_jax.register_softmax_cross_entropy_loss(u, y.argmax(1))
        return -(y * jax.nn.log_softmax(u)).sum() / len(y)

    return loss


def estimated(inputs, attrs, convert):
    """The estimator, its state, and the gradient of the loss."""
    y = inputs.get("y", np.zeros((len(inputs["x"]), len(weights(inputs)[-1]))))
    params, batch = parameters(inputs, attrs), (jnp.asarray(inputs["x"]), jnp.asarray(y))
    loss, tags = loss_function(attrs, convert), {"dense": BLOCKS[attrs["fisher"]]}
    estimator = kfac_jax.BlockDiagonalCurvature(loss, layer_tag_to_block_ctor=tags, auto_register_tags=False)
    key, args = jax.random.PRNGKey(0), (params, batch)
    state = estimator.init(key, args, None, None)
    options = dict(ema_old=0.0, ema_new=1.0, identity_weight=0.0, batch_size=len(y), rng=key, func_args=args)
    state = estimator.update_curvature_matrix_estimate(state, estimation_mode="fisher_exact", **options)
    return estimator, state, jax.grad(loss)(params, batch)


def order(inputs, attrs) -> list[np.ndarray]:
    """Where the entries of each W_l, row by row with its bias last, are in (w (in, out), b)."""
    places = []
    for w in weights(inputs):
        M, k = w.shape
        own = has_own_bias(attrs)
        index = np.arange((k - own) * M).reshape(k - own, M).T
        places.append(np.concatenate([index, (k - 1) * M + np.arange(M)[:, None]], axis=1) if own else index)
    return [index.ravel() for index in places]


def fisher_matrix(inputs, attrs, convert):
    rho = attrs.get("rho", 0.0)
    unsupported(attrs["fisher"] == "KFAC" and rho > 0, "K-FAC is damped only in its inverse")
    estimator, state, _ = estimated(inputs, attrs, convert)
    blocks = [np.asarray(block) for block in estimator.to_diagonal_block_dense_matrix(state)]
    if convert:
        blocks = [block[index][:, index] for block, index in zip(blocks, order(inputs, attrs), strict=True)]
    G, start = np.zeros((sum(map(len, blocks)),) * 2), 0
    for block in blocks:
        G[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return {"G": G + rho * np.eye(len(G))}


def direction(inputs, attrs, convert):
    rho, q = attrs.get("rho", 0.0), attrs.get("q", 1)
    unsupported(math.isinf(q), "q = inf")
    unsupported(rho == 0, "a pseudo-inverse")
    unsupported(q != 1 and not convert, "powers other than -1, without exact_power")
    estimator, state, gradient = estimated(inputs, attrs, convert)
    exact = convert or attrs["fisher"] != "KFAC"
    options = dict(power=-1 / q if q != 1 else -1, exact_power=exact, use_cached=False, pmap_axis_name=None)
    step = estimator.multiply_matpower(state, gradient, rho, **options)
    dW = [np.concatenate([np.asarray(a).reshape(-1, own[0].shape[1]) for a in own]).T for own in step]
    return {f"dW_{l}": np.ascontiguousarray(w) for l, w in enumerate(dW, 1)}


OPERATIONS = {"fisher_matrix": fisher_matrix, "direction": direction}
