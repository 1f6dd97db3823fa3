"""Neural Tangents on the vectors: `run` as the library comes, `converted` with its factors taken into account.

refngd check --implementation bench.peers.neural_tangents_adapter[:converted]

It has the NTK of finite networks, kernels at infinite width, and the gradient flow of the squared error: `Identity`.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

from .unsupported import unsupported

jax.config.update("jax_enable_x64", True)


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict, convert: bool = False) -> dict[str, np.ndarray]:
    unsupported(op not in OPERATIONS, op)
    unsupported(attrs.get("fisher", "Identity") != "Identity", attrs.get("fisher", ""))
    unsupported(bool(attrs.get("frozen")), "frozen layers")
    return {name: np.asarray(a) for name, a in OPERATIONS[op](inputs, attrs, convert).items()}


converted = partial(run, convert=True)


# -------------------------------------------------------------------------------------------------------- finite width


def network(attrs: dict):
    """f(W, x) (N, C)."""
    standard = attrs.get("parameterization") == "standard"
    known = {"tanh": jnp.tanh, "erf": jax.scipy.special.erf, "linear": lambda u: u}
    phi = known.get(attrs["activation"], lambda u: jnp.where(u > -attrs.get("shift", 0.0), u, -attrs.get("shift", 0.0)))

    def f(W, x):
        for l, w in enumerate(W):
            h = (phi(x) if l else x) * (1.0 if standard else attrs["sigma_w"] / math.sqrt(x.shape[1]))
            bias = jnp.full((len(x), int(attrs["sigma_b"] > 0)), 1.0 if standard else attrs["sigma_b"])
            x = jnp.concatenate([h, bias], axis=1) @ w.T
        return x

    return f


def weights(inputs: dict) -> list:
    return [jnp.asarray(inputs[f"W_{l}"]) for l in range(1, 1 + len(inputs)) if f"W_{l}" in inputs]


def kernel(inputs: dict, attrs: dict, x1: str, x2: str):
    """(N', N, C, C)."""
    ntk = nt.empirical_ntk_fn(network(attrs), trace_axes=())
    return ntk(jnp.asarray(inputs[x1]), jnp.asarray(inputs[x2]), weights(inputs))


def as_matrix(K):
    """(N'C, NC)."""
    return jnp.swapaxes(K, 1, 2).reshape(K.shape[0] * K.shape[2], -1)


def ntk(inputs, attrs, convert):
    K = as_matrix(kernel(inputs, attrs, "x_test", "x"))
    return {"Theta": K / len(inputs["x"]) if convert else K}


def coefficient(inputs, attrs, convert):
    unsupported(attrs.get("rho", 0.0) > 0 and not math.isinf(attrs.get("q", 1)), "damping")
    return {"Theta_bar": ntk(inputs, attrs, convert)["Theta"]}


def prediction(inputs, attrs, convert):
    """Gradient flow of the mean over samples and outputs of (f - y)^2 / 2: time is C times ours."""
    unsupported(attrs.get("rho", 0.0) > 0, "damping")
    own, cross = (kernel(inputs, attrs, x, "x") for x in ("x", "x_test"))
    f = network(attrs)
    f_train, f_test = (f(weights(inputs), jnp.asarray(inputs[x])) for x in ("x", "x_test"))
    predict = nt.predict.gradient_descent_mse(own, jnp.asarray(inputs["y"]), attrs["eta"], trace_axes=())
    t = attrs["t"] * (inputs["y"].shape[1] if convert else 1)
    after = predict(None if math.isinf(t) else float(t), f_train, f_test, cross)
    return dict(zip(("f_train", "f_test"), after, strict=True))


# ------------------------------------------------------------------------------------------------------ infinite width


def layers(attrs: dict, depth: int):
    """The kernel function of `depth` layers, the last being a dense one."""
    names = {"relu": stax.Relu(), "erf": stax.Erf(), "linear": stax.Identity()}
    phi = names.get(attrs["activation"]) or stax.ElementwiseNumerical(
        jnp.tanh if attrs["activation"] == "tanh" else lambda u: jnp.maximum(u, -attrs["shift"]), deg=100
    )
    dense = partial(
        stax.Dense, 1, W_std=attrs["sigma_w"], b_std=attrs["sigma_b"], parameterization=attrs["parameterization"]
    )
    *_, kernel_fn = stax.serial(*[part for _ in range(depth) for part in (phi, dense())][1:])
    return kernel_fn


def both(inputs):
    """x_test, which may be absent, and x."""
    return [jnp.asarray(inputs.get(name, inputs["x"])) for name in ("x_test", "x")]


def kernels(inputs, attrs, convert):
    """A_{l-1} is the covariance of u_l; the NTK of l + 1 layers less A_l, over that of l layers, is Xi_l, for B_l."""
    (x_test, x), L = both(inputs), attrs["depth"]
    A, Theta = zip(*[layers(attrs, l)(x_test, x, ("nngp", "ntk")) for l in range(1, L + 1)], strict=True)
    B = [jnp.ones_like(A[0])] * L
    for l in range(L - 1, 0, -1):
        B[l - 1] = B[l] * (Theta[l] - A[l]) / Theta[l - 1]
    named = {**{f"A_{l}": a for l, a in enumerate(A)}, **{f"B_{l}": b for l, b in enumerate(B, 1)}}
    return {**named, "Theta": Theta[-1] / len(x) if convert else Theta[-1]}


def kernel_coefficient(inputs, attrs, convert):
    unsupported(attrs.get("rho", 0.0) > 0 and not math.isinf(attrs.get("q", 1)), "damping")
    Theta = layers(attrs, attrs["depth"])(*both(inputs), "ntk")
    return {"Theta_bar": Theta / len(inputs["x"]) if convert else Theta}


def order_parameters(inputs, attrs, convert):
    x = jnp.zeros((1, attrs["M_0"])).at[0, 0].set(attrs.get("norm", 1.0))
    return {"q": jnp.stack([layers(attrs, l)(x, x, "nngp")[0, 0] for l in range(1, attrs["depth"] + 1)])}


OPERATIONS = {
    "ntk": ntk,
    "coefficient": coefficient,
    "prediction": prediction,
    "kernels": kernels,
    "kernel_coefficient": kernel_coefficient,
    "order_parameters": order_parameters,
}
