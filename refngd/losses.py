"""Losses: the value, and the residual e whose pull-back J^T e / N is the gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .arrays import Array


@dataclass(frozen=True)
class Loss:
    """value(f, y) is a float, residual(f, y) (N, C) is N times the derivative with respect to f; y (N, C)."""

    value: Callable[[Array, Array], float]
    residual: Callable[[Array, Array], Array]


def _mean_squared_error(f: Array, y: Array) -> float:
    with np.errstate(over="ignore"):  # inf is for the caller to judge
        return float(((f - y) ** 2).sum()) / (2 * len(f))


mse = Loss(_mean_squared_error, lambda f, y: f - y)  # K&O (3)
