"""The Jacobian J of f with respect to theta: explicit, or as the two products that never form it.

    J[(n,c), (l,i,j)] = delta_l[n,c,i] h_{l-1}[n,j]          jacobian(s)    (N*C, P)
    J dtheta                                                 push(s, dW)    (N, C)
    J^T v                                                    pull(s, v)     list like W

theta holds the layers in order, each W_l row-major; rows of J are sample-major, n*C + c.
"""

from math import prod

import numpy as np

from .arrays import Array, array_module, require_memory
from .checks import checked_array, checked_instance, checked_list, checked_matrices
from .network import Network, Signals, checked_signals
from .spectral import finite


def jacobian(s: Signals) -> Array:
    """J (N*C, P), K&O (6). Raises MemoryError if it cannot fit; `push` and `pull` apply it without forming it."""
    xp = array_module(checked_signals("s", s).f)
    N, C = s.f.shape
    require_memory(
        xp,
        2 * N * C * s.P * s.f.dtype.itemsize,
        f"J ({N * C} x {s.P}), while it is made,",
        "call push(s, dW) and pull(s, v)",
    )
    J, start = xp.empty((N * C, s.P), s.f.dtype), 0
    for h, delta in zip(s.h, s.delta, strict=True):
        with np.errstate(all="ignore"):  # reported by `finite`
            J_l = (delta[:, :, :, None] * h[:, None, None, :]).reshape(N * C, -1)  # (NC, M_l (M_{l-1}+1))
        J[:, start : start + J_l.shape[1]] = J_l
        start += J_l.shape[1]
    return finite(J)


def push(s: Signals, dW: list[Array]) -> Array:
    """J dtheta (N, C): the first-order change of f when W changes by dW. Raises ValueError for other shapes."""
    checked_list("dW", dW, checked_signals("s", s).shapes, s.f)
    with np.errstate(all="ignore"):  # reported by `finite`
        return finite(sum(push_layer(h, delta, dw) for h, delta, dw in zip(s.h, s.delta, dW, strict=True)))


def pull(s: Signals, v: Array) -> list[Array]:
    """J^T v as a list like W, for v (N, C): the gradient of the MSE loss is pull(s, (f - y) / N). Raises ValueError."""
    checked_array("v", v, checked_signals("s", s).f.shape, s.f)
    with np.errstate(all="ignore"):  # reported by `finite`
        return finite([pull_layer(h, delta, v) for h, delta in zip(s.h, s.delta, strict=True)])


def push_layer(h: Array, delta: Array, dw: Array) -> Array:
    """J_l dtheta_l (N, C), for dw (M_l, M_{l-1}+1)."""
    return (delta @ (h @ dw.T)[:, :, None])[:, :, 0]


def pull_layer(h: Array, delta: Array, v: Array) -> Array:
    """J_l^T v (M_l, M_{l-1}+1), for v (N, C)."""
    return (v[:, None, :] @ delta)[:, 0].T @ h


def flatten(dW: list[Array]) -> Array:
    """theta (P,): the layers in order, each row-major. Raises ValueError for what is no list of arrays of one kind."""
    return array_module(checked_matrices("dW", dW)[0]).concatenate([dw.ravel() for dw in dW])


def unflatten(net: Network, theta: Array) -> list[Array]:
    """The list like W of which theta (P,) is the flattening. Raises ValueError for another length."""
    shapes = checked_instance("net", net, Network, "a Network").shapes
    sizes = [prod(shape) for shape in shapes]
    checked_array("theta", theta, (sum(sizes),))
    return shaped(theta, shapes)


def shaped(theta: Array, shapes: list[tuple[int, int]]) -> list[Array]:
    """Matrices of these shapes, of which theta (P,) is the flattening."""
    W, start = [], 0
    for shape in shapes:
        W.append(theta[start : start + prod(shape)].reshape(shape))
        start += prod(shape)
    return W
