"""curvlinops on the vectors: `run` as the library comes, `converted` with its factors and orders taken into account.

refngd check --implementation bench.peers.curvlinops_adapter[:converted]

Its matrices are those of `nn.MSELoss()`, the mean over samples and outputs of (f - y)^2: 2/C times ours.
"""

from functools import partial

import numpy as np
import torch
from curvlinops import (
    CGInverseLinearOperator,
    FisherType,
    GGNLinearOperator,
    JacobianLinearOperator,
    KFACInverseLinearOperator,
    KFACLinearOperator,
    TransposedJacobianLinearOperator,
)
from curvlinops.examples import IdentityLinearOperator
from torch import Tensor, nn

from .torch_network import as_weights, gradient, network, order, tangent, tensors
from .unsupported import unsupported


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict, convert: bool = False) -> dict[str, np.ndarray]:
    unsupported(op not in OPERATIONS, op)
    unsupported(bool(attrs.get("frozen")), "frozen layers")
    given = tensors(inputs)
    return OPERATIONS[op](given, attrs, network(given, attrs), convert)


converted = partial(run, convert=True)


def options(inputs: dict[str, Tensor], attrs: dict, model: nn.Module) -> dict:
    """The arguments that all curvature operators take."""
    cross_entropy = attrs.get("loss", "mse") != "mse"
    unsupported(attrs.get("loss_rho", 0) != 0, "damping of the output Hessian")
    y = inputs["y"] if "y" in inputs else model(inputs["x"]).detach()
    data = [(inputs["x"], y.argmax(1) if cross_entropy else y)]
    loss = nn.CrossEntropyLoss() if cross_entropy else nn.MSELoss()
    return dict(model_func=model, loss_func=loss, params=list(model.parameters()), data=data, check_deterministic=False)


def operator(inputs: dict[str, Tensor], attrs: dict, model: nn.Module):
    fisher, arguments = attrs["fisher"], options(inputs, attrs, model)
    if fisher == "KFAC":
        unsupported(attrs.get("kfac_last", "identity") == "identity", "the factor B*_L = I / N of the last layer")
        separate = attrs.get("kfac_bias") == "separate"
        unsupported(separate and all(layer.bias is None for layer in linears(model)), "a bias that is no parameter")
        return KFACLinearOperator(**arguments, fisher_type=FisherType.TYPE2, separate_weight_and_bias=separate)
    unsupported(fisher != "Exact", fisher)
    return GGNLinearOperator(**arguments)


def linears(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def scale(attrs: dict, model: nn.Module) -> float:
    """What the matrices of the library are to be multiplied with."""
    return len(linears(model)[-1].weight) / 2 if attrs.get("loss", "mse") == "mse" else 1.0


def dense(A, n: int) -> Tensor:
    return (A @ torch.eye(n)).detach()


def jacobian(inputs, attrs, model, convert):
    parameters = list(model.parameters())
    P = sum(p.numel() for p in parameters)
    J = JacobianLinearOperator(model, parameters, [(inputs["x"], inputs["x"])], check_deterministic=False)
    J = dense(J, P)
    return {"J": (J[:, order(model)] if convert else J).numpy()}


def push(inputs, attrs, model, convert):
    J = torch.as_tensor(jacobian(inputs, attrs, model, convert)["J"])
    return {"Jv": (J @ tangent(inputs)).reshape(len(inputs["x"]), -1).numpy()}


def pull(inputs, attrs, model, convert):
    data = [(inputs["x"], inputs["x"])]
    JT = TransposedJacobianLinearOperator(model, list(model.parameters()), data, check_deterministic=False)
    theta = (JT @ inputs["v"].flatten()).detach()
    return as_weights(theta[order(model)] if convert else theta, inputs)


def fisher_matrix(inputs, attrs, model, convert):
    A = operator(inputs, attrs, model)
    rho, P = attrs.get("rho", 0.0), sum(p.numel() for p in model.parameters())
    unsupported(attrs["fisher"] == "KFAC" and rho > 0, "K-FAC is damped only in its inverse")
    G = dense(A, P)
    if convert:
        G = scale(attrs, model) * G[order(model)][:, order(model)]
    return {"G": (G + rho * torch.eye(P)).numpy()}


def direction(inputs, attrs, model, convert):
    fisher, rho = attrs["fisher"], attrs.get("rho", 0.0)
    unsupported(attrs.get("q", 1) != 1, "powers of the matrix")
    unsupported(rho == 0, "a pseudo-inverse")
    A, g = operator(inputs, attrs, model), torch.cat([a.flatten() for a in gradient(model, inputs, attrs)])
    factor = scale(attrs, model) if convert else 1.0
    if fisher == "KFAC":
        theta = KFACInverseLinearOperator(A, damping=(rho, rho / factor)) @ g / factor
    else:
        damped = factor * A + rho * IdentityLinearOperator([p.shape for p in model.parameters()], g.device, g.dtype)
        theta = CGInverseLinearOperator(damped, tolerance=1e-14, max_iter=10 * len(g), max_tridiag_iter=0, eps=0) @ g
    return as_weights(theta.detach()[order(model)] if convert else theta.detach(), inputs)


OPERATIONS = {
    "jacobian": jacobian,
    "push": push,
    "pull": pull,
    "fisher_matrix": fisher_matrix,
    "direction": direction,
}
