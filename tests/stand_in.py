"""A stand-in for CuPy on machines without a GPU: stricter than CuPy, and no more than CuPy >= 14 offers.

Its arrays refuse to become NumPy arrays and to meet NumPy arrays or NumPy scalars, which CuPy would copy, promote or
dispatch in silence. Reductions give 0-d arrays of the device. FUNCTIONS and LINALG name all that `refngd` may use, and
each name was looked up in CuPy 14.2.0; a cumulative product is not among them, since CuPy's is a parallel scan.

As CuPy does, it writes through `broadcast_to`, wraps integer arrays of indices around, returns factors in Fortran order
and, but under errstate(linalg="raise"), the inverse of a singular matrix without an error.

`counts` has the launches, that is calls that make an array or write to one, a factorisation being one of them, and the
syncs, for which the host waits: numbers and copies that it asks for, masks as indices, and factorisations that raise.
With `jitter` every result is rounded as another library might: sums are reordered, rows permuted before a matrix is
factorised, signs of eigen- and singular vectors flipped, exp and the like an ulp away.
"""

import sys
from collections import Counter
from contextlib import contextmanager
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
    "empty",
    "empty_like",
    "exp",
    "expm1",
    "eye",
    "flatnonzero",
    "fmod",
    "frexp",
    "hypot",
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
    "pad",
    "rint",
    "sqrt",
    "stack",
    "tanh",
    "tensordot",
    "tile",
    "triu",
    "where",
    "zeros",
]
LINALG = ["cholesky", "cond", "eigh", "eigvalsh", "inv", "norm", "qr", "slogdet", "solve", "svd"]
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


counts: Counter = Counter()
settings = SimpleNamespace(jitter=False, fortran=True, memory=2**33, raising=False)


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
        return _outside(self._host[_index(key, self._host.shape)], [self._host])

    def __setitem__(self, key, value):
        counts["launches"] += 1
        self._host[_index(key, self._host.shape)] = _inside(value)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (ndarray(row) for row in self._host)


