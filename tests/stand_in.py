"""A stand-in for CuPy on machines without a GPU: stricter than CuPy, and no more than CuPy >= 14 offers.

Its arrays refuse to become NumPy arrays and to meet NumPy arrays or NumPy scalars, which CuPy would copy, promote or
dispatch in silence. Reductions give 0-d arrays of the device. FUNCTIONS and LINALG name all that `refngd` may use, and
each name was looked up in CuPy 14.2.0.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.special

FUNCTIONS = [
    "arange",
    "arcsin",
    "arctan2",
    "argsort",
    "asarray",
    "asnumpy",
    "broadcast_to",
    "clip",
    "concatenate",
    "diag",
    "einsum",
    "empty",
    "empty_like",
    "exp",
    "expm1",
    "eye",
    "flatnonzero",
    "fmod",
    "frexp",
    "isfinite",
    "kron",
    "ldexp",
    "log",
    "log1p",
    "matmul",
    "maximum",
    "minimum",
    "ones",
    "ones_like",
    "rint",
    "sqrt",
    "stack",
    "tanh",
    "tensordot",
    "triu",
    "where",
    "zeros",
]
LINALG = ["cond", "eigh", "eigvalsh", "inv", "norm", "qr", "slogdet", "solve", "svd"]
METHODS = [
    "all",
    "any",
    "argmax",
    "astype",
    "copy",
    "diagonal",
    "max",
    "mean",
    "min",
    "ravel",
    "reshape",
    "std",
    "sum",
    "tolist",
    "transpose",
]
ATTRIBUTES = ["T", "mT", "dtype", "itemsize", "nbytes", "ndim", "shape", "size"]


class ndarray:
    """An array that lives on the device: its numbers are out of NumPy's reach."""

    __array_ufunc__ = None

    def __init__(self, host):
        self._host = np.asarray(host)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion of a device array to NumPy")

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError(f"np.{func.__name__} of a device array")

    def __getitem__(self, key):
        return ndarray(self._host[_index(key)])

    def __setitem__(self, key, value):
        self._host[_index(key)] = _inside(value)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (ndarray(row) for row in self._host)

    def __float__(self):
        return float(self._host)

    def __int__(self):
        return int(self._host)

    def __bool__(self):
        return bool(self._host)


def _inside(x):
    """The NumPy array behind a device array; Python numbers pass, everything of NumPy's own is refused."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, (np.ndarray, np.generic)):
        raise TypeError(f"NumPy {type(x).__name__} meets a device array")
    if isinstance(x, (list, tuple)):
        return type(x)(_inside(item) for item in x)
    return x


def _index(key):
    return tuple(map(_index, key)) if isinstance(key, tuple) else _inside(key)


def _outside(x):
    """Device arrays for all arrays that NumPy returned."""
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(x)
    return tuple(map(_outside, x)) if isinstance(x, tuple) else x


def _on_device(function):
    def call(*args, **kwargs):
        return _outside(function(*map(_inside, args), **{key: _inside(value) for key, value in kwargs.items()}))

    return call


def _in_place(method):
    def call(self, other):
        method(self._host, _inside(other))
        return self

    return call


for _name in METHODS:
    setattr(ndarray, _name, _on_device(getattr(np.ndarray, _name)))
for _name in ATTRIBUTES:
    setattr(ndarray, _name, property(lambda self, _name=_name: _outside(getattr(self._host, _name))))
for _name in ["add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "eq", "ne", "lt", "le", "gt", "ge"]:
    setattr(ndarray, f"__{_name}__", _on_device(getattr(np.ndarray, f"__{_name}__")))
for _name in ["add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"]:
    setattr(ndarray, f"__r{_name}__", _on_device(getattr(np.ndarray, f"__r{_name}__")))
for _name in ["add", "sub", "mul", "truediv", "pow"]:
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(np.ndarray, f"__i{_name}__")))
for _name in ["neg", "abs", "invert", "floordiv", "mod"]:
    setattr(ndarray, f"__{_name}__", _on_device(getattr(np.ndarray, f"__{_name}__")))


def _solve(a, b):
    if a.shape[:-1] != b.shape[:-1]:
        raise ValueError("CuPy's solve does not broadcast")
    return np.linalg.solve(a, b)


def modules():
    """The entries of sys.modules that make `import cupy` and `import cupyx` find this stand-in."""
    cupy, cupyx = ModuleType("cupy"), ModuleType("cupyx")
    cupy.ndarray, cupy.__version__, cupy.is_available = ndarray, "stand-in", lambda: True
    for name in FUNCTIONS:
        setattr(cupy, name, _on_device(getattr(np, name, None)))
    # The two ways in and out, and the only ones
    cupy.asarray = lambda x, dtype=None: ndarray(np.array(x._host if isinstance(x, ndarray) else x, dtype=dtype))
    cupy.asnumpy = lambda x: x._host.copy()
    cupy.linalg = ModuleType("cupy.linalg")
    for name in LINALG:
        setattr(cupy.linalg, name, _on_device(_solve if name == "solve" else getattr(np.linalg, name)))
    cupy.linalg.LinAlgError = np.linalg.LinAlgError
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (2**33, 2**33)))
    cupyx.errstate = lambda linalg: np.errstate()
    special = ModuleType("cupyx.scipy.special")
    special.erf = _on_device(scipy.special.erf)
    return {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": ModuleType("cupyx.scipy"), "cupyx.scipy.special": special}


def install():
    """For the rest of the process."""
    sys.modules.update(modules())
