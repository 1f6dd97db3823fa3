"""The data that ship with the package, and the targets made of them."""

import hashlib
import os
import zipfile

import numpy as np
import pytest

import refngd as rn
from bench import sample
from refngd import datasets


def test_digits_are_the_published_ones():
    x, labels = datasets.digits()
    assert x.shape == (1797, 64)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (x == x.round()).all()
    assert (x.min(), x.max()) == (0, 16)
    x, labels = datasets.digits((0, 7))
    assert np.bincount(labels).tolist() == [178, 179]
    assert np.linalg.matrix_rank(x) == 51  # THEORY 10


def test_shipped_files_have_the_published_sums():
    page = datasets.shipped("README.md").read_text(encoding="utf-8")
    for name, sum in datasets.SHIPPED_SHA256.items():
        assert hashlib.sha256(datasets.shipped(name).read_bytes()).hexdigest() == sum
        assert sum in page


def test_the_sample_of_mnist_is_what_its_page_says():
    """The sum of its content is that which `python -m bench.sample` prints after drawing it from the whole files."""
    with np.load(datasets.shipped("mnist-sample.npz")) as file:
        arrays = dict(file)
    assert sample.content_sha256(arrays) in datasets.shipped("README.md").read_text(encoding="utf-8")
    assert datasets.shipped("mnist-sample.npz").stat().st_size < 400_000
    first = []
    for part in ("train", "test"):
        x, labels = datasets.mnist_sample(part)
        assert (x.dtype, x.shape, x.min(), x.max()) == (float, (1000, 784), 0, 255)
        assert np.bincount(labels).tolist() == [100] * 10
        first.append(labels[:10].tolist())
    assert first == [[5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]]  # MNIST's own first labels
    x, labels = datasets.mnist_sample("test", (7, 0))
    assert (np.bincount(labels).tolist(), labels[0]) == ([100, 100], 0)
    assert len(np.unique(np.concatenate([arrays["x_train"], arrays["x_test"]]), axis=0)) == 2000


def test_classes_are_numbered_in_the_order_given():
    x, labels = datasets.digits((7, 0))
    swapped, swapped_labels = datasets.digits((0, 7))
    assert (x == swapped).all()
    assert (labels == 1 - swapped_labels).all()


def test_split_has_unit_inputs_and_the_stated_targets():
    data = datasets.split(*datasets.digits((0, 7)), 32, 0)
    assert (data.x.shape, data.y.shape, data.x_test.shape) == ((32, 64), (32, 1), (325, 64))
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1, rtol=1e-14)
    assert datasets.targets(np.array([0, 1])).tolist() == [[-0.5], [0.5]]
    assert datasets.targets(np.array([2, 0, 1])).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert set(data.y.ravel()) == {-0.5, 0.5}
    ten = datasets.split(*datasets.digits(), 50, 0, np.float32)
    assert ten.y.shape == (50, 10)
    assert set(ten.y.sum(1)) == {1.0}
    assert ten.x.dtype == ten.y_test.dtype == np.float32


def test_split_is_a_partition_fixed_by_the_seed():
    x, labels = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    a, b, c = (datasets.split(x, labels, 8, seed) for seed in (1, 1, 2))
    assert (a.x == b.x).all()
    assert not (a.x == c.x).all()
    together = np.concatenate([a.x, a.x_test])
    assert len(np.unique(together, axis=0)) == 20


def test_gaussian_labels_come_from_a_linear_teacher():
    x, labels = datasets.gaussian(3000, 5, 3, 0)
    assert x.shape == (3000, 5)
    assert np.bincount(labels).min() > 300
    prediction = np.linalg.lstsq(x, np.eye(3)[labels], rcond=None)[0]
    assert (np.argmax(x @ prediction, 1) == labels).mean() > 0.85


def test_npz_round_trip(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.arange(6, dtype=np.uint8).reshape(3, 2), labels=[3, 5, 3])
    x, labels = datasets.load_npz(tmp_path / "own.npz")
    assert x.dtype == float
    assert datasets.select(x, labels, [5, 3])[1].tolist() == [1, 0, 1]


def npy(shape, content=bytes(80), descr="<f8"):
    """The member of an .npz file with this header, right or wrong."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (b"no header", npy("(2,)", bytes(16), "<i8"), "x or labels is not an array"),
        (npy("(2, 5)"), b"no header", "x or labels is not an array"),
        (npy("(True, 5)"), npy("(2,)", bytes(16), "<i8"), "an integer is required|True"),
        (npy(f"({10**30}, 5)"), npy("(2,)", bytes(16), "<i8"), "too large"),
        (npy(f"({10**13}, 5)"), npy("(2,)", bytes(16), "<i8"), "Unable to allocate"),
        (npy("(" * 3000), npy("(2,)", bytes(16), "<i8"), ""),
        (npy("(2, 5)", bytes(8)), npy("(2,)", bytes(16), "<i8"), "EOF: reading array data"),
        (npy("(2, 5)", bytes(4001)), npy("(2,)", bytes(16), "<i8"), r"it unpacks to \d+ bytes; expected at most 4000"),
    ],
)
def test_npz_members_that_are_not(tmp_path, monkeypatch, x, labels, message):
    if "unpacks" in message:
        monkeypatch.setattr(datasets, "NPZ_LIMIT", 4000)
    with zipfile.ZipFile(tmp_path / "own.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("labels.npy", labels)
    with pytest.raises(ValueError, match=f"cannot read {tmp_path / 'own.npz'}: .*{message}"):
        datasets.load_npz(tmp_path / "own.npz")


def test_npz_that_only_fits_the_memory_as_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "NPZ_LIMIT", 8000)
    np.savez(tmp_path / "own.npz", x=np.zeros((2, 1000), np.uint8), labels=[0, 1])
    with pytest.raises(ValueError, match=r"holds x \(2, 1000\), 16000 bytes as float64; expected at most 8000"):
        datasets.load_npz(tmp_path / "own.npz")


def test_npz_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"own\.npz: it is not a file"):
        datasets.load_npz(tmp_path / "own.npz")


def test_accuracy_compares_signs_or_largest_outputs():
    assert datasets.accuracy(np.array([[0.1], [-3], [2]]), np.array([[0.5], [-0.5], [-0.5]])) == pytest.approx(2 / 3)
    assert datasets.accuracy(np.array([[0.1, 0.3, 0.2], [1, 0, 0]]), np.eye(3)[[1, 2]]) == 0.5


def test_order_parameters_are_the_variances_of_wide_networks():
    for activation in (rn.relu, rn.tanh, rn.erf, rn.shifted_relu(1.0)):
        net = rn.Network((20, 4000, 4000, 1), activation, 1.5, 0.3)
        x = np.random.default_rng(1).standard_normal((1, 20))
        W, u = net.init(0), x / np.linalg.norm(x)
        for l, q in enumerate(rn.order_parameters(net)[:2]):
            u = net._layer(l, u, W[l])[1]
            assert q == pytest.approx((u**2).mean(), rel=0.1)
