"""MNIST and CIFAR-10: files that the tests write, a loopback server, and files that are something else."""

import gzip
import hashlib
import io
import json
import os
import socket
import struct
import sys
import tarfile
import threading
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from refngd import datasets
from refngd.cli import main
from refngd.preprocess import standardise

IMAGES, LABELS, ARCHIVE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "cifar-10-binary.tar.gz"


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def samples(n, M_0, seed):
    """n random images, which start with 0 and 255, and the labels 0, 1, .. 9, 0, .."""
    x = np.random.default_rng(seed).integers(0, 256, (n, M_0), np.uint8)
    x[0, :2] = 0, 255
    return x, (np.arange(n) % 10).astype(np.uint8)


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """The files of an MNIST of 40 + 30 images, by name; the folder is tmp_path."""
    files = {}
    for part, name, n in (("train", "train", 40), ("test", "t10k", 30)):
        monkeypatch.setitem(datasets.MNIST, part, (name, n))
        x, labels = samples(n, 784, n)
        files[f"{name}-images-idx3-ubyte"] = idx(x.reshape(n, 28, 28))
        files[f"{name}-labels-idx1-ubyte"] = idx(labels)
    return files


@pytest.fixture
def cifar10(monkeypatch):
    """The files of a CIFAR-10 of 20 images a batch, by name."""
    monkeypatch.setattr(datasets, "CIFAR10_BATCH", 20)
    names = [*datasets.CIFAR10["train"], *datasets.CIFAR10["test"]]
    return {n: np.column_stack(samples(20, 3072, i)[::-1]).tobytes() for i, n in enumerate(names)}


def write(folder, files, pack=False):
    for name, content in files.items():
        (folder / (name + ".gz" if pack else name)).write_bytes(gzip.compress(content) if pack else content)


