"""Data for classification: samples of MNIST and of smaller digits that ship with it, MNIST, CIFAR-10, Gaussian inputs,
your own .npz.

A data set is (x, labels): x (n, M_0) and labels 0, 1, .. (n,). `split` turns it, and `draw` the two parts of MNIST or
CIFAR-10, into a `Data` for training: inputs of unit norm, targets -1/2 and +1/2 for two classes (C = 1), one-hot for
more (C = number of classes).
"""

import gzip
import hashlib
import io
import math
import operator
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Array, require_memory
from .checks import (
    FLOATS,
    checked_array,
    checked_choice,
    checked_dtype,
    checked_finite,
    checked_flag,
    checked_instance,
    checked_number,
    checked_rng,
    checked_whole,
    shown,
)
from .preprocess import standardise, unit_norm
from .spectral import haar

SHIPPED_SHA256 = {  # of the files of data/
    "digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "mnist-sample.npz": "264732ab91dfa45c296a68919258478fcb07a756c19a592df010e6f3291520da",
}
SHA256 = {  # of the files that are fetched
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
}
MNIST = {"train": ("train", 60_000), "test": ("t10k", 10_000)}  # the part's file names begin so; its images
MNIST_MIRRORS = "https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"
CIFAR10 = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR10_BATCH = 10_000  # images in each of these files
CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
NPZ_LIMIT = 2**32  # bytes: a small file can unpack to more than any memory


@dataclass(frozen=True)
class Data:
    """x (N, M_0), y (N, C) to train on; x_test (N', M_0), y_test (N', C) to test on. Raises ValueError for others."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array

    def __post_init__(self) -> None:
        N, M_0 = checked_array("x", self.x, ("N", "M_0")).shape
        C = checked_array("y", self.y, (N, "C"), self.x).shape[1]
        N_test = len(checked_array("x_test", self.x_test, ("N'", M_0), self.x))
        checked_array("y_test", self.y_test, (N_test, C), self.x)


def digits(classes: Sequence[int] = range(10)) -> tuple[np.ndarray, np.ndarray]:
    """The 1797 test images of Optical Recognition of Handwritten Digits (data/README.md), pixels 0..16, M_0 = 64.

    labels index into `classes`. Raises ValueError for a class that is no digit, and if the file is corrupt.
    """
    table = np.loadtxt(io.BytesIO(gzip.decompress(_shipped_bytes("digits.csv.gz"))), delimiter=",")
    return select(table[:, :-1], table[:, -1].astype(int), classes)


def mnist_sample(part: str = "train", classes: Sequence[int] = range(10)) -> tuple[np.ndarray, np.ndarray]:
    """The first 100 images of each digit in a part of MNIST (data/README.md), in MNIST's order; as `mnist` has them.

    part: "train" or "test", 1,000 images each.
    classes: the digits wanted; labels index into them.

    Raises ValueError for another part, for a class that is no digit, and if the file is corrupt.
    """
    checked_choice("part", part, list(MNIST))
    file = np.load(io.BytesIO(_shipped_bytes("mnist-sample.npz")), allow_pickle=False)
    x, labels = select(file[f"x_{part}"], file[f"labels_{part}"], classes)
    return x.astype(float), labels


def mnist(
    part: str = "train", folder: str | Path | None = None, classes: Sequence[int] = range(10)
) -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 training or 10,000 test images of MNIST (data/README.md), pixels 0..255 row by row, M_0 = 784.

    part: "train" or "test".
    folder: where the IDX files are, unpacked or .gz, named `train-images-idx3-ubyte` or `train-images.idx3-ubyte` and
        so on; without one they are fetched, once, by pooch (the extra refngd[data]).
    classes: the digits to keep, two or more.

    Returns x (n, 784) and labels (n,), which index into `classes`. Raises ValueError for other arguments, and, naming
    the file, if one is missing, cannot be fetched, is truncated or corrupt, or is another file.
    """
    name, n = _part(MNIST, part)
    x, labels = (
        read_idx(_file(_mnist_names(f"{name}-{kind}-ubyte"), folder, MNIST_MIRRORS), shape)
        for kind, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,)))
    )
    _require_labels(labels, f"{name}-labels-idx1-ubyte")
    x, labels = select(x.reshape(n, -1), labels, classes)
    return x.astype(float), labels


