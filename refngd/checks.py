"""Every check of an argument: each returns what it checked, or raises ValueError.

A message names the argument, says what came and what is expected. Numbers come back as Python numbers, since a NumPy
float64 would promote float32 arrays.
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Array, array_module, is_finite, kind

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
OUTPUT_BIAS = "output-bias"


def shown(value: Any) -> str:
    """What messages call a value: numbers and short texts as they are, arrays by kind and shape, others by class."""
    if value is None or isinstance(value, (Real, np.bool_)):
        return str(value)
    if isinstance(value, str):
        return repr(value[:40])
    if not hasattr(value, "shape"):
        return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple)) else "")
    plain = type(value) is array_module(value).ndarray
    return f"{kind(value) if plain else type(value).__name__} {value.shape}"


# ---------------------------------------------------------------------------------------------- numbers and options


def checked_number(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> float:
    """`value` as a float, if it is a real number that `holds`; `expected` says the same in words."""
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # of an integer of more than 308 digits
            number = float(value)
    if not holds(number):
        raise ValueError(f"{name} is {shown(value)}; expected {expected}")
    return number


def checked_whole(name: str, value: Any, least: int, others: str = "") -> int:
    """`value` as an int, if it is an integer >= `least`; `others` says what else could have come."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {shown(value)}; expected an integer >= {least}{others}")
    return int(value)


def checked_frozen(frozen: int | Collection, L: int, bias: bool) -> set[int | str]:
    """What is kept fixed, numbers of layers 1 .. L and "output-bias", if a layer is left to be trained.

    frozen: k, for the first k layers, or a list, tuple, set or range of such numbers and "output-bias".
    bias: whether the output layer has a bias.
    """
    if not isinstance(frozen, (list, tuple, set, frozenset, range)):
        others = f', or a list of layers from 1 to L and "{OUTPUT_BIAS}", such as [1, 3]'
        if checked_whole("frozen", frozen, 0, others) >= L:
            raise ValueError(f"frozen is {frozen}; expected an integer < L = {L}, since one layer at least is trained")
        return set(range(1, int(frozen) + 1))
    fixed = {_checked_frozen_item(item, L, bias) for item in frozen}
    if len(fixed) < len(frozen):
        raise ValueError(f"frozen has an entry twice, {list(frozen)}; expected different ones")
    if {L, OUTPUT_BIAS} <= fixed:
        raise ValueError(f'frozen has "{OUTPUT_BIAS}" and L = {L}, the layer that it belongs to; expected one of them')
    if fixed >= set(range(1, L + 1)):
        raise ValueError(f"frozen has all L = {L} layers; expected one at least that is trained")
    return fixed


def _checked_frozen_item(item: int | str, L: int, bias: bool) -> int | str:
    if isinstance(item, str) and item == OUTPUT_BIAS:
        if not bias:
            raise ValueError(f'frozen has "{OUTPUT_BIAS}"; expected layers alone, since the output layer has no bias')
        return item
    if isinstance(item, bool) or not isinstance(item, Integral) or not 1 <= item <= L:
        raise ValueError(f'frozen has {shown(item)}; expected integers from 1 to L = {L}, and "{OUTPUT_BIAS}"')
    return int(item)


def checked_damping(rho: float, q: float) -> tuple[float, float]:
    """The damping `rho` and the power `q`, if rho is finite and >= 0 and q is in [1, inf]."""
    rho = checked_number("rho", rho, "a finite number >= 0", lambda v: 0 <= v < math.inf)
    return rho, checked_power("q", q)


def checked_positive(name: str, value: float) -> float:
    """`value`, if it is finite and > 0."""
    return checked_number(name, value, "a finite number > 0", lambda v: 0 < v < math.inf)


def checked_power(name: str, value: float) -> float:
    """`value`, if it is in [1, inf]."""
    return checked_number(name, value, "a number in [1, inf]", lambda v: v >= 1)


def checked_rcond(rcond: float | None) -> float | None:
    """A relative cut-off, if it is None or in [0, 1)."""
    expected = "None or a number in [0, 1)"
    return None if rcond is None else checked_number("rcond", rcond, expected, lambda v: 0 <= v < 1)


def checked_flag(name: str, value: bool) -> bool:
    """`value`, if it is True or False: the text "no" would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}; expected True or False")
    return bool(value)


def checked_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """`value`, if it is one of these texts."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} is {shown(value)}; expected {' or '.join(map(repr, choices))}")
    return value


def checked_instance(name: str, value: Any, cls: type, example: str) -> Any:
    """`value`, if it is a `cls`; `example` says where to get one."""
    if not isinstance(value, cls):
        raise ValueError(f"{name} is {shown(value)}; expected {example}")
    return value