def archive(files):
    """A .tar.gz, as the published one: a folder, other files, no order."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in [("batches.meta.txt", b"airplane\n"), *reversed(files.items())]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def publish(monkeypatch, files):
    for name, content in files.items():
        monkeypatch.setitem(datasets.SHA256, name, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("pack", [False, True])
def test_mnist_from_a_folder(mnist, tmp_path, pack):
    write(tmp_path, mnist, pack)
    for part, n in (("train", 40), ("test", 30)):
        x, labels = datasets.mnist(part, tmp_path)
        expected, expected_labels = samples(n, 784, n)
        assert x.dtype == float
        assert (x == expected).all()
        assert (labels == expected_labels).all()
    x, labels = datasets.mnist(folder=str(tmp_path), classes=(7, 0))
    assert (x == samples(40, 784, 40)[0][[0, 7, 10, 17, 20, 27, 30, 37]]).all()
    assert labels.tolist() == [1, 0] * 4


@pytest.mark.parametrize("pack", [False, True])
def test_mnist_as_other_archives_name_its_files(mnist, tmp_path, pack):
    write(tmp_path, {name.replace("-idx", ".idx"): content for name, content in mnist.items()}, pack)
    x, labels = datasets.mnist("test", tmp_path)
    assert (x == samples(30, 784, 30)[0]).all()
    assert labels.tolist() == list(range(10)) * 3


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_from_a_folder_of_batches_or_with_the_archive(cifar10, tmp_path, monkeypatch, packed):
    files = {ARCHIVE: archive(cifar10)} if packed else cifar10
    write(tmp_path, files)
    if packed:
        publish(monkeypatch, files)
    x, labels = datasets.cifar10("train", tmp_path)
    assert x.dtype == float
    assert (x == np.concatenate([samples(20, 3072, i)[0] for i in range(5)])).all()
    assert labels.tolist() == list(range(10)) * 10
    x, labels = datasets.cifar10("test", tmp_path, (3, 1))
    assert (x == samples(20, 3072, 5)[0][[1, 3, 11, 13]]).all()
    assert labels.tolist() == [1, 0, 1, 0]


def test_published_sizes_and_sums():
    assert {part: n for part, (_, n) in datasets.MNIST.items()} == {"train": 60_000, "test": 10_000}
    assert datasets.CIFAR10_BATCH * len(datasets.CIFAR10["train"]) == 50_000
    assert len(set(datasets.SHA256.values())) == 5
    assert all(len(bytes.fromhex(digest)) == 32 for digest in datasets.SHA256.values())
    assert {
        f"{name}-{kind}-ubyte.gz" for name, _ in datasets.MNIST.values() for kind in ("images-idx3", "labels-idx1")
    } | {ARCHIVE} == set(datasets.SHA256)
    assert len(datasets.MNIST_MIRRORS) == 2
    assert all(
        url.startswith("https://") and url.endswith("/") for url in datasets.MNIST_MIRRORS + datasets.CIFAR10_MIRRORS
    )


# Files that are not


def spoil(content, how):
    return {
        "truncated": content[:-1],
        "longer": content + b"\0",
        "empty": b"",
        "in the header": content[:5],
        "signed": content[:2] + b"\x09" + content[3:],
        "another count": content[:7] + b"\x07" + content[8:],
    }[how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "holds 31375 bytes; expected 31376: it is truncated, corrupt or another file"),
        ("longer", "holds more than 31376 bytes; expected 31376"),
        ("empty", "holds 0 bytes; expected 31376"),
        ("in the header", "holds 5 bytes; expected 31376"),
        (
            "signed",
            r"starts with \[2307, 40, 28, 28\]; expected \[2051, 40, 28, 28\]: IDX magic number, then the shape",
        ),
        ("another count", r"starts with \[2051, 7, 28, 28\]; expected \[2051, 40, 28, 28\]"),
    ],
)
@pytest.mark.parametrize("pack", [False, True])
def test_idx_files_that_are_not(mnist, tmp_path, how, message, pack):
    write(tmp_path, mnist | {IMAGES: spoil(mnist[IMAGES], how)}, pack)
    with pytest.raises(ValueError, match=f"{IMAGES}{'.gz' if pack else ''} {message}"):
        datasets.mnist("train", tmp_path)


def test_images_for_labels_and_labels_that_are_no_digits(mnist, tmp_path):
    write(tmp_path, mnist | {LABELS: mnist[IMAGES]})
    with pytest.raises(ValueError, match=f"{LABELS} holds more than 48 bytes; expected 48"):
        datasets.mnist("train", tmp_path)
    write(tmp_path, mnist | {LABELS: mnist[LABELS][:-1] + b"\x0a"})
    with pytest.raises(ValueError, match=f"{LABELS} has the label 10; expected 0..9"):
        datasets.mnist("train", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[:-20], "Compressed file ended before the end-of-stream marker"),
        (lambda packed: packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:], "CRC check failed"),
        (lambda packed: packed[:10] + b"\xff" * 9 + packed[19:], "Error -3 while decompressing data"),
        (lambda packed: packed + b"more", "Not a gzipped file"),
        (lambda packed: b"<html>404</html>", "Not a gzipped file"),
    ],
    ids=["truncated", "checksum", "stream", "longer", "page"],
)
def test_damaged_gzip(mnist, tmp_path, damage, message):
    write(tmp_path, mnist, pack=True)
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"cannot read .*{IMAGES}\.gz: .*{message}"):
        datasets.mnist("train", tmp_path)


def test_a_gzip_bomb_is_refused_without_unpacking_it(mnist, tmp_path):
    write(tmp_path, mnist | {IMAGES: mnist[IMAGES] + bytes(2**26)}, pack=True)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{IMAGES}\.gz holds more than 31376 bytes"):
            datasets.mnist("train", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_missing_files_and_parts(mnist, cifar10, tmp_path):
    looked_for = rf"folder {tmp_path} is missing, or has neither {IMAGES} nor .* nor {IMAGES}\.gz"
    with pytest.raises(ValueError, match=looked_for):
        datasets.mnist("train", tmp_path)
    with pytest.raises(ValueError, match=rf"neither data_batch_1\.bin nor {ARCHIVE}"):
        datasets.cifar10("train", tmp_path / "absent")
    write(tmp_path, {name: content for name, content in cifar10.items() if "3" not in name})
    with pytest.raises(ValueError, match=r"cannot read .*data_batch_3\.bin: .*No such file"):
        datasets.cifar10("train", tmp_path)
    for load in (datasets.mnist, datasets.cifar10):
        with pytest.raises(ValueError, match="part is 'valid'; expected 'train' or 'test'"):
            load("valid", tmp_path)
        with pytest.raises(ValueError, match="part is 0; expected 'train' or 'test'"):
            load(0, tmp_path)


def test_classes_that_are_not(mnist, tmp_path):
    write(tmp_path, mnist)
    with pytest.raises(ValueError, match=r"classes is \[0, 11\]; expected two or more different ones out of \[0, 1, 2"):
        datasets.mnist("train", tmp_path, (0, 11))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda batch: batch[:-1], "holds 61459 bytes; expected 61460"),
        (lambda batch: batch + b"\0", "holds more than 61460 bytes; expected 61460"),
        (lambda batch: b"\x0b" + batch[1:], "has the label 11; expected 0..9"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_files_that_are_not(cifar10, tmp_path, monkeypatch, damage, message, packed):
    cifar10["data_batch_4.bin"] = damage(cifar10["data_batch_4.bin"])
    files = {ARCHIVE: archive(cifar10)} if packed else cifar10
    write(tmp_path, files)
    if packed:
        publish(monkeypatch, files)
    with pytest.raises(ValueError, match=rf"data_batch_4\.bin.* {message}"):
        datasets.cifar10("train", tmp_path)


def test_an_archive_that_is_not_the_published_one_is_not_opened(cifar10, tmp_path, monkeypatch):
    write(tmp_path, {ARCHIVE: archive(cifar10)})
    monkeypatch.setattr(tarfile, "open", None)
    with pytest.raises(
        ValueError, match=rf"{ARCHIVE} is corrupt or another file: its SHA-256 sum is \w+; expected c4a38c"
    ):
        datasets.cifar10("train", tmp_path)


@pytest.mark.parametrize("load", [datasets.mnist, datasets.cifar10])
def test_files_that_cannot_be_read(mnist, tmp_path, monkeypatch, load):
    write(tmp_path, {IMAGES: b"", ARCHIVE: b""})

    def refuse(*args):
        raise PermissionError("Permission denied")  # to take the permission away does not stop every user

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ValueError, match=f"cannot read .*({IMAGES}|{ARCHIVE}): Permission denied"):
        load("train", tmp_path)


# Fetching


class Server(ThreadingHTTPServer):
    """Serves the folders of a folder on 127.0.0.1; `asked` lists what came."""

    def __init__(self, folder):
        self.asked = []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of tmp_path/server, and an empty cache in tmp_path/cache."""
    pooch = pytest.importorskip("pooch", reason="needs pooch, the extra refngd[data]")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    (tmp_path / "server" / "a").mkdir(parents=True)
    (tmp_path / "server" / "b").mkdir()
    with Server(tmp_path / "server") as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        mirrors = f"{server.url}/a/", f"{server.url}/b/"
        monkeypatch.setattr(datasets, "MNIST_MIRRORS", mirrors)
        monkeypatch.setattr(datasets, "CIFAR10_MIRRORS", mirrors[1:])
        yield server
        server.shutdown()
        thread.join()


