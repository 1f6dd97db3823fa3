"""The NumPy/CuPy switch: the same code on a stand-in that offers only what CuPy offers, and a scan of every name."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stand_in
from support import FISHERS, generator, host

import refngd as rn
from refngd import arrays, datasets, deep_linear, experiments, linear_training, preprocess
from refngd.experiments import compare

PACKAGE = Path(rn.__file__).parent


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(stand_in.settings, "fortran", False)  # so that BLAS rounds the same
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return sys.modules["cupy"]


def results(to, dtype, sigma_b, name):
    """Everything public that computes, as a list of arrays, for data moved by `to`."""
    rng = generator()
    net = rn.Network((6, 9, 9, 2), rn.relu, 2**0.5, sigma_b)
    W = to(net.init(rng, dtype))
    x, x_test, y = (to(rng.standard_normal(shape).astype(dtype)) for shape in ((4, 6), (3, 6), (4, 2)))
    x = preprocess.unit_norm(preprocess.standardise(x))
    s, test, fisher = net.signals(W, x), net.signals(W, x_test), FISHERS[name]
    out = [net.forward(W, x), *s.h, *s.delta, rn.jacobian(s), rn.push(s, W), *rn.pull(s, y), rn.ntk(test, s)]
    out += [*rn.unflatten(net, rn.flatten(W)), rn.fisher_information(s), rn.linearized(s, W, W)]
    Theta_bar = fisher.coefficient(s, s, 20.0)
    out += [fisher.matrix(s, 20.0), *fisher.direction(s, y, 20.0), fisher.coefficient(test, s, 20.0), Theta_bar]
    out += [*fisher.direction(s, y), *(step.f for step in rn.train(net, W, x, y, fisher, 1e-3, 2, rho=20.0))]
    out += [
        rn.inverse_power(Theta_bar, 0.1),
        rn.Dynamics(Theta_bar, s.f, y, 0.1).predict(fisher.coefficient(test, s), test.f, 3),
        rn.gaussian_outputs(Theta_bar @ Theta_bar.T, 2, 0),
    ]
    out += [step.W[0] for step in rn.train(net, W, x, y, fisher, 1e-3, 2, rho=20.0)]
    out += [*fisher.direction(s.above(1), y), *list(rn.train(net, W, x, y, fisher, 1e-3, 2, rho=20.0, frozen=1))[-1].W]
    out += [step.f for step in rn.train(net, W, x, y, fisher, 1e-3, 3, rho=20.0, batch=3)]
    labels = to(np.eye(2, dtype=dtype)[[0, 1, 1, 0]])
    whitened, e = rn.CrossEntropy(0.1).whiten(s, labels)
    out += [e, *whitened.delta, rn.cross_entropy.velocity(s.f, labels), *fisher.direction(whitened, e, 20.0)]
    out += next(rn.linearized_training([s, test], labels, fisher, 1e-3, 20.0, loss=rn.cross_entropy))
    for activation in (rn.relu, rn.tanh, rn.erf, rn.linear, rn.shifted_relu(0.5)):
        wide = rn.Network((6, 9, 9, 2), activation, 2**0.5, sigma_b)
        k, own = rn.analytic_kernels(wide, x_test, x), rn.analytic_kernels(wide, x, x)
        out += [*k.A, *k.B, rn.analytic_ntk(wide, x, x), rn.Identity().kernel_coefficient(k, own)]
    both = rn.arrays.array_module(x).concatenate([x_test, x])
    K, wide_dynamics = rn.analytic_kernels(wide, both, both).A[-1], rn.Dynamics(own.A[-1], s.f, y, 0.1)
    out += [wide_dynamics.covariance(k.A[-1], K, 3)]
    report = rn.isotropy(Theta_bar)
    numbers = [report.alpha, report.deviation, report.condition, *report.eigenvalues.tolist()]
    numbers += [rn.optimal_rate(Theta_bar), rn.mse.value(s.f, y), datasets.accuracy(s.f, y)]
    numbers += [rn.cross_entropy.value(s.f, labels)]
    run = compare(net, W, datasets.Data(x, y, x_test, y[:3]), fisher, 2, rho=20.0)
    numbers += [run.eta, *run.loss, *run.theory_loss, *run.accuracy, *run.theory_accuracy]
    assert all(type(number) is float for number in numbers)
    return out, numbers


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize(("dtype", "sigma_b"), [(np.float64, 0.5), (np.float32, 0.0)])
def test_every_public_function_runs_on_the_device_and_never_leaves_it(device, name, dtype, sigma_b):
    expected, expected_numbers = results(lambda x: x, dtype, sigma_b, name)
    actual, numbers = results(lambda x: rn.to_device(x, "gpu"), dtype, sigma_b, name)
    assert {type(a) for a in actual} == {device.ndarray}
    assert {a.dtype for a in actual} == {np.dtype(dtype)}
    for a, b in zip(host(actual), expected, strict=True):
        assert (a == b).all()  # the stand-in calls the same NumPy functions: any difference is a different path
    assert numbers == expected_numbers


@pytest.mark.parametrize("activation", [rn.relu, rn.tanh, rn.erf, rn.linear, rn.shifted_relu(0.5)], ids=str)
def test_every_activation_runs_on_the_device(device, activation):
    u = generator().standard_normal((3, 4))
    for f in (activation.phi, activation.derivative):
        assert (host(f(rn.to_device(u, "gpu"))) == f(u)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_forster_transform_runs_on_the_device_and_never_leaves_it(device, dtype):
    x = generator().standard_normal((9, 4)).astype(dtype)
    A = preprocess.forster(rn.to_device(x, "gpu"))
    assert (type(A), A.dtype) == (device.ndarray, np.dtype(dtype))
    assert (host(A) == preprocess.forster(x)).all()
    x[:7, :2] = 0
    for inputs, steps, message in ((x, 100, "about 7 of the 9"), (x, 1, "in 1 steps"), (0 * x + 1, 100, "has rank 1")):
        with pytest.raises(np.linalg.LinAlgError, match=message):
            preprocess.forster(rn.to_device(inputs, "gpu"), steps=steps)


def linear_results(to, dtype, white):
    """What `deep_linear` and `linear_training` compute, as a list of arrays, for data moved by `to`."""
    rng = generator()
    w = to([rng.standard_normal(shape).astype(dtype) for shape in ((4, 3), (4, 4), (2, 4))])
    m = to([rng.standard_normal((4, 4)).astype(dtype) for _ in range(2)])
    x, y, Lambda, w_star = (to(rng.standard_normal(shape).astype(dtype)) for shape in ((7, 3), (7, 2), (2, 3), (2, 3)))
    data = deep_linear.Statistics(w_star) if white else deep_linear.Statistics.of(x, y)
    same = deep_linear.Statistics.with_covariance(w_star, x.T @ x / len(x))
    out = [data.w_star, same.S, *data.pseudo_samples(), *deep_linear.conserved(w), *deep_linear.null_update(w, m)]
    out += [deep_linear.kernel(w, data.S), deep_linear.push(w, w, data.S), *deep_linear.pull(w, Lambda, data.S)]
    out += [
        *deep_linear.hessian_product(w, w, data),
        *deep_linear.multiplier([w[1], w[2]], deep_linear.Statistics(w[2])),
    ]
    for q, rho, block in [(1, 0, False), (2, 0.1, False), (np.inf, 0, False), (1, 0.1, True), (3, 0, True)]:
        rule = deep_linear.Rule(q, block, np.float64(rho), np.float64(0.5), regularised=True)
        *_, last = linear_training.descend(w, data, rule, np.float64(0.1), 2)
        out += [*rule.update(w, data), *last.w]
    run = experiments.trajectory(w, data, w_star, deep_linear.Rule(2), 0.1, 5)
    numbers = [deep_linear.loss(w, data), deep_linear.norm(w), *run.loss, *run.excess, *run.modes[-1]]
    if dtype == np.float64:
        *_, state = linear_training.flow(w, data, deep_linear.Rule(2), [0.1, 0.2])
        out, numbers = [*out, *state.w], [*numbers, state.t, state.loss]
    assert all(type(number) is float for number in numbers)
    return out, numbers


@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_deep_linear_networks_run_on_the_device_and_never_leave_it(device, dtype, white):
    expected, expected_numbers = linear_results(lambda x: x, dtype, white)
    actual, numbers = linear_results(lambda x: rn.to_device(x, "gpu"), dtype, white)
    assert {type(a) for a in actual} == {device.ndarray}
    assert {a.dtype for a in actual} == {np.dtype(dtype)}
    for a, b in zip(host(actual), expected, strict=True):
        assert (a == b).all()
    assert numbers == expected_numbers


def test_mixing_host_and_device_is_an_error_that_names_the_argument(device):
    net = rn.Network((3, 4, 1))
    W, x = net.init(0), generator().standard_normal((2, 3))
    with pytest.raises(ValueError, match=r"W\[0\] is numpy float64 \(4, 3\); expected an array of cupy float64"):
        net.signals(W, rn.to_device(x, "gpu"))
    s = net.signals(*rn.to_device([W, x], "gpu"))
    with pytest.raises(ValueError, match=r"e is numpy float64 .*; expected an array of cupy float64"):
        rn.Exact().direction(s, np.ones((2, 1)))


def test_dense_matrices_are_measured_against_the_memory_of_the_device(device):
    net = rn.Network((100, 300, 1))
    W, x = rn.to_device([net.init(0), generator().standard_normal((2, 100))], "gpu")
    with pytest.raises(MemoryError, match=r"G \(30300 x 30300\) .* this device has 8.0 GiB: call direction"):
        rn.Exact().matrix(net.signals(W, x))


def test_a_singular_matrix_has_no_inverse_on_the_device(device):
    """CuPy says nothing and divides by zero: what comes of it has no condition number, and another route is taken."""
    x = np.eye(3)[[0, 0, 1]]
    steps = []
    for to in ("cpu", "gpu"):
        s = rn.Network((3, 1), rn.linear).signals(*rn.to_device([[np.ones((1, 3))], x], to))
        for fisher in (rn.Exact(), rn.BlockDiagonal(refine=False), rn.KFAC(), rn.Unitwise()):
            steps.append(host(fisher.direction(s, rn.to_device(np.ones((3, 1)), to))[0]))
    np.testing.assert_allclose(steps[:4], steps[4:], rtol=1e-12, atol=1e-12)
    assert stand_in.modules()["cupy"].linalg.inv(rn.to_device(np.ones((2, 2)), "gpu"))._host.max() == np.inf


@pytest.mark.parametrize("name", ["Exact", "BlockDiagonal", "KFAC"])
@pytest.mark.parametrize("C", [1, 3])
def test_a_damped_step_waits_for_the_device_at_most_two_times_more_than_signals_do(device, name, C):
    net = rn.Network((6, 40, 40, C), rn.tanh)
    W, x, e = rn.to_device([net.init(0), generator().standard_normal((5, 6)), generator(1).random((5, C))], "gpu")
    _, most = stand_in.count(lambda: net.signals(W, x))
    s = net.signals(W, x)
    launches, syncs = stand_in.count(lambda: FISHERS[name].direction(s, e, 0.1))
    assert syncs <= most + 2
    assert launches < 300


def test_gpu_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ValueError, match=r"device 'gpu' needs CuPy, the extra refngd\[gpu\]"):
        rn.to_device(np.ones(2), "gpu")


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_missing_libraries_of_cuda_are_named(device, monkeypatch, error):
    def eigh(K):
        raise error("libcusolver.so.12: cannot open shared object file")

    monkeypatch.setattr(device.linalg, "eigh", eigh)
    with pytest.raises(
        ValueError, match=r"CUDA's libraries, in the extra refngd\[gpu\]: libcusolver.so.12: cannot open"
    ):
        rn.to_device(np.ones(2), "gpu")


def test_products_of_ten_bits_are_refused(device, monkeypatch):
    def product(a, b):
        return device.asarray(a._host.astype(np.float16).astype(np.float32) @ b._host)

    monkeypatch.setattr(stand_in.ndarray, "__matmul__", product)
    with pytest.raises(ValueError, match="TF32, of 10 bits: unset CUPY_TF32 and NVIDIA_TF32_OVERRIDE"):
        rn.to_device(np.ones(2), "gpu")


def test_records_name_cupy_and_the_gpu(device):
    assert arrays.device_versions("gpu") == {"cupy": "stand-in", "gpu": "none"}
    assert arrays.device_versions("cpu") == {}


def test_the_stand_in_does_what_cupy_does_unlike_numpy(device):
    a = rn.to_device(np.arange(3.0), "gpu")
    assert host(a[device.asarray([1, 4, -5])]).tolist() == [1, 1, 1]
    wide = device.broadcast_to(a, (2, 3))
    wide[0, 0] = 7
    assert host(a).tolist() == [7, 1, 2]
    with arrays.raising(device):
        _, V = device.linalg.eigh(rn.to_device(np.eye(3), "gpu"))
    assert V._host.flags.c_contiguous  # for a bit by bit comparison, in this file only
    launches, syncs = stand_in.count(lambda: float((a.reshape(3, 1) + 1)[a > 1].sum()))
    assert (launches, syncs) == (4, 2)  # +, >, the rows under the mask, their sum; the mask, the number


def test_jitter_rounds_another_way_and_no_further(device, monkeypatch):
    A, b = rn.to_device([generator().standard_normal((7, 7)), np.eye(7)[:2]], "gpu")
    plain = [host(X) for X in (A @ A, A.sum(0), device.exp(A), device.linalg.inv(A), abs(A) ** -0.3)]
    monkeypatch.setattr(stand_in.settings, "jitter", True)
    jittered = [host(X) for X in (A @ A, A.sum(0), device.exp(A), device.linalg.inv(A), abs(A) ** -0.3)]
    for x, y in zip(plain, jittered, strict=True):
        assert (x != y).any()
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14)
    assert (host(b @ b.T) == np.eye(2)).all()


def library_names(path):
    """Dotted names used on `xp`, `self.xp` or a call of array_module, such as linalg.eigh."""
    tree = ast.parse(path.read_text())
    inner = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        parts, root = [], node
        while isinstance(root, ast.Attribute):
            parts.insert(0, root.attr)
            root = root.value
        if getattr(root, "id", "") == "self" and parts[:1] == ["xp"]:
            root, parts = ast.Name("xp"), parts[1:]
        switch = isinstance(root, ast.Call) and getattr(root.func, "id", "") == "array_module"
        if parts and node not in inner and (switch or getattr(root, "id", "") == "xp"):
            yield ".".join(parts)


def test_the_stand_in_offers_what_is_used_on_the_switch_and_no_more():
    """Each name was looked up in CuPy 14.2.0 when it was added to the stand-in."""
    offered = {*stand_in.FUNCTIONS, *(f"linalg.{name}" for name in stand_in.LINALG)}
    offered |= {"__name__", "ndarray", "linalg.LinAlgError", "cuda.runtime.memGetInfo", "asarray", "asnumpy"}
    bench_on_a_gpu = {"cuda.Device", "get_default_memory_pool"}
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "bench").rglob("*.py")]
    assert {name for path in files for name in library_names(path)} == offered | bench_on_a_gpu


def test_only_arrays_knows_that_there_are_two_libraries():
    for path in PACKAGE.rglob("*.py"):
        imported = {
            name.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
        }
        assert path == PACKAGE / "arrays.py" or not imported & {"cupy", "cupyx"}, path


def test_the_stand_in_refuses_what_cupy_would_do_in_silence(device):
    a = device.asarray(np.ones(2))
    for forbidden in (
        lambda: np.exp(a),
        lambda: np.asarray(a),
        lambda: a + np.ones(2),
        lambda: np.ones(2) + a,
        lambda: a * np.float64(2),
        lambda: device.where(a > 0, np.ones(2), 0),
        lambda: np.concatenate([a, a]),
        lambda: device.linalg.eigh(device.asarray(np.eye(2))),
    ):
        with pytest.raises(TypeError):
            forbidden()
    assert host(a + 1.0).tolist() == [2, 2]
    assert arrays.array_module(a) is device


def test_the_stand_in_runs_the_definitions_too():
    """All of the suite runs on it with `pytest --device stand-in`; here one section does, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--device",
        "stand-in",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).parent / "test_section_4_kfac.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stdout
