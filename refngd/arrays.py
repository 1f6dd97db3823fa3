"""The NumPy/CuPy switch: run any code here on a GPU by handing it CuPy arrays.

This is the only file that knows that there are two array libraries. Elsewhere a function that needs
library functions opens with `xp = array_module(x)`; operators and methods need nothing. Random numbers are
drawn by NumPy on the host and moved, so every device sees the same ones.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray: the two have no common base class


def array_module(x: Array) -> Any:
    """The library that x belongs to: `cupy` for a CuPy array, else `numpy`."""
    cupy = sys.modules.get("cupy")  # whoever holds a CuPy array has imported it
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def kind(x: Any) -> str:
    """What messages call an array: its library and dtype, such as "numpy float64"; the type of anything else."""
    return f"{array_module(x).__name__} {getattr(x, 'dtype', type(x).__name__)}"


def to_device(x: Any, device: str) -> Any:
    """x, an array or a list of arrays, on `device`: "cpu" (NumPy) or "gpu" (CuPy).

    Raises ValueError for another device, for "gpu" where CuPy, a GPU or CUDA's libraries are missing, or float32 is not
    what it says, and for what is no array.
    """
    if not (isinstance(device, str) and device in ("cpu", "gpu")):
        raise ValueError(f"device is {device!r}; expected 'cpu' or 'gpu'")
    if isinstance(x, (list, tuple)):
        return [to_device(a, device) for a in x]
    if type(x) is not array_module(x).ndarray:  # masked arrays would lose their mask
        raise ValueError(f"x is a {type(x).__name__}; expected an array or a list of arrays")
    if device == "cpu":
        xp = array_module(x)
        return x if xp is np else xp.asnumpy(x)
    return _cupy().asarray(x)


def _cupy() -> Any:
    """CuPy, where it works. Raises ValueError that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise ValueError(f"device 'gpu' needs CuPy, the extra refngd[gpu]: {error}") from error
    if not cupy.is_available():
        raise ValueError("device 'gpu' needs a GPU: CuPy finds none")
    _check_gpu(cupy)
    return cupy


@cache
def _check_gpu(cupy: Any) -> None:
    """Raise ValueError if a small product and a small factorisation say that libraries are missing, or TF32 is on."""
    try:
        product = float((cupy.ones((256, 256), np.float32) * (1 + 2.0**-12) @ cupy.ones((256, 256), np.float32)).max())
        with raising(cupy):
            cupy.linalg.eigh(cupy.eye(2))
    except (ImportError, OSError, RuntimeError) as error:
        raise ValueError(f"device 'gpu' needs CUDA's libraries, in the extra refngd[gpu]: {error}") from error
    if product == 256:  # the 12th bit is lost
        raise ValueError("products of float32 are TF32, of 10 bits: unset CUPY_TF32 and NVIDIA_TF32_OVERRIDE")


def device_versions(device: str) -> dict[str, str]:
    """CuPy's version and the GPU's name for a record of what ran on "gpu", nothing for "cpu"."""
    if device == "cpu":
        return {}
    cupy = _cupy()
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {"cupy": cupy.__version__, "gpu": properties["name"].decode()}


def is_finite(*arrays: Array) -> bool:
    """Whether all entries are finite. Their sum tells, unless it overflows, and takes one transfer."""
    with np.errstate(all="ignore"):
        total = sum(x.sum() for x in arrays)
        return math.isfinite(float(total)) or all(bool(array_module(x).isfinite(x).all()) for x in arrays)


def raising(xp: Any) -> AbstractContextManager:
    """Context in which linear algebra raises LinAlgError: NumPy always does, CuPy ignores failure by default."""
    if xp is np:
        return nullcontext()
    import cupyx

    return cupyx.errstate(linalg="raise")


def erf(u: Array) -> Array:
    """The error function, entry by entry."""
    if array_module(u) is np:
        from scipy.special import erf
    else:
        from cupyx.scipy.special import erf
    return erf(u)


def batches(like: Array, count: int, each: int, limit: int = 2**22) -> list[slice]:
    """Slices of range(count) whose temporaries, of `each` entries per item, have at most `limit` + `each` entries.

    like: an array on the device; 64 times the limit on a GPU, which has no cache to stay in, and launches to save.
    """
    step = -(-(limit if array_module(like) is np else 64 * limit) // each)  # rounded up
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def require_memory(xp: Any, nbytes: int, what: str, instead: str) -> None:
    """Raise MemoryError, before any work, if `what`, of `nbytes`, exceeds the memory; `instead` says what to do."""
    total = host_memory() if xp is np else xp.cuda.runtime.memGetInfo()[1]
    if nbytes > total:
        size, have = (f"{n / 2**30:,.1f} GiB" for n in (nbytes, total))
        raise MemoryError(f"{what} would take {size} and this device has {have}: {instead}")


def host_memory(root: Path = Path("/")) -> float:
    """Bytes that this process may use: of the machine, its container (cgroups v1 and v2), and `ulimit -v`.

    Infinite where the system does not say, as on Windows: there the allocation itself has to fail.
    """
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    with suppress(ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        sizes += [limit] if limit != resource.RLIM_INFINITY else []
    for file in _limit_files(root):
        with suppress(OSError, ValueError):  # no such file, or the word "max"
            sizes.append(int(file.read_text()))
    return min(sizes, default=math.inf)


def _limit_files(root: Path) -> Iterator[Path]:
    """The files that may hold a memory limit: of the process's group and of each group around it."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in groups):
        folder, name = ("", "memory.max") if not controllers else ("memory", "memory.limit_in_bytes")
        if not controllers or "memory" in controllers.split(","):
            group = PurePosixPath(path.lstrip("/"))
            yield from (root / "sys/fs/cgroup" / folder / part / name for part in (group, *group.parents))
