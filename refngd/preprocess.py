"""Preprocessing of inputs x (N, M_0), on the host or the device."""

from math import inf

from .arrays import Array, array_module


def standardise(x: Array, train: Array | None = None) -> Array:
    """x less the mean of all entries of `train` (default: x), over their standard deviation.

    K&O's published code does so before `unit_norm`; their text asks for unit norm alone. It is one mean and one
    deviation for all inputs, so pixels that never change need no care; test data take those of the training data.
    Raises ValueError if `train` is constant or not finite.
    """
    train = x if train is None else train
    if not -inf < train.min() < train.max() < inf:  # not ==, or this passes nan
        raise ValueError(f"train is constant or not finite, from {train.min()} to {train.max()}: it has no scale")
    return (x - train.mean()) / train.std()


def unit_norm(x: Array) -> Array:
    """x with every row scaled to ||x_n|| = 1, as K&O assume throughout. Raises ValueError for rows of zeros."""
    norm = array_module(x).linalg.norm(x, axis=1, keepdims=True)
    if not (norm > 0).all():
        raise ValueError(
            f"x has {int((norm == 0).sum())} rows of zeros, which cannot be scaled to unit norm; drop them"
        )
    return x / norm
