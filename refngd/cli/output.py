"""What commands share: progress, JSON, files that are written whole or not at all, figures."""

import argparse
import json
import math
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict
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
    """Of refngd, Python, NumPy and SciPy: a record says what made it."""
    packages = {package: version(package) for package in ("numpy", "scipy")}
    return {"refngd": __version__, "python": platform.python_version()} | packages


def write(
    args: argparse.Namespace, results: dict, record: dict, pictures: dict[str, Callable[[Path], None] | None]
) -> str:
    """Write COMMAND.json, with settings, versions, `record` and results, and the pictures; what was written, in words.

    A picture that is None, or cannot be drawn, is removed: it would be of another run.
    """
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    record = {"settings": settings, "versions": versions(), **record}
    text = json.dumps(
        jsonable(record | {"results": {k: asdict(r) for k, r in results.items()}}), indent=1, allow_nan=False
    )
    written, note = [f"{args.command}.json"], ""
    replace_file(args.out / written[0], lambda path: path.write_text(text))
    for name, draw in pictures.items():
        try:
            if draw:
                replace_file(args.out / name, draw)
                written.append(name)
                continue
        except ImportError as error:
            note = f", but no pictures: {error} (the extra refngd[plot])"
        (args.out / name).unlink(missing_ok=True)
    return ", ".join(written) + note


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
    """A figure and its axes (rows, columns), with constrained layout; options are those of Matplotlib's `subplots`."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    figure = Figure(layout="constrained", dpi=120, figsize=figsize)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