def test_fetched_from_the_next_mirror_where_one_fails_and_once(mnist, server, tmp_path, monkeypatch):
    packed = {f"{name}.gz": gzip.compress(content) for name, content in mnist.items()}
    publish(monkeypatch, packed)
    write(tmp_path / "server" / "a", {f"{IMAGES}.gz": b"damaged"})  # and no labels
    write(tmp_path / "server" / "b", packed)
    x, labels = datasets.mnist()
    assert (x == samples(40, 784, 40)[0]).all()
    assert labels.tolist() == list(range(10)) * 4
    assert set(server.asked) == {f"/{mirror}/{name}.gz" for mirror in "ab" for name in (IMAGES, LABELS)}
    server.asked.clear()
    datasets.mnist()
    assert not server.asked
    cached = tmp_path / "cache" / "refngd" / f"{LABELS}.gz"
    cached.write_bytes(b"damaged")
    datasets.mnist()
    assert cached.read_bytes() == packed[f"{LABELS}.gz"]


def test_cifar10_is_fetched(cifar10, server, tmp_path, monkeypatch):
    files = {ARCHIVE: archive(cifar10)}
    publish(monkeypatch, files)
    write(tmp_path / "server" / "b", files)
    assert datasets.cifar10("test")[0].shape == (20, 3072)


def test_a_fetch_that_fails_on_all_mirrors_says_where_and_why(mnist, server, tmp_path, monkeypatch):
    write(tmp_path / "server" / "a", {f"{IMAGES}.gz": b"damaged"})
    with pytest.raises(
        ValueError, match=rf"cannot fetch {IMAGES}\.gz; get it elsewhere and give its folder\."
    ) as caught:
        datasets.mnist()
    message = str(caught.value)
    assert "\n" not in message
    assert f"{server.url}/a/: SHA256 hash of downloaded file" in message
    assert datasets.SHA256[f"{IMAGES}.gz"] in message
    assert f"{server.url}/b/: 404 Client Error" in message
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_fetch_without_a_connection(server, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (f"{url}/a/", f"{url}/b/"))
    with pytest.raises(ValueError, match=rf"cannot fetch {IMAGES}\.gz; .* {url}/a/: .*refused.*; {url}/b/: .*refused"):
        datasets.mnist()