def cifar10(
    part: str = "train", folder: str | Path | None = None, classes: Sequence[int] = range(10)
) -> tuple[np.ndarray, np.ndarray]:
    """The 50,000 training or 10,000 test images of CIFAR-10, pixels 0..255: 32 x 32 red, green, blue; M_0 = 3072.

    part: "train" or "test".
    folder: where the .bin files are, or the archive of them; without one it is fetched.
    classes: the classes to keep, two or more of 0..9.

    Returns x (n, 3072) and labels (n,), which index into `classes`. Raises as `mnist`.
    """
    names, archive = _part(CIFAR10, part), "cifar-10-binary.tar.gz"
    path = _file((names[0], archive), folder, CIFAR10_MIRRORS)
    size = CIFAR10_BATCH * (1 + 3072)
    if path.name == archive:
        contents = _members(path, names, size)
    else:
        contents = [_content(path.with_name(name), size) for name in names]
    batches = [np.frombuffer(content, np.uint8).reshape(CIFAR10_BATCH, -1) for content in contents]
    for name, batch in zip(names, batches, strict=True):
        _require_labels(batch[:, 0], name)
    records = np.concatenate(batches)
    x, labels = select(records[:, 1:], records[:, 0], classes)
    return x.astype(float), labels


def gaussian(n: int, M_0: int, classes: int, rng: int | np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n inputs x ~ N(0, I) in M_0 dimensions; the label is the largest of `classes` random linear functions.

    n: how many samples.
    M_0: the number of inputs.
    classes: the number of classes, at least 2.
    rng: a seed or a generator, of x first and then of the linear functions.

    Returns x (n, M_0) and labels (n,). Raises ValueError for other arguments, and MemoryError.
    """
    n, M_0, classes = checked_whole("n", n, 1), checked_whole("M_0", M_0, 1), checked_whole("classes", classes, 2)
    require_memory(np, 8 * (n * M_0 + (n + M_0) * classes), f"x ({n} x {M_0})", "take fewer samples or inputs")
    rng = checked_rng(rng)
    x = rng.standard_normal((n, M_0))
    return x, np.argmax(x @ rng.standard_normal((M_0, classes)), axis=1)


def teacher_student(
    rng: int | np.random.Generator,
    width: int = 16,
    N: int | None = None,
    singular_values: Sequence[float] = (4.0, 3.0, 2.0),
    noise: float = 0.3,
    whiten: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples of a noisy linear teacher of low rank: x (N, width), y (N, width) and the teacher (width, width).

    y = x teacher^T + noise z, z ~ N(0, 1): Huh, section 6, whose letters are P for N and N for the width.

    rng: a seed or a generator. Drawn from it in this order: the left and the right singular vectors of the teacher, of
        uniform (Haar) distribution, x, and z.
    width: of the inputs and of the outputs.
    N: the number of samples; by default `width`. With fewer than that the map wanted is not unique.
    singular_values: of the teacher, 1 to `width` numbers > 0.
    noise: the standard deviation of each target's noise.
    whiten: x^T x / N = I exactly, x being sqrt(N) U V^T of a Gaussian U t V^T, or V V^T if N < width, the identity on
        the directions that occur; else x is that Gaussian.

    Raises ValueError for other arguments.
    """
    width = checked_whole("width", width, 1)
    N = width if N is None else checked_whole("N", N, 1)
    expected = f"1 to {width}, the width, finite numbers > 0"
    is_list = isinstance(singular_values, (list, tuple)) or getattr(singular_values, "ndim", 0) == 1
    if not (is_list and 1 <= len(singular_values) <= width):
        raise ValueError(f"singular_values is {shown(singular_values)}; expected {expected}")
    s = np.array([checked_number("singular_values", v, expected, lambda v: 0 < v < 1e100) for v in singular_values])
    noise = checked_number("noise", noise, "a finite number >= 0", lambda v: 0 <= v < 1e100)  # its square is a float
    require_memory(np, 8 * width * (3 * N + width), f"x, y and z ({N} x {width})", "take a smaller width or N")
    whiten, rng = checked_flag("whiten", whiten), checked_rng(rng)
    left, right = haar(rng, width, s.size), haar(rng, width, s.size)
    teacher, x = left * s @ right.T, rng.standard_normal((N, width))
    if whiten:
        U, _, Vt = np.linalg.svd(x, full_matrices=False)
        x = math.sqrt(N) * U @ Vt
    return x, x @ teacher.T + noise * rng.standard_normal((N, width)), teacher


def load_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """`x` (n, M_0) and integer `labels` (n,) of a .npz file, read without pickle.

    Raises ValueError, naming the file, if it is missing, unreadable, larger than NPZ_LIMIT or holds something else.
    """
    path = _checked_path("path", path)
    try:
        with _opened(path) as handle:
            file = np.load(handle, allow_pickle=False)
            missing = {"x", "labels"} - set(getattr(file, "files", ()))
            if missing:
                raise ValueError(f"it has no array {sorted(missing)}; expected 'x' (n, M_0) and 'labels' (n,)")
            size = sum(member.file_size for member in file.zip.infolist())
            if size > NPZ_LIMIT:
                raise ValueError(f"it unpacks to {size} bytes; expected at most {NPZ_LIMIT}")
            x, labels = file["x"], file["labels"]
            if not (isinstance(x, np.ndarray) and isinstance(labels, np.ndarray)):
                raise ValueError("x or labels is not an array: its header is missing")
    except Exception as error:  # of a dozen kinds: zip, zlib, and NumPy, which parses headers as Python
        raise ValueError(f"cannot read {path}: {error}") from error
    if x.ndim != 2 or labels.shape != (len(x),) or x.dtype.kind not in "fiu" or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path} holds x {x.dtype} {x.shape} and labels {labels.dtype} {labels.shape}; "
            "expected numbers (n, M_0) and integers (n,)"
        )
    if 8 * x.size > NPZ_LIMIT:
        raise ValueError(f"{path} holds x {x.shape}, {8 * x.size} bytes as float64; expected at most {NPZ_LIMIT}")
    if not np.isfinite(x).all():
        raise ValueError(f"{path}: x has non-finite entries")
    return x.astype(float, copy=False), labels


