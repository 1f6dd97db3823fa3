"""How data/mnist-sample.npz was drawn from the files of MNIST: the first 100 images of each digit in either part.

    python -m bench.sample FOLDER

reads the four files in FOLDER as `refngd.datasets.mnist` does, writes data/mnist-sample.npz anew and prints the SHA-256
sums of what it holds and of the file. The first does not depend on the version of zlib that packs the file.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from refngd import datasets

EACH = 100  # images of a digit in either part


def drawn(folder: Path) -> dict[str, np.ndarray]:
    """x_train, labels_train, x_test, labels_test as bytes, in the order of MNIST."""
    arrays = {}
    for part in datasets.MNIST:
        x, labels = datasets.mnist(part, folder)
        first = np.sort(np.concatenate([np.flatnonzero(labels == c)[:EACH] for c in range(10)]))
        arrays |= {f"x_{part}": x[first].astype(np.uint8), f"labels_{part}": labels[first].astype(np.uint8)}
    return arrays


def content_sha256(arrays: dict[str, np.ndarray]) -> str:
    """Of the bytes of the arrays one after the other, in the order of their names."""
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.sample", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with the four files of MNIST")
    arrays, path = drawn(parser.parse_args(argv).folder), datasets.shipped("mnist-sample.npz")
    np.savez_compressed(path, **arrays)
    print(f"content: {content_sha256(arrays)}\n{path.name}: {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
