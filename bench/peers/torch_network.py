"""A network of the vectors as the torch module that a user of a library for `nn.Linear` would build.

`standard` networks have `nn.Linear` layers with their own bias. In the `ntk` parameterization the factors are no
parameters, so each layer is `Scaled`, which makes [sigma_w/sqrt(M) phi ; sigma_b], and `nn.Linear` without bias.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    def __init__(self, factor: float, bias: float):
        super().__init__()
        self.factor, self.bias = factor, bias

    def forward(self, v: Tensor) -> Tensor:
        h = self.factor * v
        return torch.cat([h, torch.full_like(h[:, :1], self.bias)], 1) if self.bias > 0 else h


class Activation(nn.Module):
    def __init__(self, name: str, shift: float):
        super().__init__()
        self.name, self.shift = name, shift

    def forward(self, u: Tensor) -> Tensor:
        known = {"tanh": torch.tanh, "erf": torch.erf, "linear": lambda v: 1 * v, "relu": torch.relu}
        return known[self.name](u) if self.name in known else torch.where(u > -self.shift, u, -self.shift)


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The inputs in torch, whose default dtype becomes theirs: the libraries make helper tensors of that."""
    found = {name: torch.as_tensor(a) for name, a in inputs.items()}
    torch.set_default_dtype(next(iter(found.values())).dtype)
    return found


def weights(inputs: dict[str, Tensor]) -> list[Tensor]:
    return [inputs[f"W_{l}"] for l in range(1, 1 + len(inputs)) if f"W_{l}" in inputs]


def network(inputs: dict[str, Tensor], attrs: dict) -> nn.Sequential:
    W, bias, layers = weights(inputs), attrs["sigma_b"], []
    standard = attrs.get("parameterization") == "standard"
    for l, w in enumerate(W):
        own = standard and bias > 0
        M = w.shape[1] - (bias > 0)
        layers.append(nn.Identity() if standard else Scaled(attrs["sigma_w"] / math.sqrt(M), bias))
        linear = nn.Linear(M if own else w.shape[1], len(w), bias=own)
        with torch.no_grad():
            linear.weight.copy_(w[:, :M] if own else w)
            if own:
                linear.bias.copy_(w[:, -1])
        layers += [linear] if l == len(W) - 1 else [linear, Activation(attrs["activation"], attrs.get("shift", 0.0))]
    return nn.Sequential(*layers)


def order(model: nn.Sequential) -> Tensor:
    """Where parameter k of theta (each W_l row by row, its bias in the last column) is among `model.parameters()`."""
    start, index = 0, []
    for layer in model:
        if isinstance(layer, nn.Linear):
            M, k = layer.weight.shape
            columns = torch.arange(start, start + M * k).reshape(M, k)
            start += M * k
            if layer.bias is not None:
                columns = torch.cat([columns, torch.arange(start, start + M)[:, None]], 1)
                start += M
            index.append(columns.flatten())
    return torch.cat(index)


def gradient(model: nn.Sequential, inputs: dict[str, Tensor], attrs: dict) -> list[Tensor]:
    """The gradient of ||f - y||^2 / (2N) or of the cross-entropy, in the order of `model.parameters()`."""
    f, y = model(inputs["x"]), inputs["y"]
    if attrs.get("loss", "mse") == "mse":
        loss = ((f - y) ** 2).sum() / (2 * len(y))
    elif not bool((y.sum(1) == 1).all()):
        raise ValueError("y is not one-hot, and has no class index")
    else:
        loss = nn.CrossEntropyLoss()(f, y.argmax(1))
    return list(torch.autograd.grad(loss, list(model.parameters())))


def as_weights(theta: Tensor, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """{"dW_1": .., ..} of theta in the order of the vectors."""
    W = weights(inputs)
    parts = theta.split([w.numel() for w in W])
    return {f"dW_{l}": part.reshape(w.shape).numpy() for l, (part, w) in enumerate(zip(parts, W, strict=True), 1)}


def tangent(inputs: dict[str, Tensor]) -> Tensor:
    """dW_1, dW_2, .. in one vector, in the order of the vectors."""
    dW = [inputs[f"dW_{l}"] for l in range(1, 1 + len(weights(inputs)))]
    if any(a.shape != w.shape for a, w in zip(dW, weights(inputs), strict=True)):
        raise ValueError("dW has not the shapes of W")
    return torch.cat([a.flatten() for a in dW])