def read_idx(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes, an array of `shape`, of an IDX file, .gz or not. Raises ValueError, naming it, for any other file."""
    _checked_path("path", path)
    shape = tuple(checked_whole("shape", n, 1) for n in checked_instance("shape", shape, tuple, "a tuple of integers"))
    start = 4 * (1 + len(shape))
    content = _content(path, start + math.prod(shape))
    header = np.frombuffer(content[:start], ">u4").tolist()
    expected = [0x800 + len(shape), *shape]  # 8: unsigned bytes
    if header != expected:
        raise ValueError(f"{path} starts with {header}; expected {expected}: IDX magic number, then the shape")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def select(x: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The samples of `classes`, relabelled by their position there.

    x: (n, M_0), the inputs.
    labels: (n,), integers.
    classes: two or more different labels that occur.

    Raises ValueError for other arguments.
    """
    _check_samples(x, labels, least=None)
    known = sorted(set(labels.tolist()))
    try:
        chosen = [operator.index(c) for c in classes]
    except TypeError:
        raise ValueError(f"classes is {shown(classes)}; expected two or more different ones out of {known}") from None
    if len(set(chosen)) != len(chosen) or len(chosen) < 2 or set(chosen) - set(known):
        raise ValueError(f"classes is {chosen}; expected two or more different ones out of {known}")
    position = {c: k for k, c in enumerate(chosen)}
    keep = np.isin(labels, chosen)
    return x[keep], np.array([position[c] for c in labels[keep].tolist()])


def split(
    x: np.ndarray,
    labels: np.ndarray,
    N: int,
    rng: int | np.random.Generator,
    dtype: DTypeLike = np.float64,
    one_hot: bool = False,
) -> Data:
    """N random samples to train on and the others to test on: inputs of unit norm, targets those of `targets`.

    x: (n, M_0), the inputs, n > N.
    labels: (n,), integers 0, 1, ..
    N: how many to train on.
    rng: a seed or a generator, of the permutation.
    dtype: of the result, float64 or float32.
    one_hot: whether two classes are one-hot, too.

    Raises ValueError for other arguments.
    """
    _check_samples(x, labels)
    if checked_whole("N", N, 1) >= len(x):
        raise ValueError(f"N is {N}; expected 1 <= N < {len(x)}, the number of samples, to leave some to test on")
    dtype, order = checked_dtype(dtype), checked_rng(rng).permutation(len(x))
    x, y = unit_norm(x).astype(dtype), targets(labels, one_hot).astype(dtype)
    train, test = order[:N], order[N:]
    return Data(x[train], y[train], x[test], y[test])


def draw(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    N: int,
    N_test: int,
    rng: int | np.random.Generator,
    dtype: DTypeLike = np.float64,
    one_hot: bool = False,
) -> Data:
    """N random samples of `train`, an (x, labels), to train on and N_test, or all if fewer, of `test` to test on.

    Inputs of both are standardised by the N training inputs, then scaled to unit norm; targets are those of `targets`,
    for the classes that occur in either.

    train, test: pairs of x (n, M_0) and labels (n,), integers 0, 1, ..
    N: how many to train on, at most those of `train`.
    N_test: how many to test on.
    rng: a seed or a generator, of the permutations of `train` and then of `test`.
    dtype: of the result, float64 or float32.
    one_hot: whether two classes are one-hot, too.

    Raises ValueError for other arguments.
    """
    for name, pair in (("train", train), ("test", test)):
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
            raise ValueError(f"{name} is {shown(pair)}; expected a pair (x, labels)")
        _check_samples(*pair, f" of {name}")
    (x, labels), (x_test, labels_test) = train, test
    if checked_whole("N", N, 1) > len(x):
        raise ValueError(f"N is {N}; expected 1 <= N <= {len(x)}, the number of training samples there are")
    checked_whole("N_test", N_test, 1)
    dtype, rng, C = checked_dtype(dtype), checked_rng(rng), int(max(labels.max(), labels_test.max())) + 1
    order, order_test = rng.permutation(len(x))[:N], rng.permutation(len(x_test))[:N_test]
    raw, y, y_test = x[order], targets(labels[order], one_hot, C), targets(labels_test[order_test], one_hot, C)
    x, x_test = (unit_norm(standardise(a, raw)) for a in (raw, x_test[order_test]))
    return Data(*(a.astype(dtype) for a in (x, y, x_test, y_test)))


def targets(labels: np.ndarray, one_hot: bool = False, C: int | None = None) -> np.ndarray:
    """-1/2 and +1/2 (n, 1) for labels 0 and 1; one-hot (n, C) for C > 2 classes, or if asked for. Raises ValueError.

    labels: integers 0, 1, .. (n,).
    one_hot: whether two classes get one-hot targets (n, 2), too.
    C: the number of classes; None for the largest label + 1.
    """
    largest, one_hot = int(_checked_labels(labels, least=0).max()), checked_flag("one_hot", one_hot)
    C = largest + 1 if C is None else checked_whole("C", C, 1)
    if largest >= C:
        raise ValueError(f"labels go to {largest}; expected integers 0, 1, .. below C = {C}")
    if C <= 2 and not one_hot:
        return labels[:, None] - 0.5
    require_memory(np, 9 * len(labels) * C, f"targets ({len(labels)} x {C})", "number the classes 0, 1, ..")
    return (labels[:, None] == np.arange(max(C, 2))).astype(float)


def _checked_path(name: str, path: str | Path) -> Path:
    """`path` as a Path: an integer would be the number of an open file."""
    return Path(checked_instance(name, path, (str, os.PathLike), "a path"))


def _checked_labels(labels: np.ndarray, of: str = "", least: int | None = None) -> np.ndarray:
    if not (type(labels) is np.ndarray and labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels)):
        raise ValueError(f"labels{of} is {shown(labels)}; expected integers (n,)")
    if least is not None and labels.min() < least:
        raise ValueError(f"labels{of} are {labels.min()}..{labels.max()}; expected integers 0, 1, ..")
    return labels


