"""Preprocessing of inputs x (N, M_0), on the host or the device."""

from .arrays import Array, array_module


def unit_norm(x: Array) -> Array:
    """x with every row scaled to ||x_n|| = 1, as K&O assume throughout. Raises ValueError for rows of zeros."""
    norm = array_module(x).linalg.norm(x, axis=1, keepdims=True)
    if not (norm > 0).all():
        raise ValueError(
            f"x has {int((norm == 0).sum())} rows of zeros, which cannot be scaled to unit norm; drop them"
        )
    return x / norm
