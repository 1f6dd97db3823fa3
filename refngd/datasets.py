"""Data for classification: the 8 x 8 digits that ship with the package, Gaussian inputs, and your own .npz files.

A data set is (x, labels): x (n, M_0) and labels 0, 1, .. (n,). `split` turns it into a `Data` for training: inputs of
unit norm, targets -1/2 and +1/2 for two classes (C = 1), one-hot for more (C = number of classes).
"""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from .arrays import Array
from .preprocess import unit_norm

DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


@dataclass(frozen=True)
class Data:
    """x (N, M_0), y (N, C) to train on; x_test (N', M_0), y_test (N', C) to test on."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array


def digits(classes: Sequence[int] = range(10)) -> tuple[np.ndarray, np.ndarray]:
    """The 1797 test images of Optical Recognition of Handwritten Digits (data/README.md), pixels 0..16, M_0 = 64.

    labels index into `classes`. Raises ValueError for a class that is no digit, and if the file is corrupt.
    """
    packed = _shipped("digits.csv.gz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != DIGITS_SHA256:
        raise ValueError(
            "data file digits.csv.gz is corrupt: its SHA-256 sum is not the published one; reinstall refngd"
        )
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",")
    return select(table[:, :-1], table[:, -1].astype(int), classes)


def gaussian(n: int, M_0: int, classes: int, rng: int | np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n inputs x ~ N(0, I) in M_0 dimensions; the label is the largest of `classes` random linear functions."""
    if min(n, M_0) < 1 or classes < 2:
        raise ValueError(f"n, M_0, classes are {n}, {M_0}, {classes}; expected n >= 1, M_0 >= 1 and classes >= 2")
    rng = np.random.default_rng(rng)
    x = rng.standard_normal((n, M_0))
    return x, np.argmax(x @ rng.standard_normal((M_0, classes)), axis=1)


def load_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """`x` (n, M_0) and integer `labels` (n,) of a .npz file, read without pickle.

    Raises ValueError, naming the file, if it is missing, unreadable or holds something else.
    """
    try:
        with open(path, "rb") as handle:
            file = np.load(handle, allow_pickle=False)
            missing = {"x", "labels"} - set(getattr(file, "files", ()))
            if missing:
                raise ValueError(f"it has no array {sorted(missing)}; expected 'x' (n, M_0) and 'labels' (n,)")
            x, labels = file["x"], file["labels"]
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if x.ndim != 2 or labels.shape != (len(x),) or x.dtype.kind not in "fiu" or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path} holds x {x.dtype} {x.shape} and labels {labels.dtype} {labels.shape}; "
            "expected numbers (n, M_0) and integers (n,)"
        )
    if not np.isfinite(x).all():
        raise ValueError(f"{path}: x has non-finite entries")
    return x.astype(float), labels


def select(x: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The samples of `classes`, relabelled by their position there."""
    classes = list(classes)
    absent = sorted(set(classes) - set(labels.tolist()))
    if len(set(classes)) != len(classes) or len(classes) < 2 or absent:
        raise ValueError(
            f"classes is {classes}; expected two or more different ones out of {sorted(set(labels.tolist()))}"
        )
    position = {c: k for k, c in enumerate(classes)}
    keep = np.isin(labels, classes)
    return x[keep], np.array([position[c] for c in labels[keep].tolist()])


def split(
    x: np.ndarray,
    labels: np.ndarray,
    N: int,
    rng: int | np.random.Generator,
    dtype: type = np.float64,
    one_hot: bool = False,
) -> Data:
    """N random samples to train on and the others to test on: inputs of unit norm, targets as above."""
    if not 1 <= N < len(x):
        raise ValueError(f"N is {N}; expected 1 <= N < {len(x)}, the number of samples, to leave some to test on")
    order = np.random.default_rng(rng).permutation(len(x))
    x, y = unit_norm(x).astype(dtype), targets(labels, one_hot).astype(dtype)
    train, test = order[:N], order[N:]
    return Data(x[train], y[train], x[test], y[test])


def targets(labels: np.ndarray, one_hot: bool = False) -> np.ndarray:
    """-1/2 and +1/2 (n, 1) for labels 0 and 1; one-hot (n, C) for C > 2 of them, or if asked for. Raises ValueError."""
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"labels are {labels.min()}..{labels.max()}; expected integers 0, 1, ..")
    C = int(labels.max()) + 1
    return labels[:, None] - 0.5 if C <= 2 and not one_hot else np.eye(max(C, 2))[labels]


def accuracy(f: Array, y: Array) -> float:
    """Share of samples on which outputs f (n, C) and targets y (n, C) name the same class."""
    same = (f > 0) == (y > 0) if f.shape[1] == 1 else f.argmax(1) == y.argmax(1)
    return float(same.mean())


def _shipped(name: str) -> Path:
    """A file of data/, which an installed package carries as refngd/_data."""
    package = Path(str(resources.files(__package__)))
    installed = package / "_data" / name
    return installed if installed.exists() else package.parent / "data" / name
