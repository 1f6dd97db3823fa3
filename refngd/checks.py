"""The checks of arguments that more than one file needs: each returns what it checked, or raises ValueError.

A message names the argument, says what came and what is expected. Numbers come back as Python numbers, since a NumPy
float64 would promote float32 arrays.
"""

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Array, array_module, kind

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def checked_whole(name: str, value: Any, least: int) -> int:
    """`value` as an int, if it is an integer >= `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} is {value}; expected an integer >= {least}")
    return number


def checked_frozen(frozen: int, L: int) -> int:
    """The number of first layers that are kept fixed, if 0 <= `frozen` < L."""
    if checked_whole("frozen", frozen, 0) >= L:
        raise ValueError(f"frozen is {frozen}; expected an integer < L = {L}, since one layer at least is trained")
    return int(frozen)


def checked_damping(rho: float, q: float) -> tuple[float, float]:
    """The damping `rho` and the power `q`, if rho is finite and >= 0 and q is in [1, inf]."""
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho is {rho}; expected a finite number >= 0")
    if not q >= 1:
        raise ValueError(f"q is {q}; expected a number in [1, inf]")
    return float(rho), float(q)


def checked_rate(eta: float) -> float:
    """The learning rate `eta`, if it is finite and > 0."""
    if not (math.isfinite(eta) and eta > 0):
        raise ValueError(f"eta is {eta}; expected a finite number > 0")
    return float(eta)


def checked_rcond(rcond: float | None) -> float | None:
    """A relative cut-off, if it is None or in [0, 1)."""
    if rcond is not None and not 0 <= rcond < 1:
        raise ValueError(f"rcond is {rcond}; expected None or a number in [0, 1)")
    return rcond


def checked_dtype(dtype: DTypeLike) -> np.dtype:
    """`dtype` as a np.dtype, if it is float32 or float64."""
    if np.dtype(dtype) not in FLOATS:
        raise ValueError(f"dtype is {dtype}; expected float32 or float64")
    return np.dtype(dtype)


def checked_array(name: str, a: Any, shape: tuple[int | str, ...], like: Array | None = None) -> Array:
    """`a`, if it is a finite array of this shape, float32 or float64, or of the library and dtype of `like` if given.

    A size that is a word, such as "N", may be any number >= 1. Subclasses of arrays are refused: NumPy's masked arrays
    would lose their mask, and matrices multiply otherwise.
    """
    came = getattr(a, "shape", None)
    plain = type(a) is array_module(a).ndarray and a.dtype in FLOATS
    if like is not None:
        plain = plain and kind(a) == kind(like)
    sizes = zip(came, shape, strict=True) if plain and len(came) == len(shape) else [(0, 1)]
    if not all(n >= 1 if isinstance(wanted, str) else n == wanted for n, wanted in sizes):
        given = kind(a) if came is None else f"{kind(a)} {came}"
        expected = "float32 or float64" if like is None else kind(like)
        text = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        raise ValueError(f"{name} is {given}; expected an array of {expected} ({text})")
    return checked_finite(name, a)


def checked_finite(name: str, a: Array) -> Array:
    """`a`, if all its entries are finite."""
    if not array_module(a).isfinite(a).all():
        raise ValueError(f"{name} has non-finite entries; expected finite numbers")
    return a


def checked_symmetric(name: str, K: Array) -> Array:
    """K (.., n, n), if it is symmetric up to 1 % of its size: this is to catch mistakes, not rounding."""
    if getattr(K, "ndim", 0) < 2 or K.shape[-1] != K.shape[-2] or K.dtype.kind != "f":
        raise ValueError(f"{name} has shape {getattr(K, 'shape', None)}; expected a square matrix of floats")
    gap, size = float(abs(K - K.mT).max()), float(abs(K).max())
    if gap > 0.01 * size:
        raise ValueError(f"{name} is not symmetric: it differs from its transpose by {gap:.3g}, its size is {size:.3g}")
    return K