def _inside(x):
    """The NumPy array behind a device array; Python numbers pass, everything of NumPy's own is refused."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, (np.ndarray, np.generic)):
        raise TypeError(f"NumPy {type(x).__name__} meets a device array")
    if isinstance(x, (list, tuple)):
        return type(x)(_inside(item) for item in x)
    return x


def _index(key, shape):
    """What NumPy takes for `key`: integer arrays wrap around, and a mask costs a sync."""
    keys, axes, found = key if isinstance(key, tuple) else (key,), list(shape), []
    for i, k in enumerate(keys):
        if k is Ellipsis:
            axes = axes[len(axes) - sum(k is not None for k in keys[i + 1 :]) :]
        elif isinstance(k, ndarray) and k._host.dtype == bool:
            counts["syncs"] += 1
            axes, k = axes[k._host.ndim :], k._host
        elif k is not None:
            size, k = axes.pop(0), _inside(k)
            k = k % size if isinstance(k, np.ndarray) and k.ndim else k
        found.append(k)
    return tuple(found) if isinstance(key, tuple) else found[0]


def _outside(x, sources=()):
    """Device arrays for all arrays that NumPy returned; a launch, unless they are views of `sources`."""
    if isinstance(x, tuple):
        return tuple(_outside(item, sources) for item in x)
    if not isinstance(x, (np.ndarray, np.generic)):
        return x
    is_view = isinstance(x, np.ndarray) and any(np.may_share_memory(x, s) for s in sources if isinstance(s, np.ndarray))
    counts["launches"] += not is_view
    return ndarray(x)


def _on_device(function, name=""):
    def call(*args, **kwargs):
        args, kwargs = tuple(map(_inside, args)), {key: _inside(value) for key, value in kwargs.items()}
        counts["syncs"] += name in WAITING
        rounded = JITTERED.get(name, function) if settings.jitter else function
        with np.errstate(all="ignore"):  # the device says nothing
            return _outside(rounded(*args, **kwargs), args)

    return call


def _in_place(method, name):
    def call(self, other):
        counts["launches"] += 1
        with np.errstate(all="ignore"):
            if settings.jitter and name == "ipow":
                self._host[...] = JITTERED["pow"](self._host, _inside(other))
            else:
                method(self._host, _inside(other))
        return self

    return call


# ----------------------------------------------------------------------------------------------------------- rounding


def _order(n):
    return np.random.default_rng(n).permutation(n)


def _shuffled(a, axis=-1):
    """a with the entries along an axis in another order, always the same for that length."""
    return np.take(a, _order(a.shape[axis]), axis)


def _reordered_sum(name):
    def reduced(a, axis=None, **options):
        if axis is None:
            return getattr(_shuffled(a.ravel()), name)(**options)
        return getattr(_shuffled(a, axis) if isinstance(axis, int) else a, name)(axis, **options)

    return reduced


def _matmul(a, b, **options):
    inner = -1 if b.ndim == 1 else -2
    return np.matmul(_shuffled(a), _shuffled(b, inner), **options)


def _wider(function):
    """The function in the next larger precision, rounded."""

    def call(*args, **options):
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        wide = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}.get(arrays[0].dtype)
        if wide is None:
            return function(*args, **options)
        args = [a.astype(wide) if isinstance(a, np.ndarray) else a for a in args]
        return np.asarray(function(*args, **options)).astype(arrays[0].dtype)

    return call


def _ulp_away(function):
    """The function with every result up or down by an ulp, the same for the same result; but 0, 1 and -1 are exact."""

    def call(*args, **options):
        y = np.asarray(function(*args, **options))
        if y.dtype.kind != "f":
            return y
        up = y.view(f"u{y.itemsize}") & 4 > 0
        other = np.nextafter(y, np.where(up, np.inf, -np.inf).astype(y.dtype))
        return np.where((y == 0) | (abs(y) == 1) | ~np.isfinite(y) | ~np.isfinite(other), y, other)

    return call


def _pow(a, b):
    whole = np.all(np.asarray(b) == np.rint(b)) or np.all(np.asarray(b) == 0.5)
    return np.power(a, b) if whole else _ulp_away(np.power)(a, b)


def _flipped(V):
    """V (.., n, k) with the sign of every other column flipped."""
    return V * (1 - 2 * (np.arange(V.shape[-1]) % 2)).astype(V.dtype)


def _permuted(A):
    """P A P^T of a matrix or a stack, and the permutation that undoes P."""
    p = _order(A.shape[-1])
    return A[..., p[:, None], p], np.argsort(p)


def _eigh(A):
    B, back = _permuted(A)
    w, V = np.linalg.eigh(B)
    return w, _fortran(_flipped(V[..., back, :]))


def _svd(A, full_matrices=True, compute_uv=True):
    p = _order(A.shape[-2])
    if not compute_uv:
        return np.linalg.svd(A[..., p, :], compute_uv=False)
    U, t, Vt = np.linalg.svd(A[..., p, :], full_matrices=full_matrices)
    return _fortran(_flipped(U[..., np.argsort(p), :])), t, _fortran(_flipped(Vt.mT).mT)


def _qr(A, mode="reduced"):
    p = _order(A.shape[-2])
    if mode == "r":
        return _fortran(_flipped(np.linalg.qr(A[..., p, :], mode="r").mT).mT)
    Q, R = np.linalg.qr(A[..., p, :], mode=mode)
    return _fortran(_flipped(Q[..., np.argsort(p), :])), _fortran(_flipped(R.mT).mT)


def _inv_of_permuted(A):
    B, back = _permuted(A)
    return _inv(B)[..., back[:, None], back]


JITTERED = {
    **{name: _reordered_sum(name) for name in ("sum", "mean", "std")},
    **{name: _ulp_away(getattr(np, name)) for name in ("exp", "expm1", "log", "log1p", "tanh", "arcsin", "arctan2")},
    "tensordot": _wider(np.tensordot),
    "erf": _ulp_away(scipy.special.erf),
    "matmul": _matmul,
    "pow": _pow,
    "rpow": lambda a, b: _pow(b, a),
    "linalg.norm": _wider(np.linalg.norm),
    "linalg.eigh": _eigh,
    "linalg.eigvalsh": lambda A: np.linalg.eigvalsh(_permuted(A)[0]),
    "linalg.svd": _svd,
    "linalg.qr": _qr,
    "linalg.inv": _inv_of_permuted,
    "linalg.solve": lambda A, B: _solve(_shuffled(A, -2), _shuffled(B, -2)),
    "linalg.slogdet": lambda A: np.linalg.slogdet(_permuted(A)[0]),
}
WAITING = {"tolist", "flatnonzero", "float", "int", "bool"}  # operations for which the host waits


# ------------------------------------------------------------------------------------------------------ linear algebra


def _fortran(X):
    """X (.., n, m) with columns contiguous, as cuSOLVER leaves them."""
    return np.ascontiguousarray(X.mT).mT if settings.fortran else X


def _solve(a, b):
    if a.shape[:-1] != b.shape[:-1] or (a.ndim > 2 and a.shape[-1] > 256):
        raise ValueError("CuPy's solve does not broadcast, and takes large matrices of a stack one by one")
    return np.linalg.solve(a, b)


def _inv(a):
    try:
        return _fortran(np.linalg.inv(a))
    except np.linalg.LinAlgError:
        if settings.raising:
            raise
        return np.full_like(a, np.inf)


def _factors(name):
    plain = {"inv": _inv, "solve": _solve}.get(name, getattr(np.linalg, name))

    def function(*args, **kwargs):
        result = plain(*args, **kwargs)
        if name in ("eigh", "svd", "qr") and not isinstance(result, np.ndarray):
            return tuple(_fortran(X) if X.ndim > 1 else X for X in result)
        return result

    on_device = _on_device(function, f"linalg.{name}")

    def call(*args, **kwargs):
        if name in ("eigh", "eigvalsh", "solve", "svd") and not settings.raising:
            raise TypeError(f"{name} of CuPy would not say that it has failed: call it under raising(xp)")
        counts["syncs"] += settings.raising and name != "norm"
        return on_device(*args, **kwargs)

    return call


@contextmanager
def errstate(linalg):
    before, settings.raising = settings.raising, linalg == "raise"
    try:
        yield
    finally:
        settings.raising = before


def _broadcast_to(x, shape):
    """A view that can be written to, unlike NumPy's."""
    view = np.broadcast_to(x._host, shape)
    return ndarray(np.lib.stride_tricks.as_strided(x._host, view.shape, view.strides, writeable=True))


