"""NNGeometry on the vectors: `run` as the library comes, `converted` with its factors and orders taken into account.

refngd check --implementation bench.peers.nngeometry_adapter[:converted]
"""

from functools import partial

import numpy as np
import torch
from nngeometry.gram import GramMatrix
from nngeometry.jacobian import Jacobian
from nngeometry.layercollection import LayerCollection
from nngeometry.metrics import FIM
from nngeometry.object import PMatBlockDiag, PMatDense, PMatDiag, PMatKFAC, PMatQuasiDiag, PVector
from torch import Tensor, nn

from .torch_network import as_weights, gradient, network, order, tangent, tensors
from .unsupported import unsupported

REPRESENTATIONS = {
    "Exact": PMatDense,
    "BlockDiagonal": PMatBlockDiag,
    "KFAC": PMatKFAC,
    "Entrywise": PMatDiag,
    "QuasiDiagonal": PMatQuasiDiag,
}


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict, convert: bool = False) -> dict[str, np.ndarray]:
    unsupported(op not in OPERATIONS, op)
    unsupported(bool(attrs.get("frozen")), "frozen layers")
    given = tensors(inputs)
    return OPERATIONS[op](given, attrs, network(given, attrs), convert)


converted = partial(run, convert=True)


def jacobian(inputs, attrs, model, convert):
    J = Jacobian(model, [inputs["x"]]).to_torch()  # (C, N, P)
    J = J.transpose(0, 1)[:, :, order(model)] if convert else J
    return {"J": J.flatten(0, 1).numpy()}


def push(inputs, attrs, model, convert):
    v = tangent(inputs)
    if convert:
        v = torch.empty_like(v).scatter_(0, order(model), v)
    Jv = Jacobian(model, [inputs["x"]]).jvp(PVector(LayerCollection.from_model(model), v)).to_torch()  # (C, N)
    return {"Jv": (Jv.T if convert else Jv.reshape(len(inputs["x"]), -1)).numpy()}


def ntk(inputs, attrs, model, convert):
    """The block of the Gram matrix (C, N, C, N) of all samples."""
    x_test, x = inputs["x_test"], inputs["x"]
    if x_test.shape[1] != x.shape[1]:
        raise ValueError("x_test has not as many columns as x")
    K = GramMatrix(model, [torch.cat([x_test, x])]).data[:, : len(x_test), :, len(x_test) :]
    K = K.permute(1, 0, 3, 2) / len(x) if convert else K
    return {"Theta": K.flatten(2).flatten(0, 1).numpy()}


def metric(inputs: dict[str, Tensor], attrs: dict, model: nn.Module, convert: bool):
    """The Fisher matrix: J^T J / N, or J^T Lambda J / N for the cross-entropy."""
    fisher = attrs["fisher"]
    unsupported(fisher not in REPRESENTATIONS, fisher)
    unsupported(attrs.get("loss_rho", 0) != 0, "damping of the output Hessian")
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    own_bias = linear[0].bias is not None
    unsupported(fisher == "QuasiDiagonal" and attrs["sigma_b"] > 0 and not own_bias, "a bias that is no parameter")
    if fisher == "KFAC":
        unsupported(attrs.get("kfac_last", "identity") == "identity", "the factor B*_L = I / N of the last layer")
        unsupported(attrs.get("kfac_bias") == "separate" and attrs["sigma_b"] > 0, "a block of its own for the bias")
    variant = "regression" if attrs.get("loss", "mse") == "mse" else "classif_logits"
    F = FIM(model, [inputs["x"]], REPRESENTATIONS[fisher], variant=variant)
    if fisher == "KFAC" and convert:  # sqrt(C) A and B / sqrt(C), C the number of outputs that were differentiated
        C = len(linear[-1].weight) - (variant == "classif_logits")
        F.data = {layer: (A / C**0.5, B * C**0.5) for layer, (A, B) in F.data.items()}
    return F


def fisher_matrix(inputs, attrs, model, convert):
    F, rho = metric(inputs, attrs, model, convert), attrs.get("rho", 0.0)
    unsupported(attrs["fisher"] == "KFAC" and rho > 0, "K-FAC is damped only in its inverse")
    # the flag makes the order that of the other matrices; without bias it has no effect
    G = F.to_torch(split_weight_bias=False) if attrs["fisher"] == "KFAC" else F.to_torch()
    if convert and attrs["fisher"] != "KFAC":
        G = G[order(model)][:, order(model)]
    return {"G": (G + rho * torch.eye(len(G))).numpy()}


def direction(inputs, attrs, model, convert):
    unsupported(attrs.get("q", 1) != 1, "powers of the matrix")
    rho = attrs.get("rho", 0.0)
    unsupported(rho == 0, "a pseudo-inverse")
    F, g = metric(inputs, attrs, model, convert), torch.cat([a.flatten() for a in gradient(model, inputs, attrs)])
    g = PVector(F.generator.layer_collection, g)
    if attrs["fisher"] == "KFAC" and convert:  # sqrt(regul) is added to each factor, times and over pi
        theta = F.solvePVec(g, regul=rho**2, use_pi=False).to_torch().detach()
    else:
        theta = F.solve(g, regul=rho).to_torch().detach()
    return as_weights(theta[order(model)] if convert else theta, inputs)


OPERATIONS = {"jacobian": jacobian, "push": push, "ntk": ntk, "fisher_matrix": fisher_matrix, "direction": direction}
