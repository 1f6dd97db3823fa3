"""What commands share: progress, JSON, files that are written whole or not at all, figures."""

import math
import os
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .. import __version__


def progress(names: Iterable[str]) -> Iterable[str]:
    """A progress bar where standard error is a terminal and tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        return names
    return tqdm(names, disable=None, leave=False)


def versions() -> dict[str, str]:
    packages = {package: version(package) for package in ("numpy", "scipy")}
    return {"refngd": __version__, "python": platform.python_version()} | packages


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    with TemporaryDirectory(dir=path.parent) as folder:
        write(Path(folder, path.name))
        os.replace(Path(folder, path.name), path)


def jsonable(value):
    """value with arrays as lists, and with what JSON cannot hold, inf and nan, as null."""
    if isinstance(value, dict):
        return {key: jsonable(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [jsonable(v) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def subplots(rows: int, columns: int, figsize: tuple[float, float], **options):
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    figure = Figure(layout="constrained", dpi=120, figsize=figsize)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
