"""Preprocessing of inputs x (N, M_0), on the host or the device."""

from .arrays import Array, array_module


def unit_norm(x: Array) -> Array:
    """x with every row scaled to ||x_n|| = 1, as K&O assume throughout.

    Raises ValueError for rows of zeros and entries that are not finite.
    """
    xp = array_module(x)
    if not xp.isfinite(x).all():
        raise ValueError("x has non-finite entries; expected finite numbers")
    largest = abs(x).max(1, keepdims=True)
    if not (largest > 0).all():
        raise ValueError(
            f"x has {int((largest == 0).sum())} rows of zeros, which cannot be scaled to unit norm; drop them"
        )
    x = x / largest  # squares neither overflow nor underflow then
    return x / xp.linalg.norm(x, axis=1, keepdims=True)
