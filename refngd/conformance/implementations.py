"""What is under test: a function imported by name, or a folder of results that any program wrote.

Both are called with a case and a dtype, and return its outputs, or raise as `compare.check` wants it. All errors made
in naming them are ValueErrors, before anything runs; what is wrong with one result is an error of its case alone.
"""

import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .compare import Malformed, Outputs, Refused
from .vectors import Case, decode


class Adapter:
    """The function `name` = "module[:function]", `run` by default, of a module that the current directory may hold."""

    ignored = ""

    def __init__(self, name: str) -> None:
        self.name, self.run = name, _imported(name)

    def __call__(self, case: Case, dtype: type) -> Outputs:
        with _staying():
            outputs = self.run(*case.arguments(dtype))
        if isinstance(outputs, dict) and isinstance(outputs.get("error"), str):
            raise Refused(outputs["error"])
        return outputs


class Results:
    """The files <case id>.json of a folder.

    ids: those of all cases there are, None for any.
    ignored: what else the folder holds, in words.
    """

    def __init__(self, folder: str | Path, ids: Iterable[str] | None) -> None:
        self.name, self.folder = str(folder), Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"--results {folder} is no folder")
        files = sorted(self.folder.glob("*.json"))
        unknown = [path.name for path in files if ids is not None and path.stem not in ids]
        if len(unknown) == len(files):
            raise ValueError(f"--results {folder} has {_listed(unknown) or 'no result'}; expected files <case id>.json")
        self.ignored = _listed(unknown)

    def __call__(self, case: Case, dtype: type) -> Outputs:
        path = self.folder / f"{case.id}.json"
        if not path.exists():
            raise NotImplementedError(f"there is no {path.name}")
        content = _parsed(path)
        if "unsupported" in content:
            raise NotImplementedError(content["unsupported"])
        if "error" in content:
            raise Refused(str(content["error"]))
        return {name: _array(name, value, dtype) for name, value in content["outputs"].items()}


def _listed(unknown: list[str]) -> str:
    return f"files of unknown cases, {', '.join(unknown[:5])}{' ..' * (len(unknown) > 5)}" if unknown else ""


def _parsed(path: Path) -> dict:
    """The content of a result. Raises Malformed, with what a writer of JSON by hand does wrong in plain words."""
    try:
        if not path.is_file():
            raise OSError("it is no file")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise Malformed(f"{path.name} is not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"{path.name} is not JSON: {_in_words(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Malformed(f"{path.name} is not JSON: {error}") from error
    keys = content.keys() if isinstance(content, dict) else set()
    if len(keys & {"outputs", "error", "unsupported"}) != 1 or not isinstance(content.get("outputs", {}), dict):
        raise Malformed(f'{path.name} is not one of {{"outputs": {{..}}}}, {{"error": ..}}, {{"unsupported": ..}}')
    return content


def _no_number(token: str) -> float:
    raise ValueError(f'a bare {token}; write infinities as "inf" and "-inf", in quotes, and no nan')


def _in_words(error: json.JSONDecodeError) -> str:
    """What is at the place where the parser stopped: the bare nan and inf of printf and of C++ streams, a mark."""
    if error.doc.startswith("\ufeff"):
        return "it starts with a byte-order mark; write UTF-8 without one"
    rest = error.doc[error.pos :].lstrip("-+")
    token = next((token for token in ("nan", "inf") if rest.lower().startswith(token)), None)
    if token:
        return f'line {error.lineno} has a bare {token}; write infinities as "inf" and "-inf", in quotes, and no nan'
    return str(error)


def _array(name: str, value: dict, dtype: type) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # what overflows in float32 is found to be infinite
            return decode(_with_nan(value)).astype(dtype)
    except ValueError as error:
        raise Malformed(f"{name} is malformed: {error}") from error


def _with_nan(value: dict) -> dict:
    """The array with nan for null, as nlohmann-json and JavaScript write it."""
    data = value.get("data") if isinstance(value, dict) else None
    return {**value, "data": [math.nan if x is None else x for x in data]} if isinstance(data, list) else value


def _imported(name: str) -> Callable:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with _staying():
            module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit and pytest's own among it: they would end the check, as if all were well
        message = f"--implementation {name}: cannot import {module_name}: {error!r}{_place(error)}"
        raise ValueError(message) from error
    run = getattr(module, attribute or "run", None)
    if not callable(run):
        raise ValueError(f"--implementation {name}: {module_name} has no function {attribute or 'run'}")
    return run


def _place(error: BaseException) -> str:
    """The line that raised it, less those of the import itself, or that is no Python."""
    if isinstance(error, SyntaxError):
        return f", {error.filename}, line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name not in ("_imported", "leave")]
    frames = [f for f in frames if "importlib" not in f.filename]
    return f", {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


@contextmanager
def _staying() -> Iterator[None]:
    """While os._exit, which would end the check without a word, raises; not so in processes that are forked."""
    original, process = os._exit, os.getpid()

    def leave(status: int) -> None:
        if os.getpid() != process:
            original(status)
        raise SystemExit(f"os._exit({status}) was called")

    os._exit = leave
    try:
        yield
    finally:
        os._exit = original