def test_without_pooch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    for load, name in ((datasets.mnist, IMAGES), (datasets.cifar10, ARCHIVE)):
        with pytest.raises(
            ValueError, match=f"to fetch {name}.* needs pooch, the extra refngd.data.; or give its folder"
        ):
            load()


@pytest.mark.parametrize("name", [IMAGES, f"{IMAGES}.gz"])
def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"cannot read .*{name}: it is not a file"):
        datasets.read_idx(tmp_path / name, (40, 28, 28))
    with pytest.raises(ValueError, match="is missing, or has neither"):
        datasets.mnist("train", tmp_path)


# Preprocessing and the command


def test_standardise_takes_one_mean_and_one_deviation_from_the_training_data(rng):
    x, test = 3 + 2 * rng.standard_normal((5, 4)), rng.standard_normal((3, 4))
    x[:, 2] = 7.0  # a pixel that never changes
    z = standardise(x)
    assert z.mean() == pytest.approx(0, abs=1e-15)
    assert z.std() == pytest.approx(1)
    np.testing.assert_allclose(
        standardise(test, x), (test - x.sum() / 20) / np.sqrt(((x - x.sum() / 20) ** 2).sum() / 20)
    )
    assert standardise(x.astype(np.float32)).dtype == np.float32
    for bad in (np.full((2, 4), 0.1), np.array([[-1e200, 1e200, 0, 0]])):
        with pytest.raises(ValueError, match=r"train is constant or too large, from .* to .*: it has no scale"):
            standardise(x, bad)
    with pytest.raises(ValueError, match="train has non-finite entries; expected finite numbers"):
        standardise(x, np.array([[0, np.nan, 0, 0]]))


def test_draw_trains_on_one_part_tests_on_the_other_and_looks_only_at_the_training_samples(rng):
    train = 255 * rng.random((30, 6)), np.arange(30) % 3
    test = 255 * rng.random((12, 6)), np.arange(12) % 3
    data = datasets.draw(train, test, 4, 1000, 0, np.float32)
    assert {a.dtype for a in (data.x, data.y, data.x_test, data.y_test)} == {np.dtype(np.float32)}
    assert (data.x.shape, data.y.shape, data.x_test.shape, data.y_test.shape) == ((4, 6), (4, 3), (12, 6), (12, 3))
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([data.x, data.x_test]), axis=1), 1, rtol=1e-6)
    for drawn, (x, labels), y in ((data.x, train, data.y), (data.x_test, test, data.y_test)):
        chosen = np.random.default_rng(0).permutation(30)[:4]
        z = (x - train[0][chosen].mean()) / train[0][chosen].std()
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        nearest = np.argmin(np.linalg.norm(drawn[:, None] - z[None], axis=2), axis=1)
        np.testing.assert_allclose(drawn, z[nearest], atol=1e-6)
        assert len(set(nearest.tolist())) == len(drawn)
        assert (y.argmax(1) == labels[nearest]).all()
    assert len(datasets.draw(train, test, 30, 5, 0).x_test) == 5
    for N, expected in ((0, "an integer >= 1"), (31, "1 <= N <= 30, the number of training samples")):
        with pytest.raises(ValueError, match=f"N is {N}; expected {expected}"):
            datasets.draw(train, test, N, 5, 0)
    with pytest.raises(ValueError, match="N_test is 0; expected an integer >= 1"):
        datasets.draw(train, test, 3, 0, 0)


@pytest.mark.parametrize(("name", "classes", "count"), [("mnist", [0, 7], 6), ("cifar10", [0, 1], 4)])
def test_the_command_reads_them_from_a_folder(mnist, cifar10, tmp_path, capsys, name, classes, count):
    write(tmp_path, mnist | cifar10)
    arguments = ["run", "--data", name, "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    small = ["-N", "6", "--width", "64", "--steps", "1", "--fisher", "Exact", "BlockDiagonal"]
    main([*arguments, *small])
    M_0 = {"mnist": 784, "cifar10": 3072}[name]
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: N = 6 to train, {count} to test; widths ({M_0}, 64, 64, 1)")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["settings"]["classes"] == classes
    assert record["settings"]["data_dir"] == str(tmp_path)
    assert record["results"]["BlockDiagonal"]["alpha"] == pytest.approx(3)
    with pytest.raises(SystemExit):
        main([*arguments, "-N", "1000"])
    assert f"{name}: -N is 1000; expected 1 <= N <= " in capsys.readouterr().err
