"""What commands share: how they end, results that are written whole or not at all, JSON, progress, figures."""

import argparse
import json
import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from .. import __version__
from ..arrays import device_versions

try:
    import fcntl
except ImportError:  # Windows: there two runs that write into one folder are not told apart
    fcntl = None

MOST = 10**9  # of anything that an option counts
STAGING, LOCK = ".refngd-unfinished", "lock"


@contextmanager
def one_line(
    parser: argparse.ArgumentParser, prefix: str, names: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    """What a user can cause ends the program with one line: status 2 for an error, 130 for Ctrl-C.

    parser: it ends the program.
    prefix: what the line starts with.
    names: the option that a user typed for an argument that the error's message starts with.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        parser.exit(130, f"{prefix}: interrupted{interrupt}\n")
    except BrokenPipeError:  # as in `refngd run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it closes it
        parser.exit(2, f"{prefix}: error: nobody reads standard output\n")
    except (ValueError, ArithmeticError, MemoryError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        typed = re.sub(r"(^|: )(\w+)(?= (?:is|are|has) )", lambda m: m[1] + names.get(m[2], m[2]), said, count=1)
        parser.exit(2, f"{prefix}: error: {typed}\n")


def checked_count(option: str, value: int, least: int) -> int:
    """The `value` of an option that counts something, if it is >= `least` and no more than anything can be."""
    if not least <= value <= MOST:
        raise ValueError(f"{option} is {value}; expected an integer >= {least}{' and <= 10^9' * (value > MOST)}")
    return value


def progress(names: Iterable, total: int | None = None) -> Iterable:
    """`names` with a progress bar where standard error is a terminal and tqdm is there; `total` if they have no len."""
    try:
        from tqdm import tqdm
    except ImportError:
        return names
    return tqdm(names, total=total, disable=None, leave=False) if sys.stderr else names  # None: it was closed


def finished(names: Iterable[str], compute: Callable[[str], Any]) -> tuple[dict[str, Any], KeyboardInterrupt | None]:
    """{name: compute(name)}, without what is None, and Ctrl-C, if that ended it early and there is anything to keep."""
    results = {}
    try:
        for name in progress(names):
            result = compute(name)
            if result is not None:
                results[name] = result
    except KeyboardInterrupt:
        if not results:
            raise
        return results, KeyboardInterrupt(f"; what was finished, {', '.join(results)}, is kept")
    return results, None


def versions(device: str) -> dict[str, str]:
    """Of refngd, Python, NumPy and SciPy, on a GPU of CuPy, and its name: a record says what made it."""
    packages = {package: version(package) for package in ("numpy", "scipy")}
    return {"refngd": __version__, "python": platform.python_version()} | packages | device_versions(device)


@contextmanager
def reserved(folder: Path, files: Iterable[Path]) -> Iterator[Path]:
    """`folder` for this process alone: an empty folder inside it, to write files in before they move to their places.

    folder: made where it is missing.
    files: what will be written, there or elsewhere.

    What a killed run left is removed. Raises OSError where nothing can be written, ValueError where another run writes.
    """
    staging = folder / STAGING
    with ExitStack() as stack:
        with _about(f"cannot write into {folder}"):
            staging.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(staging / LOCK, "w"))
        if not _locked(lock):
            raise ValueError(f"another run is writing into {folder}")
        try:
            for path in staging.iterdir():
                if path.name != LOCK:
                    path.unlink()
            for path in files:
                if path.is_dir():
                    raise ValueError(f"{path} is a folder; expected none, or a file to replace")
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _locked(file: IO) -> bool:
    """Whether `file` is this process's alone now; it is believed to be where the disk or the system has no locks."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))  # or its run, ending, has removed it
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return True


@contextmanager
def _about(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"{what}: {error.strerror or error}") from error


def save(path: Path, staging: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: in `staging`, then move it to `path`. Raises OSError, naming `path`."""
    with _about(f"cannot write {path}"):
        write(staging / path.name)
        os.replace(staging / path.name, path)


def save_together(record: Path, text: str, pictures: dict[Path, Callable[[Path], object] | None], staging: Path) -> str:
    """Write the record of a run and its pictures, so that a picture of another run never lies beside it.

    record, text: the file of numbers and what it holds.
    pictures: for each file what draws it, or None if this run has no such picture.
    staging: as `reserved` gives it.

    Returns what was written, in words. Raises OSError, naming the file.
    """
    written, note = [record], ""
    with _about(f"cannot write {record}"):
        (staging / record.name).write_text(text, encoding="utf-8")  # the disk is full before anything is removed
        for path in pictures:
            path.unlink(missing_ok=True)
        os.replace(staging / record.name, record)
    try:
        for path, draw in pictures.items():
            if draw:
                save(path, staging, draw)
                written.append(path)
    except ImportError as error:
        note = f", but no pictures: {error} (the extra refngd[plot])"
    return ", ".join(path.name for path in written) + note


def write(
    args: argparse.Namespace, staging: Path, results: dict, record: dict, pictures: dict[str, Callable[[Path], None]]
) -> str:
    """Write COMMAND.json, with settings, versions, `record` and results, and the pictures; what was written, in words.

    A picture that is None, or cannot be drawn, is removed: it would be of another run.
    """
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    record = {"settings": settings, "versions": versions(args.device), **record}
    record["results"] = {name: asdict(r) for name, r in results.items()}
    paths = {args.out / name: draw for name, draw in pictures.items()}
    return save_together(args.out / f"{args.command}.json", as_json(record), paths, staging)


def as_json(record: dict) -> str:
    """The text of a file; what JSON cannot hold is null."""
    return json.dumps(jsonable(record), indent=1, allow_nan=False)


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