def _check_samples(x: np.ndarray, labels: np.ndarray, of: str = "", least: int | None = 0) -> None:
    """Raise ValueError unless x (n, M_0) are finite numbers on the host and labels (n,) integers >= `least`."""
    n = len(_checked_labels(labels, of, least))
    plain = type(x) is np.ndarray and (x.dtype.kind in "iu" or x.dtype in FLOATS)
    if not (plain and x.ndim == 2 and len(x) == n and x.size):
        raise ValueError(f"x{of} is {shown(x)}; expected a NumPy array of numbers ({n}, M_0), a row for each label")
    checked_finite(f"x{of}", x)


def accuracy(f: Array, y: Array) -> float:
    """Share of samples on which outputs f (n, C) and targets y (n, C) name the same class. Raises ValueError."""
    checked_array("y", y, checked_array("f", f, ("n", "C")).shape, f)
    same = (f > 0) == (y > 0) if f.shape[1] == 1 else f.argmax(1) == y.argmax(1)
    return float(same.mean())


def shipped(name: str) -> Path:
    """A file of data/, which an installed package carries as refngd/_data."""
    package = Path(str(resources.files(__package__)))
    installed = package / "_data" / name
    return installed if installed.exists() else package.parent / "data" / name


def _shipped_bytes(name: str) -> bytes:
    """The content of a file of data/. Raises ValueError if it is not the one that the package was made with."""
    content = shipped(name).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHIPPED_SHA256[name]:
        raise ValueError(f"data file {name} is corrupt: its SHA-256 sum is not the published one; reinstall refngd")
    return content


