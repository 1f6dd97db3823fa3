"""The first paper's published code, github.com/kazukiosawa/ngd_in_wide_nn, written again from what it computes.

refngd check --implementation bench.peers.published_code[:converted]

Its kernels are J J^T without 1/N, its damping is added twice in steps and once in predictions, and what it solves is
the plain system, by LU. So its rho is N/2 of ours in steps, and N of ours in predictions, which `converted` puts in.
K-FAC, for one output, splits the damping by pi. Predictions take alpha and (1 - alpha eta)^t in place of steps.
"""

import math
from functools import partial

import numpy as np

from refngd import definitions as d
from refngd.conformance.adapters.definitions import listed, loss, net, numbered

from .unsupported import unsupported

COUPLED = ("Exact", "BlockDiagonal", "BlockTridiagonal")


def run(op: str, inputs: dict[str, np.ndarray], attrs: dict, convert: bool = False) -> dict[str, np.ndarray]:
    unsupported(op not in ("direction", "prediction"), op)
    unsupported(bool(attrs.get("frozen")), "frozen layers")
    unsupported(attrs.get("q", 1) != 1, "powers of the matrix")
    return {"direction": direction, "prediction": prediction}[op](inputs, attrs, convert)


converted = partial(run, convert=True)


def kernels(test: d.Signals, train: d.Signals) -> list[np.ndarray]:
    """J_l(x') J_l(x)^T (N'C, NC)."""
    flat = [[J.reshape(len(J), -1) for J in d.jacobians(s)] for s in (test, train)]
    return [a @ b.T for a, b in zip(*flat, strict=True)]


def multipliers(name: str, Theta: list[np.ndarray], e: np.ndarray, damping: float, H: np.ndarray) -> list[np.ndarray]:
    """The vectors (NC,) of the layers whose J_l^T they multiply; H (NC, NC) is the Hessian of the loss."""

    def solve(A, b):
        return np.linalg.solve(A + damping * np.eye(len(A)), b)

    L = len(Theta)
    if name == "Exact":
        return [solve(H @ sum(Theta), e)] * L
    if name == "BlockDiagonal":
        return [solve(T, e) for T in Theta]
    Sigma = d.coupling(d.Fisher(name), list(range(L)))
    if damping == 0:
        return [w * np.linalg.solve(T, e) for w, T in zip(np.linalg.solve(Sigma, np.ones(L)), Theta, strict=True)]
    return np.split(solve(np.block([[Sigma[l, m] * Theta[m] for m in range(L)] for l in range(L)]), np.tile(e, L)), L)


def direction(inputs, attrs, convert):
    s, name, rho = d.signals(net(attrs), listed("W", inputs), inputs["x"]), attrs["fisher"], attrs.get("rho", 0.0)
    (N, C), y, cross_entropy = s.f.shape, inputs["y"], attrs.get("loss", "mse") != "mse"
    if y.shape != s.f.shape:
        raise ValueError("y has not the shape of f")
    unsupported(cross_entropy and (name != "Exact" or attrs["loss_rho"] > 0), "this matrix of the cross-entropy")
    e, damping, J = d.residual(s.f, y, **loss_name(attrs)).ravel(), 2 * rho * (N / 2 if convert else 1), d.jacobians(s)
    if name == "Identity":
        return dW_of([J_l.T @ e / N for J_l in flat(J)], s)
    if name == "KFAC":
        unsupported(C > 1 or any(s.bias) or attrs.get("parameterization") == "standard", "outputs, biases, standard")
        return numbered("dW", [kfac(s, l, e, rho, attrs, convert) for l in range(len(J))])
    if name == "Unitwise":
        units = [[J_l[:, i] for i in range(J_l.shape[1])] for J_l in J]
        steps = [[J_i.T @ np.linalg.solve(J_i @ J_i.T + damping * np.eye(N * C), e) for J_i in own] for own in units]
        return dW_of([np.concatenate(own) for own in steps], s)
    unsupported(name not in COUPLED, name)
    H = block_diagonal(s.f) if cross_entropy else np.eye(N * C)
    vectors = multipliers(name, kernels(s, s), e, damping, H)
    return dW_of([J_l.T @ v for J_l, v in zip(flat(J), vectors, strict=True)], s)


