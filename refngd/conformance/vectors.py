"""The conformance vectors: cases with inputs, attributes, certified outputs. data/vectors/README.md has the format."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..datasets import shipped

FOLDER = "vectors/v1"
FORMAT = 1


@dataclass(frozen=True)
class Case:
    """One problem. All arrays are float64 here; `arguments` gives the inputs in another dtype.

    kind: the class, such as "stress"; error: what a user must be told, of a must-fail case, which has no outputs;
    flags: the bugs of `bugs.BUGS` that it catches.
    """

    id: str
    operation: str
    kind: str
    title: str
    equation: str
    catches: str
    attrs: dict
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    intermediates: dict[str, np.ndarray] = field(default_factory=dict)
    kappa: float = 1.0
    kappa_gram: float = 1.0
    error: str | None = None
    flags: tuple[str, ...] = ()

    def arguments(self, dtype: type) -> tuple[str, dict, dict]:
        """operation, inputs, attributes: copies, so that nobody can spoil them for others."""
        return self.operation, {name: a.astype(dtype) for name, a in self.inputs.items()}, dict(self.attrs)


@dataclass(frozen=True)
class Broken:
    """A file that cannot be used, in place of its cases: id is its name."""

    id: str
    operation: str
    message: str


def read(folder: str | Path | None = None) -> tuple[list[Case], list[Broken]]:
    """The cases of the files in the manifest of `folder` (default: those that ship), and the files that are broken.

    Superseded cases, which ask for what turned out to be wrong, are left out.

    Raises ValueError if the manifest itself cannot be used.
    """
    folder = shipped(FOLDER) if folder is None else Path(folder)
    cases, broken = [], []
    for entry in _manifest(folder / "manifest.json"):
        try:
            cases += _cases(folder / entry["file"], entry)
        except ValueError as error:
            broken.append(Broken(entry["file"], entry["operation"], str(error)))
    return cases, broken


def decode(array: dict) -> np.ndarray:
    """The float64 array of {"shape": [..], "data": [flat, row-major]}, "inf" being a string. Raises ValueError."""
    try:
        shape, data = array["shape"], array["data"]
        if not isinstance(data, list) or min(shape, default=0) < 0:  # or NumPy would guess
            raise ValueError(f"shape is {shape!r}, data a {type(data).__name__}")
        return np.array([float(x) for x in data]).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f'it is no {{"shape": [..], "data": [..]}} of as many numbers as the shape says ({error})'
        ) from error


def encode(a: np.ndarray) -> dict:
    """The inverse of `decode`: what a result file holds."""
    data = np.asarray(a, float).ravel().tolist()
    return {"shape": list(np.shape(a)), "data": [x if math.isfinite(x) else str(x) for x in data]}


def _manifest(path: Path) -> list[dict]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        entries = [{key: entry[key] for key in ("file", "operation", "cases", "sha256")} for entry in manifest["files"]]
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the manifest {path} is missing or corrupt ({error!r}); reinstall refngd") from error
    if manifest.get("format") != FORMAT:
        raise ValueError(f"the manifest {path} has format {manifest.get('format')}; expected {FORMAT}")
    return entries


def _cases(path: Path, entry: dict) -> list[Case]:
    """The cases of one file. Raises ValueError, naming it, if it is not the one of the manifest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} is missing: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise ValueError(
            f"{path.name} is corrupt or was edited: its SHA-256 sum is {found[:12]}.., that of the manifest "
            f"{entry['sha256'][:12]}..; none of its cases was run"
        )
    try:
        cases = [_case(raw, entry["operation"]) for raw in json.loads(content)["cases"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} does not follow the format: {error!r}") from error
    if len(cases) != entry["cases"]:
        raise ValueError(f"{path.name} has {len(cases)} cases; the manifest says {entry['cases']}")
    return [case for case in cases if case.kind != "superseded"]


def _case(raw: dict, operation: str) -> Case:
    arrays = {
        part: {name: decode(a) for name, a in raw.get(part, {}).items()}
        for part in ("inputs", "outputs", "intermediates")
    }
    return Case(
        raw["id"],
        operation,
        raw["class"],
        raw["title"],
        raw["equation"],
        raw["catches"],
        {name: math.inf if value == "inf" else value for name, value in raw["attrs"].items()},
        **arrays,
        kappa=raw.get("kappa", 1.0),
        kappa_gram=raw.get("kappa_gram", 1.0),
        error=raw.get("error"),
        flags=tuple(raw.get("flags", ())),
    )