def checked_rng(rng: int | np.random.Generator) -> np.random.Generator:
    """The generator `rng`, or that of the seed `rng`."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(checked_whole("rng", rng, 0, ", a seed, or a numpy.random.Generator"))


def checked_dtype(dtype: DTypeLike) -> np.dtype:
    """`dtype` as a np.dtype, if it is float32 or float64."""
    if not (isinstance(dtype, (type, str, np.dtype)) and dtype in FLOATS):
        raise ValueError(f"dtype is {dtype}; expected float32 or float64")
    return np.dtype(dtype)


# ------------------------------------------------------------------------------------------------------------- arrays


def checked_shape(name: str, a: Any, shape: tuple[int | str, ...], like: Array | None = None) -> Array:
    """`a`, if it is an array of this shape, float32 or float64, or of the library and dtype of `like` if given.

    A size that is a word, such as "N", may be any number >= 1. Subclasses of arrays are refused: NumPy's masked arrays
    would lose their mask, and matrices multiply otherwise.
    """
    plain = type(a) is array_module(a).ndarray and a.dtype in FLOATS and len(a.shape) == len(shape)
    if like is not None:
        plain = plain and kind(a) == kind(like)
    if not plain or not all(n >= 1 and wanted in (n, str(wanted)) for n, wanted in zip(a.shape, shape, strict=True)):
        expected = "float32 or float64" if like is None else kind(like)
        text = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        raise ValueError(f"{name} is {shown(a)}; expected an array of {expected} ({text})")
    return a


def checked_finite(name: str, a: Array) -> Array:
    """`a`, if all its entries are finite."""
    if not is_finite(a):
        raise ValueError(f"{name} has non-finite entries; expected finite numbers")
    return a


def checked_array(name: str, a: Any, shape: tuple[int | str, ...], like: Array | None = None) -> Array:
    """`a`, if it is a finite array as `checked_shape` asks for."""
    return checked_finite(name, checked_shape(name, a, shape, like))


def checked_numbers(name: str, a: Any, shape: tuple[int | str, ...]) -> Array:
    """`a` as `checked_array`, but integers are numbers too, and become float64: what files hold, such as pixels."""
    is_whole = type(a) is array_module(a).ndarray and a.dtype.kind in "iu"
    return checked_array(name, a.astype(np.float64) if is_whole else a, shape)


def checked_values(name: str, values: Any) -> Array:
    """`values`, a number or an array or a list of numbers, as an array of them, which may be infinite or nan."""
    with suppress(ValueError):  # of lists of different lengths
        a = array_module(values).asarray(values)
        if a.dtype.kind in "iuf" and not isinstance(values, np.ma.MaskedArray):
            return a
    raise ValueError(f"{name} is {shown(values)}; expected a number, or an array or a list of numbers")


def checked_list(
    name: str, arrays: Any, shapes: list[tuple], like: Array, check: Callable[..., Array] = checked_array
) -> list[Array]:
    """`arrays`, if it is a list of finite arrays of these shapes, of the kind of `like`.

    check: `checked_shape` where it is not to be asked whether they are finite.
    """
    if not (isinstance(arrays, (list, tuple)) and len(arrays) == len(shapes)):
        raise ValueError(f"{name} is {shown(arrays)}; expected a list of {len(shapes)} arrays")
    return [check(f"{name}[{i}]", a, shape, like) for i, (a, shape) in enumerate(zip(arrays, shapes, strict=True))]


def checked_matrices(name: str, W: Any, check: Callable[..., Array] = checked_array) -> list[Array]:
    """W, if it is a list of finite matrices of one kind, one at least; `check` as in `checked_list`."""
    if not (isinstance(W, (list, tuple)) and W):
        raise ValueError(f"{name} is {shown(W)}; expected a list of matrices")
    return [check(f"{name}[{i}]", w, ("n", "m"), W[0] if i else None) for i, w in enumerate(W)]


def checked_symmetric(name: str, K: Array, stack: bool = False) -> Array:
    """K (n, n), or with `stack` (.., n, n), if it is finite and symmetric up to 1 % of its size.

    That is to catch mistakes, not rounding.
    """
    *more, n = getattr(K, "shape", ())[:-1] or ["n"]
    checked_array(name, K, (*(more if stack else ()), n, n))
    gap, size = float(abs(K - K.mT).max()), float(abs(K).max())
    if gap > 0.01 * size:
        raise ValueError(f"{name} is not symmetric: it differs from its transpose by {gap:.3g}, its size is {size:.3g}")
    return K