def loss_name(attrs: dict) -> dict:
    return {"loss": loss(attrs)["loss"]}


def flat(J: list[np.ndarray]) -> list[np.ndarray]:
    return [J_l.reshape(len(J_l), -1) for J_l in J]


def dW_of(steps: list[np.ndarray], s: d.Signals) -> dict[str, np.ndarray]:
    return numbered("dW", [step.reshape(shape) for step, shape in zip(steps, d.shapes(s), strict=True)])


def block_diagonal(f: np.ndarray) -> np.ndarray:
    """diag(p) - p p^T of every sample (NC, NC)."""
    p, (N, C) = d.softmax(f)[0], f.shape
    H = np.einsum("nc,cd->ncd", p, np.eye(C)) - p[:, :, None] * p[:, None]
    return np.einsum("ncd,nm->ncmd", H, np.eye(N)).reshape(N * C, N * C)


def kfac(s: d.Signals, l: int, e: np.ndarray, rho: float, attrs: dict, convert: bool) -> np.ndarray:
    """Hidden: (B + rho^{1/2}/pi I)^{-1} delta^T diag(e) h (A + rho^{1/2} pi I)^{-1}; last: e^T h (A + rho I)^{-1} / N.

    h here is phi(u), without the factor c = sigma_w / sqrt(M), and the step of W is sigma_w times that; `converted`
    takes away what is then left at rho = 0: sigma_w c, and N in hidden layers, 1/N in the last.
    """
    N, M = len(s.f), s.h[l].shape[1]
    sigma_w, c = attrs["sigma_w"], attrs["sigma_w"] / math.sqrt(M)
    h, delta, last = s.h[l] / c, s.delta[l][:, 0], l == len(s.h) - 1
    trace_A, trace_B = sigma_w**4 * (h * h).sum() / N / M / M, (delta * delta).sum() / N / delta.shape[1]
    pi = math.sqrt(trace_A / trace_B)
    A = np.linalg.inv(h @ h.T / N + (rho if last else rho**0.5 * pi) * np.eye(N))
    B = np.ones((1, N)) / N if last else delta.T @ np.linalg.inv(delta @ delta.T / N + rho**0.5 / pi * np.eye(N))
    left_over = sigma_w * c * (1 / N if last else N) if convert else 1
    return sigma_w * B @ np.diag(e) @ A @ h / left_over


def prediction(inputs, attrs, convert):
    test, train = (d.signals(net(attrs), listed("W", inputs), inputs[x]) for x in ("x_test", "x"))
    name, eta, t, y = attrs["fisher"], attrs["eta"], attrs["t"], inputs["y"]
    unsupported(name not in COUPLED, name)
    if y.shape != train.f.shape:
        raise ValueError("y has not the shape of f")
    own, cross, L = kernels(train, train), kernels(test, train), len(listed("W", inputs))
    damping = attrs.get("rho", 0.0) * (len(y) if convert else 1)
    alpha = {"Exact": 1, "BlockDiagonal": L}.get(name) or np.linalg.solve(
        d.coupling(d.Fisher(name), list(range(L))), np.ones(L)
    ).sum()
    vectors = multipliers(name, own, (y - train.f).ravel(), damping, np.eye(y.size))
    share = (1 - (1 - alpha * eta) ** t) / alpha
    moves = [share * sum(K_l @ v for K_l, v in zip(K, vectors, strict=True)) for K in (own, cross)]
    return {"f_train": train.f + moves[0].reshape(y.shape), "f_test": test.f + moves[1].reshape(test.f.shape)}