def _mnist_names(name: str) -> list[str]:
    """`name`, such as train-images-idx3-ubyte, and the names that other archives give it; the published one last."""
    other = name.replace("-idx", ".idx")
    return [name, other, f"{other}.gz", f"{name}.gz"]


def _part(parts: dict, part: str):
    return parts[checked_choice("part", part, list(parts))]


def _file(names: Sequence[str], folder: str | Path | None, mirrors: Sequence[str]) -> Path:
    """The first of `names` that `folder` has; without a folder the last of them, fetched."""
    if folder is None:
        return _fetched(names[-1], mirrors)
    _checked_path("folder", folder)
    for name in names:
        if os.path.isfile(Path(folder, name)):
            return Path(folder, name)
    raise ValueError(f"folder {folder} is missing, or has neither {' nor '.join(names)}")


def _fetched(name: str, mirrors: Sequence[str]) -> Path:
    """The file in the user's cache, where need be from the first mirror that has it. Raises ValueError."""
    try:
        import pooch
    except ImportError as error:
        raise ValueError(f"to fetch {name} needs pooch, the extra refngd[data]; or give its folder: {error}") from error
    failures = []
    for mirror in mirrors:
        try:
            cache = pooch.os_cache("refngd")
            return Path(pooch.retrieve(mirror + name, f"sha256:{SHA256[name]}", fname=name, path=cache))
        except (OSError, ValueError) as error:  # no connection, no such file; a wrong checksum
            failures.append(f"{mirror}: {' '.join(str(error).split())}")
    raise ValueError(f"cannot fetch {name}; get it elsewhere and give its folder. " + "; ".join(failures))


def _opened(path: str | Path) -> IO[bytes]:
    """The file, open to read. Raises OSError for what is none: a pipe may never say a word, a device never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("it is not a file")
    return open(path, "rb")


def _content(path: str | Path, size: int) -> bytes:
    """The `size` bytes of a file, unpacked if it is a .gz. Raises ValueError for fewer, or more, which stay unread."""
    try:
        with _opened(path) as packed, gzip.open(packed) if Path(path).suffix == ".gz" else packed as file:
            content = file.read(size + 1)  # to the end, so that gzip compares its checksum
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return _require_size(content, size, path)


def _members(path: Path, names: Sequence[str], size: int) -> list[bytes]:
    """The files `names`, of `size` bytes each, of the published archive. Raises ValueError for any other archive."""
    try:
        with _opened(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if found != SHA256[path.name]:  # so nothing else is ever unpacked
        raise ValueError(f"{path} is corrupt or another file: its SHA-256 sum is {found}; expected {SHA256[path.name]}")
    with tarfile.open(path, "r|gz") as archive:  # one pass: the files lie in no order
        contents = {
            name: _require_size(archive.extractfile(member).read(size + 1), size, f"{name} in {path}")
            for member in archive
            if (name := Path(member.name).name) in names
        }
    return [contents[name] for name in names]


def _require_size(content: bytes, size: int, file: str | Path) -> bytes:
    if len(content) != size:
        holds = f"{len(content)}" if len(content) < size else f"more than {size}"
        raise ValueError(f"{file} holds {holds} bytes; expected {size}: it is truncated, corrupt or another file")
    return content


def _require_labels(labels: np.ndarray, file: str) -> None:
    if labels.max() > 9:
        raise ValueError(f"{file} has the label {labels.max()}; expected 0..9")
