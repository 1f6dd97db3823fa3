"""What is under test: a function imported by name, or a folder of results that any program wrote.

Both are called with a case and a dtype, and return its outputs or raise as `compare.check` wants it. All errors made in
naming them are ValueErrors, before anything runs.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .compare import Outputs, Reported
from .vectors import Case, decode


class Adapter:
    """The function `name` = "module[:function]", `run` by default, of a module that the current directory may hold."""

    def __init__(self, name: str) -> None:
        self.name, self.run = name, _imported(name)

    def __call__(self, case: Case, dtype: type) -> Outputs:
        return self.run(*case.arguments(dtype))


class Results:
    """The files <case id>.json of a folder. ids: those of all cases there are, None for any."""

    def __init__(self, folder: str | Path, ids: list[str] | None) -> None:
        self.name, folder = str(folder), Path(folder)
        if not folder.is_dir():
            raise ValueError(f"--results {folder} is no folder")
        files = sorted(folder.glob("*.json"))
        unknown = [path.name for path in files if ids is not None and path.stem not in ids]
        if unknown or not files:
            raise ValueError(f"--results {folder} has {_listed(unknown)}; expected files <case id>.json")
        self.content = {path.stem: _parsed(path) for path in files}

    def __call__(self, case: Case, dtype: type) -> Outputs:
        if case.id not in self.content:
            raise NotImplementedError(f"there is no {case.id}.json")
        content = self.content[case.id]
        if "unsupported" in content:
            raise NotImplementedError(content["unsupported"])
        if "error" in content:
            raise Reported(content["error"])
        return {name: _array(name, value, dtype) for name, value in content["outputs"].items()}


def _listed(unknown: list[str]) -> str:
    return f"files of unknown cases, {', '.join(unknown[:5])}{' ..' * (len(unknown) > 5)}" if unknown else "no result"


def _parsed(path: Path) -> dict:
    try:
        if not path.is_file():
            raise OSError("it is no file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    keys = content.keys() if isinstance(content, dict) else set()
    if len(keys & {"outputs", "error", "unsupported"}) != 1 or not isinstance(content.get("outputs", {}), dict):
        raise ValueError(f'{path} is not one of {{"outputs": {{..}}}}, {{"error": ..}}, {{"unsupported": ..}}')
    return content


def _array(name: str, value: dict, dtype: type) -> np.ndarray:
    try:
        return decode(value).astype(dtype)
    except ValueError as error:
        raise Reported(f"{name} is malformed: {error}") from error


def _imported(name: str) -> Callable:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"--implementation {name}: cannot import {module_name}: {error!r}") from error
    run = getattr(module, attribute or "run", None)
    if not callable(run):
        raise ValueError(f"--implementation {name}: {module_name} has no function {attribute or 'run'}")
    return run