# --------------------------------------------------------------------------------------------------------- the modules

for _name in METHODS:
    setattr(ndarray, _name, _on_device(getattr(np.ndarray, _name), _name))
for _name in ATTRIBUTES:
    setattr(ndarray, _name, property(lambda self, _name=_name: _outside(getattr(self._host, _name), [self._host])))
for _name in ["add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "eq", "ne", "lt", "le", "gt", "ge"]:
    setattr(ndarray, f"__{_name}__", _on_device(getattr(np.ndarray, f"__{_name}__"), _name))
for _name in ["add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"]:
    setattr(ndarray, f"__r{_name}__", _on_device(getattr(np.ndarray, f"__r{_name}__"), f"r{_name}"))
for _name in ["add", "sub", "mul", "truediv", "pow", "and"]:
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(np.ndarray, f"__i{_name}__"), f"i{_name}"))
for _name in ["neg", "abs", "invert", "floordiv", "mod", "float", "int", "bool"]:
    setattr(ndarray, f"__{_name}__", _on_device(getattr(np.ndarray, f"__{_name}__"), _name))


def _asarray(x, dtype=None):
    if isinstance(x, ndarray) and dtype in (None, x._host.dtype):
        return x
    counts["launches"] += 1
    return ndarray(np.array(x._host if isinstance(x, ndarray) else x, dtype=dtype))


def _asnumpy(x):
    counts["syncs"] += 1
    return x._host.copy()


def modules():
    """The entries of sys.modules that make `import cupy` and `import cupyx` find this stand-in."""
    cupy, cupyx = ModuleType("cupy"), ModuleType("cupyx")
    cupy.ndarray, cupy.__version__, cupy.is_available = ndarray, "stand-in", lambda: True
    for name in FUNCTIONS:
        setattr(cupy, name, _on_device(getattr(np, name, None), name))
    cupy.asarray, cupy.asnumpy, cupy.broadcast_to = _asarray, _asnumpy, _broadcast_to
    cupy.linalg = ModuleType("cupy.linalg")
    for name in LINALG:
        setattr(cupy.linalg, name, _factors(name))
    cupy.linalg.LinAlgError = np.linalg.LinAlgError
    runtime = SimpleNamespace(
        memGetInfo=lambda: (settings.memory, settings.memory), getDeviceProperties=lambda i: {"name": b"none"}
    )
    cupy.cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0, synchronize=lambda: None))
    pool = SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 0)
    cupy.get_default_memory_pool = lambda: pool
    cupyx.errstate = errstate
    special = ModuleType("cupyx.scipy.special")
    special.erf = _on_device(scipy.special.erf, "erf")
    return {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": ModuleType("cupyx.scipy"), "cupyx.scipy.special": special}


def install(jitter=False):
    """For the rest of the process."""
    settings.jitter = jitter
    sys.modules.update(modules())


def count(run):
    """The launches and syncs of run()."""
    counts.clear()
    run()
    return counts["launches"], counts["syncs"]
