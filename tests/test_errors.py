"""Bad input: one clear message that names the argument, what came and what is expected, before any work."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import FISHERS, generator, host, on, problem

import refngd as rn
from refngd import arrays, datasets, deep_linear, experiments, linear_training
from refngd.preprocess import forster, standardise, unit_norm


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (3,)}, r"widths is \(3,\); expected at least two positive integers"),
        ({"widths": (3, 0, 1)}, "widths is .*; expected at least two positive integers"),
        ({"widths": (3, 2.5, 1)}, "widths is .*; expected at least two positive integers"),
        ({"widths": 7}, "widths is 7; expected at least two positive integers"),
        ({"widths": (3, "x")}, "widths is .*; expected at least two positive integers"),
        ({"sigma_w": 0}, "sigma_w is 0; expected a finite number > 0"),
        ({"sigma_w": np.nan}, "sigma_w is nan; expected a finite number > 0"),
        ({"sigma_b": -1}, "sigma_b is -1; expected a finite number >= 0"),
        ({"parameterization": "mup"}, "parameterization is 'mup'; expected 'ntk' or 'standard'"),
        ({"activation": "relu"}, "activation is 'relu'; expected an Activation such as refngd.relu"),
    ],
)
def test_network(arguments, message):
    with pytest.raises(ValueError, match=message):
        rn.Network(**{"widths": (3, 2, 1)} | arguments)


def test_activation_and_dtype():
    with pytest.raises(ValueError, match="s is inf; expected a finite number"):
        rn.shifted_relu(np.inf)
    with pytest.raises(ValueError, match=r"dtype is .*; expected float32 or float64"):
        rn.Network((3, 1)).init(0, np.float16)
    with pytest.raises(ValueError, match=r"dtype is .*; expected float32 or float64"):
        rn.Network((3, 1)).semi_orthogonal(0, 1.0, np.float16)


@pytest.mark.parametrize(
    ("gain", "dtype"), [(0, float), (-1.0, float), (np.nan, float), (np.inf, float), (1e-32, np.float32)], ids=str
)
def test_gain(gain, dtype):
    with pytest.raises(ValueError, match=rf"gain is {gain}; expected a number in \[.*, .*\] for {np.dtype(dtype)}"):
        rn.Network((3, 1)).semi_orthogonal(0, gain, dtype)


@pytest.mark.parametrize("method", ["forward", "signals"])
def test_weights_and_inputs(method):
    p = problem((3, 4, 2), sigma_b=0.5)
    call = getattr(p.net, method)
    with pytest.raises(ValueError, match="W is a list of 1; expected a list of 2 arrays"):
        call(p.W[:1], p.x)
    with pytest.raises(ValueError, match=r"W\[1\] is .* float64 \(5, 2\); expected an array of .* float64 \(2, 5\)"):
        call([w.T for w in p.W], p.x)
    with pytest.raises(ValueError, match=r"x is .* float64 \(4, 2\); expected an array of float32 or float64 \(N, 3\)"):
        call(p.W, p.x[:, :2])
    with pytest.raises(ValueError, match=r"x is .* float64 \(0, 3\); expected an array of float32 or float64 \(N, 3\)"):
        call(p.W, p.x[:0])
    with pytest.raises(ValueError, match=r"x is a list of 1; expected an array of float32 or float64 \(N, 3\)"):
        call(p.W, [[1.0, 2, 3]])
    with pytest.raises(ValueError, match=r"x is .* int64 \(4, 3\); expected an array of float32 or float64"):
        call(p.W, on(np.ones((4, 3), int)))
    with pytest.raises(ValueError, match=r"W\[0\] is .* float64 \(4, 4\); expected an array of .* float32 \(4, 4\)"):
        call(p.W, p.x.astype(np.float32))
    x = host(p.x).copy()
    x[1, 1] = np.nan
    with pytest.raises(ValueError, match="x has non-finite entries"):
        call(p.W, on(x))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", [rn.relu, rn.tanh], ids=str)
def test_weights_that_are_not_finite_even_where_the_activation_would_hide_it(bad, activation):
    p = problem((3, 4, 2), activation)
    W = host(p.W)
    W[0][1, 1] = bad
    with pytest.raises(ValueError, match=r"W\[0\] has non-finite entries; expected finite numbers"):
        p.net.signals(on(W), p.x)


def test_overflow():
    p = problem((3, 4, 2), rn.relu)
    with pytest.raises(FloatingPointError, match="u_2 overflows: rescale x or the weights"):
        p.net.forward([w * 1e200 for w in p.W], p.x)


def test_overflow_of_the_backward_pass():
    net = rn.Network((3, 4, 4, 2), rn.relu)
    W = [w * size for w, size in zip(net.init(0), (1.0, 1e10, 1e300), strict=True)]
    x = on(np.full((2, 3), 1e-100))
    assert np.isfinite(host(net.forward(on(W), x))).all()
    with pytest.raises(FloatingPointError, match="delta_1 overflows: rescale the weights"):
        net.signals(on(W), x)


@pytest.mark.parametrize("name", FISHERS)
def test_fisher_arguments(name):
    p, fisher = problem((4, 5, 5, 2), sigma_b=0.5), FISHERS[name]
    for call in (
        lambda **k: fisher.direction(p.s, p.e, **k),
        lambda **k: fisher.coefficient(p.test, p.s, **k),
        lambda **k: fisher.matrix(p.s, **k),
    ):
        for rho in (-1e-3, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"rho is {rho}; expected a finite number >= 0"):
                call(rho=rho)
    for call in (lambda **k: fisher.direction(p.s, p.e, **k), lambda **k: fisher.coefficient(p.test, p.s, **k)):
        for q in (0.5, 0, -1, np.nan):
            with pytest.raises(ValueError, match=rf"q is {q}; expected a number in \[1, inf\]"):
                call(q=q)
    with pytest.raises(ValueError, match=r"e is .* \(2, 4\); expected an array of .* \(4, 2\)"):
        fisher.direction(p.s, p.e.T)
    with pytest.raises(ValueError, match=r"e is .*float32.*; expected .*float64"):
        fisher.direction(p.s, p.e.astype(np.float32))
    with pytest.raises(ValueError, match="e has non-finite entries"):
        fisher.direction(p.s, p.e * np.inf)
    with pytest.raises(ValueError, match=r"s is a list of 3; expected the Signals of Network.signals"):
        fisher.direction(p.W, p.e)
    with pytest.raises(ValueError, match=r"test belongs to weights .*; expected .* as train"):
        fisher.coefficient(problem((5, 5, 5, 2), sigma_b=0.5).s, p.s)
    with pytest.raises(ValueError, match="n is 0; expected an integer >= 1"):
        fisher.alpha(p.net, 0)


def test_powers_that_are_not_defined():
    p = problem((4, 5, 5, 2), sigma_b=0.5)
    with pytest.raises(ValueError, match="q is 2; expected 1 or inf, unless Sigma just merges layers into blocks"):
        rn.BlockTridiagonal().direction(p.s, p.e, q=2)
    with pytest.raises(ValueError, match="q is 2; expected 1 or inf: the quasi-diagonal has no other power"):
        rn.QuasiDiagonal().direction(p.s, p.e, q=2)


@pytest.mark.parametrize(
    ("Sigma", "message"),
    [
        ([[1, 0.5], [0.4, 1]], "Sigma is not symmetric: it differs from its transpose by up to 0.1"),
        ([[1, 0, 0], [0, 1, 0]], r"Sigma is numpy float64 \(2, 3\); expected an array of .* \(L, 2\)"),
        ([1, 2], r"Sigma is numpy float64 \(2,\); expected an array of .* \(L, 2\)"),
        ([[np.nan]], "Sigma has non-finite entries"),
        ([[1j]], "Sigma is a list of 1; expected a number, or an array or a list of numbers"),
        ([], r"Sigma is numpy float64 \(0,\); expected an array of .* \(L, L\)"),
        (np.zeros((0, 0)), r"Sigma is numpy float64 \(0, 0\); expected an array of .* \(L, L\)"),
    ],
)
def test_sigma(Sigma, message):
    with pytest.raises(ValueError, match=message):
        rn.Layerwise(Sigma)


def test_sigma_of_another_depth():
    p = problem((4, 5, 5, 2))
    with pytest.raises(ValueError, match="Sigma is 2 x 2; expected 3 x 3 for L = 3 layers"):
        rn.Layerwise(np.eye(2)).direction(p.s, p.e)


def test_options_of_kfac_and_cutoffs():
    with pytest.raises(ValueError, match="bias is 'none'; expected 'augmented' or 'separate'"):
        rn.KFAC(bias="none")
    with pytest.raises(ValueError, match="last is 'ones'; expected 'identity'"):
        rn.KFAC(last="ones")
    for make in (rn.Exact, rn.Unitwise, rn.KFAC, rn.QuasiDiagonal):
        with pytest.raises(ValueError, match="rcond is -1; expected None or a number in"):
            make(rcond=-1)


def test_dense_matrices_that_cannot_fit_are_refused_with_their_size_and_the_call_to_use():
    p = problem((400, 3000, 1), N=2)
    for fisher in FISHERS.values():
        with pytest.raises(MemoryError, match=r"G \(1203000 x 1203000\) .* GiB .*: call direction\(s, e\)"):
            fisher.matrix(p.s)
    wide = rn.Signals(p.s.f, [on(np.broadcast_to(0.0, (2, 10**7)))], [on(np.broadcast_to(0.0, (2, 1, 10**5)))])
    with pytest.raises(
        MemoryError,
        match=r"J \(2 x 1000000000000\), while it is made, would take .* GiB .*: call push\(s, dW\) and pull\(s, v\)",
    ):
        rn.jacobian(wide)


def test_jacobian_helpers():
    p = problem((4, 5, 2))
    with pytest.raises(ValueError, match=r"theta is .* \(3,\); expected an array of float32 or float64 \(30,\)"):
        rn.unflatten(p.net, on(np.ones(3)))
    with pytest.raises(ValueError, match=r"v is .* float64 \(2, 4\); expected an array of .* float64 \(4, 2\)"):
        rn.pull(p.s, p.e.T)
    with pytest.raises(ValueError, match="dW is a list of 1; expected a list of 2 arrays"):
        rn.push(p.s, p.W[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 0.0}, "eta is 0.0; expected a finite number > 0"),
        ({"eta": np.nan}, "eta is nan; expected a finite number > 0"),
        ({"steps": -1}, "steps is -1; expected an integer >= 0"),
        ({"steps": 1.5}, "steps is 1.5; expected an integer >= 0"),
        ({"rho": -1.0}, "rho is -1.0; expected a finite number >= 0"),
        ({"q": 0.5}, r"q is 0.5; expected a number in \[1, inf\]"),
        ({"y": np.ones((3, 1))}, r"y is .*\(3, 1\); expected .*\(4, 1\)"),
        ({"y": np.full((4, 1), np.inf)}, "y has non-finite entries"),
        ({"batch": 0}, "batch is 0; expected an integer >= 1"),
        ({"batch": 2.0}, "batch is 2.0; expected an integer >= 1"),
        ({"batch": 5}, "batch is 5; expected None or an integer <= N = 4"),
        ({"batch": 2, "rng": -1}, "rng is -1; expected an integer >= 0, a seed, or a numpy.random.Generator"),
        ({"x": np.ones((4, 9))}, r"x is .* \(4, 9\); expected an array of .* \(N, 4\)"),
    ],
)
def test_training_arguments_before_the_first_step(arguments, message):
    p = problem((4, 5, 1))
    given = {"x": p.x, "y": p.e, "fisher": rn.Exact(), "eta": 0.1, "steps": 2}
    arguments = {k: on(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    with pytest.raises(ValueError, match=message):
        rn.train(p.net, p.W, **given | arguments)


def test_training_that_diverges_says_when_and_why():
    p = problem((4, 5, 1), rn.linear)
    with pytest.raises(FloatingPointError, match=r"training diverged at t = \d+: .*; lower eta = 1e\+100"):
        list(rn.train(p.net, p.W, p.x, p.e, rn.Identity(), 1e100, 50))


def test_dynamics_arguments():
    K, f = on(np.eye(2)), on(np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"y is .* \(1, 2\); expected an array of .* \(2, 1\)"):
        rn.Dynamics(K, f, f.T, 0.1)
    with pytest.raises(ValueError, match="eta is -1; expected a finite number > 0"):
        rn.Dynamics(K, f, f, -1)
    for t in (-1, 0.5, np.nan):
        with pytest.raises(ValueError, match=f"t is {t}; expected 0, 1, 2, .. or inf"):
            rn.Dynamics(K, f, f, 0.1).accumulated(t)
    with pytest.raises(ValueError, match="Theta_bar has no positive eigenvalue"):
        rn.optimal_rate(0 * K)
    with pytest.warns(RuntimeWarning, match="Theta_bar has a negative eigenvalue, -1: training diverges along it"):
        rn.optimal_rate(on(np.diag([-1.0, 2.0])))
    with pytest.raises(ValueError, match="y has non-finite entries"):
        rn.Dynamics(K, f, f * np.nan, 0.1)
    with pytest.raises(ValueError, match=r"cross is .* \(3, 2\); expected an array of .* \(2, 2\)"):
        rn.Dynamics(K, f, f, 0.1).predict(on(np.ones((3, 2))), f, 1)


def test_device():
    with pytest.raises(ValueError, match="device is 'tpu'; expected 'cpu' or 'gpu'"):
        rn.to_device(np.ones(2), "tpu")


def test_data_sets(tmp_path):
    with pytest.raises(ValueError, match=r"classes is \[0, 11\]; expected two or more different ones out of \[0, 1, 2"):
        datasets.digits((0, 11))
    with pytest.raises(ValueError, match=r"classes is \[3, 3\]"):
        datasets.digits((3, 3))
    with pytest.raises(ValueError, match="N is 357; expected 1 <= N < 357"):
        datasets.split(*datasets.digits((0, 7)), 357, 0)
    with pytest.raises(ValueError, match="n is 0; expected an integer >= 1"):
        datasets.gaussian(0, 3, 2, 0)
    with pytest.raises(ValueError, match="x has 2 rows of zeros"):
        unit_norm(on(np.array([[0.0, 0], [1, 1], [0, 0]])))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((3, 4)), {}, r"x is \(3, 4\); expected N >= M_0: with N <= M_0 K-FAC needs no transform"),
        (np.ones((3, 0)), {}, r"x is .* \(3, 0\); expected an array of float32 or float64 \(N, M_0\)"),
        (np.ones(3), {}, r"x is .* float64 \(3,\); expected an array of float32 or float64 \(N, M_0\)"),
        (np.ones((3, 2), int), {}, r"x is .* int64 \(3, 2\); expected an array of float32 or float64"),
        ([[1.0]], {}, "x is a list of 1; expected an array of float32 or float64"),
        (np.full((3, 2), np.nan), {}, "x has non-finite entries; expected finite numbers"),
        (np.array([[1.0, 0], [0, 1], [0, 0]]), {}, "x has 1 rows of zeros"),
        (np.eye(2), {"steps": 0}, "steps is 0; expected an integer >= 1"),
        (np.eye(2), {"tolerance": 0}, "tolerance is 0; expected None or a number > 0"),
        (np.eye(2), {"tolerance": np.nan}, "tolerance is nan; expected None or a number > 0"),
    ],
)
def test_forster_arguments(x, options, message):
    with pytest.raises(ValueError, match=message):
        forster(on(x) if isinstance(x, np.ndarray) else x, **options)


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (-1, "frozen is -1; expected an integer >= 0"),
        (0.5, "frozen is 0.5; expected an integer >= 0"),
        (2, "frozen is 2; expected an integer < L = 2, since one layer at least is trained"),
    ],
)
def test_frozen_layers(frozen, message):
    p = problem((4, 5, 1))
    for call in (
        lambda: p.s.above(frozen),
        lambda: rn.Exact().alpha(p.net, 4, frozen),
        lambda: rn.train(p.net, p.W, p.x, p.e, rn.Exact(), 0.1, 1, frozen=frozen),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_sigma_is_that_of_the_trained_layers():
    p = problem((4, 5, 5, 1))
    assert rn.Layerwise(np.eye(2)).alpha(p.net, 4, frozen=1) == 2
    for call in (
        lambda fisher: fisher.direction(p.s.above(1), p.e),
        lambda fisher: fisher.alpha(p.net, 4, frozen=1),
        lambda fisher: rn.train(p.net, p.W, p.x, p.e, fisher, 0.1, 1, frozen=1),
    ):
        with pytest.raises(ValueError, match="Sigma is 3 x 3; expected 2 x 2 for L = 2 layers"):
            call(rn.Layerwise(np.eye(3)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 2))}, r"no array \['labels'\]; expected 'x' \(n, M_0\) and 'labels' \(n,\)"),
        ({"x": np.ones(3), "labels": np.zeros(3, int)}, r"holds x float64 \(3,\) and labels int64 \(3,\); expected"),
        ({"x": np.ones((3, 2)), "labels": np.zeros(2, int)}, "expected numbers"),
        ({"x": np.ones((3, 2)), "labels": np.zeros(3)}, "expected numbers"),
        ({"x": np.full((3, 2), np.nan), "labels": np.zeros(3, int)}, "x has non-finite entries"),
        ({"x": np.array([{}] * 3), "labels": np.zeros(3, int)}, "cannot read .*: Object arrays cannot be loaded"),
    ],
)
def test_npz_files(arrays, message, tmp_path):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        datasets.load_npz(tmp_path / "own.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", None, "truncated", "npy"])
def test_npz_files_that_are_not(content, tmp_path):
    path = tmp_path / "own.npz"
    if content == "npy":
        np.save(tmp_path / "array.npy", np.ones(3))
        (tmp_path / "array.npy").rename(path)
    elif content == "truncated":
        np.savez(path, x=np.ones((30, 2)), labels=np.zeros(30, int))
        path.write_bytes(path.read_bytes()[:300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*own\.npz"):
        datasets.load_npz(path)


@pytest.mark.parametrize(
    ("name", "load"), [("digits.csv.gz", datasets.digits), ("mnist-sample.npz", datasets.mnist_sample)]
)
def test_a_corrupt_shipped_file_is_noticed(monkeypatch, tmp_path, name, load):
    (tmp_path / name).write_bytes(b"damaged")
    monkeypatch.setattr(datasets, "shipped", lambda name: tmp_path / name)
    with pytest.raises(ValueError, match=f"data file {name} is corrupt"):
        load()


def test_targets_need_labels_from_zero():
    with pytest.raises(ValueError, match=r"labels are -1..1; expected integers 0, 1, .."):
        datasets.targets(np.array([-1, 1]))


def deep():
    """Weights (3, 4, 2) and statistics that fit."""
    rng = generator()
    return [rng.standard_normal((4, 3)), rng.standard_normal((2, 4))], deep_linear.Statistics(
        rng.standard_normal((2, 3))
    )


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (
            [np.ones((4, 3)), np.ones((2, 5))],
            r"w has shapes \[\(4, 3\), \(2, 5\)\]; expected \(n_1, n_0\), \(n_2, n_1\)",
        ),
        ([], "w is a list of 0; expected a list of matrices"),
        ([np.ones(3), np.ones((2, 3))], r"w\[0\] is numpy float64 \(3,\); expected an array of .* \(n, m\)"),
        ([np.ones((4, 5)), np.ones((2, 4))], r"w maps 5 inputs to 2 outputs; w_star is \(2, 3\)"),
        (
            [np.ones((4, 3), np.float32), np.ones((2, 4))],
            r"w\[1\] is numpy float64 \(2, 4\); expected an array of .*32",
        ),
        ([np.ones((4, 3)), np.full((2, 4), np.nan)], r"w\[1\] has non-finite entries"),
        ([np.zeros((4, 3)), np.zeros((2, 4))], "w is a saddle point where J = 0, as all-zero weights are"),
    ],
)
@pytest.mark.parametrize(("train", "until"), [(linear_training.descend, (0.1, 3)), (linear_training.flow, ([1.0],))])
def test_deep_linear_weights(train, until, w, message):
    _, data = deep()
    with pytest.raises(ValueError, match=message):
        train(w, data, deep_linear.Rule(2), *until)


def test_one_layer_of_zeros_is_no_saddle_point():
    w, data = deep()
    w[0] = 0 * w[0]
    *_, last = linear_training.descend(w, data, deep_linear.Rule(2), 0.1, 50)
    assert last.loss < 0.1 * deep_linear.loss(w, data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(q=0.5), r"q is 0.5; expected a number in \[1, inf\]"),
        (dict(rho=-1), "rho is -1; expected a finite number >= 0"),
        (dict(clip=0), "clip is 0; expected a number > 0"),
        (dict(clip=math.nan), "clip is nan; expected a number > 0"),
        (dict(rcond=-1), r"rcond is -1; expected None or a number in \[0, 1\)"),
    ],
)
def test_update_rules(arguments, message):
    with pytest.raises(ValueError, match=message):
        deep_linear.Rule(**arguments)


def test_statistics():
    make, good = deep_linear.Statistics, np.ones((2, 3))
    for w_star, message in (
        (np.ones(3), r"w_star is numpy float64 \(3,\); expected an array of float32 or float64 \(n_out, n_in\)"),
        ([[1.0]], "w_star is a list"),
        (np.ones((2, 3), int), "w_star is numpy int64 .*; expected an array of float32 or float64"),
        (np.ones((0, 3)), r"w_star is numpy float64 \(0, 3\); expected"),
        (good * math.inf, "w_star has non-finite entries"),
    ):
        with pytest.raises(ValueError, match=message):
            make(w_star)
    with pytest.raises(ValueError, match=r"S is numpy float64 \(2, 2\); expected an array of numpy float64 \(3, r\)"):
        make(good, np.eye(2))
    with pytest.raises(ValueError, match="S is numpy float32"):
        make(good, np.eye(3, dtype=np.float32))
    with pytest.raises(
        ValueError, match="S has 3 columns of rank 1; expected as many as the rank of Sigma_x, 3 at mos"
    ):
        make(good, np.ones((3, 3)))
    with pytest.raises(ValueError, match="S has 4 columns of rank 3"):
        make(good, np.eye(3, 4) + 1)
    with pytest.raises(ValueError, match="Sigma_x is zero; expected inputs that are not all zero"):
        make.with_covariance(good, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="Sigma_x has a negative eigenvalue, -1; expected a covariance"):
        make.with_covariance(good, np.diag([1.0, 2.0, -1.0]))
    with pytest.raises(ValueError, match="Sigma_x is not symmetric"):
        make.with_covariance(good, np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="Sigma_x is zero"):
        make.of(np.zeros((2, 3)), np.ones((2, 1)))
    with pytest.raises(
        ValueError, match=r"y is numpy float64 \(5, 1\); expected an array of numpy float64 \(4, n_out\)"
    ):
        make.of(generator().standard_normal((4, 3)), np.ones((5, 1)))
    with pytest.raises(ValueError, match="x has non-finite entries"):
        make.of(np.full((4, 3), math.nan), np.ones((4, 1)))
    with pytest.raises(ValueError, match="const is nan; expected a finite number"):
        make(good, const=math.nan)


def test_training_of_deep_linear_networks():
    w, data = deep()
    rule = deep_linear.Rule(2)
    for eta in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"eta is {eta}; expected a finite number > 0"):
            linear_training.descend(w, data, rule, eta, 3)
    with pytest.raises(ValueError, match="steps is -1; expected an integer >= 0"):
        linear_training.descend(w, data, rule, 0.1, -1)
    for times in ([], [1.0, 0.5], [1.0, 1.0], [-1.0], [math.inf], [[1.0]]):
        with pytest.raises(ValueError, match=r"times is .*; expected finite numbers >= 0, each larger than"):
            linear_training.flow(w, data, rule, times)
    with pytest.raises(ValueError, match="evaluations is 0; expected an integer >= 1"):
        linear_training.flow(w, data, rule, [1.0], evaluations=0)
    for converged in (-1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"converged is .*; expected a number in \[0, 1\)"):
            linear_training.flow(w, data, rule, [1.0], converged=converged)
    with pytest.raises(ValueError, match=r"tolerance is 0; expected a number in \[1e-13, 1\)"):
        linear_training.flow(w, data, rule, [1.0], tolerance=0)
    small = [w_i.astype(np.float32) for w_i in w], deep_linear.Statistics(data.w_star.astype(np.float32))
    with pytest.raises(ValueError, match="w is float32; expected float64, in which the integrator works"):
        linear_training.flow(*small, rule, [1.0])
    with pytest.raises(FloatingPointError, match=r"the flow ends at t = 0.*: it takes too many evaluations of u"):
        linear_training.flow(w, data, rule, [1.0], evaluations=5)
    with pytest.raises(ValueError, match=r"rcond is 5; expected None or a number in"):
        deep_linear.multiplier(w, data, rcond=5)
    with pytest.raises(
        ValueError, match=r"teacher is numpy float64 \(3,\); expected an array of numpy float64 \(2, 3\)"
    ):
        experiments.trajectory(w, data, np.ones(3), rule, 0.1, 3)
    with pytest.raises(ValueError, match="records is 1; expected an integer >= 2"):
        experiments.trajectory(w, data, data.w_star, rule, 0.1, 3, records=1)
    with pytest.raises(FloatingPointError, match="training diverged at t = 0: the loss is inf"):
        experiments.trajectory(w, deep_linear.Statistics(1e200 * data.w_star), data.w_star, rule, 0.1, 3)
    for name in ("seed", "width", "depth"):
        with pytest.raises(ValueError, match=f"{name} is -1; expected an integer >="):
            experiments.teacher_student_problem(**{"seed": 0, name: -1})


@pytest.mark.parametrize(
    "rule", [deep_linear.Rule(q, block) for q in (2, math.inf) for block in (False, True)], ids=str
)
def test_deep_linear_updates_that_overflow(rule):
    w, data = deep()
    message = "the update is beyond the range of float64: the weights are too large, or too small, for this rule"
    with pytest.raises(FloatingPointError, match=message):
        rule.update([1e200 * w[0], 1e200 * w[1], np.eye(2)], data)  # and under NGD it does not


def test_deep_linear_multipliers_that_overflow():
    with pytest.raises(FloatingPointError, match="Lambda is beyond the range of float64"):
        deep_linear.multiplier([1e-60 * np.eye(3)] * 4, deep_linear.Statistics(np.eye(3)))


def test_products_of_deep_linear_networks():
    w, data = deep()
    narrow, m = [w[0], np.ones((2, 3))], [np.ones((4, 4))]
    for call in (
        lambda w: deep_linear.loss(w, data),
        lambda w: deep_linear.gradient(w, data),
        lambda w: deep_linear.kernel(w),
        lambda w: deep_linear.pull(w, np.ones((2, 3))),
        lambda w: deep_linear.null_update(w, m),
    ):
        with pytest.raises(ValueError, match=r"w has shapes \[\(4, 3\), \(2, 3\)\]; expected"):
            call(narrow)
        for given, name in ((None, "None"), (w[0], r"numpy float64 \(4, 3\)"), ((w_i for w_i in w), "a generator")):
            with pytest.raises(ValueError, match=f"w is {name}; expected a list of matrices"):
                call(given)
    for dw, message in (
        (w[:1], "dw is a list of 1; expected a list of 2 arrays"),
        (w[::-1], r"dw\[0\] is numpy float64 \(2, 4\); expected an array of numpy float64 \(4, 3\)"),
        ([w[0], math.nan * w[1]], r"dw\[1\] has non-finite entries"),
    ):
        for call in (deep_linear.push, deep_linear.gauss_newton_product):
            with pytest.raises(ValueError, match=message):
                call(w, dw)
        with pytest.raises(ValueError, match=message):
            deep_linear.hessian_product(w, dw, data)
    with pytest.raises(
        ValueError, match=r"Lambda is numpy float64 \(3, 2\); expected an array of numpy float64 \(2, 3\)"
    ):
        deep_linear.pull(w, np.ones((3, 2)))
    with pytest.raises(
        ValueError, match=r"m\[0\] is numpy float64 \(3, 3\); expected an array of numpy float64 \(4, 4\)"
    ):
        deep_linear.null_update(w, [np.ones((3, 3))])


def test_divergence_of_deep_linear_training():
    w, data = deep()
    with pytest.raises(FloatingPointError, match=r"training diverged at t = \d+: the loss is inf; lower eta = 10"):
        list(linear_training.descend(w, data, deep_linear.Rule(math.inf), 10, 100))


def test_kernels_of_deep_linear_networks_that_do_not_fit():
    w = [np.ones((1, 600)), np.ones((600, 1))]
    with pytest.raises(MemoryError, match=r"K \(360000 x 360000\) and its work space .*: use a block-diagonal rule"):
        deep_linear.kernel(w)


# ------------------------------------------------------------- arguments that used to give a value, or a wrong message


def test_losses_and_accuracy_take_no_targets_of_another_shape():
    f, y = np.array([[1.0], [2], [3]]), np.array([1.0, 2, 4])
    assert rn.mse.value(on(f), on(y[:, None])) == pytest.approx(1 / 6)
    square, labels = on(generator().standard_normal((3, 3))), on(np.array([0, 1, 2]))
    for call in (
        lambda: rn.mse.value(on(f), on(y)),
        lambda: rn.mse.residual(on(f), on(y)),
        lambda: rn.mse.whiten(problem((2, 3, 1), N=3).s, on(y)),
        lambda: rn.cross_entropy.value(square, labels),
        lambda: rn.cross_entropy.residual(square, labels),
        lambda: rn.cross_entropy.velocity(square, labels),
        lambda: rn.cross_entropy.whiten(problem((2, 3, 3), N=3).s, labels),
        lambda: datasets.accuracy(on(f), on(y)),
        lambda: datasets.accuracy(on(f), on(np.array([0, 1, 2]))),
    ):
        with pytest.raises(ValueError, match=r"y is .* \(3,\); expected an array of .* \(3, [13]\)"):
            call()
    with pytest.raises(ValueError, match="f has non-finite entries"):
        datasets.accuracy(on(f * np.nan), on(f))
    for soft in (np.full((3, 3), 1 / 3), 2 * np.eye(3)):
        with pytest.raises(ValueError, match="y is not one-hot"):
            rn.cross_entropy.value(square, on(soft))


def test_both_parts_of_a_data_set_have_the_classes_of_both():
    x, labels = generator().standard_normal((12, 4)), np.arange(12) % 3
    data = datasets.draw((x, labels), (x[:2], labels[:2]), 6, 2, 0)
    assert data.y_test.shape == (2, 3)
    assert datasets.accuracy(data.y_test, data.y_test) == 1
    assert datasets.draw((x[:2], labels[:2]), (x, labels), 2, 12, 0).y.shape == (2, 3)
    with pytest.raises(ValueError, match=r"y_test is .* \(12, 2\); expected an array of .* \(12, 3\)"):
        datasets.Data(x, np.eye(3)[labels], x, np.eye(3)[labels][:, :2])
    for wrong, message in (
        (labels[:, None], r"labels is .* \(12, 1\); expected integers"),
        (labels / 1, "labels is .*"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.targets(wrong)
    with pytest.raises(ValueError, match="dtype is <class 'int'>; expected float32 or float64"):
        datasets.split(x, labels, 4, 0, int)
    with pytest.raises(ValueError, match="one_hot is 'no'; expected True or False"):
        datasets.split(x, labels, 4, 0, one_hot="no")


def test_integers_have_no_norm_that_overflows():
    np.testing.assert_allclose(host(unit_norm(on(np.array([[-128, -128]], np.int8)))), [[-(0.5**0.5)] * 2])
    pixels = generator().integers(0, 256, (5, 4)).astype(np.uint8)
    assert (host(unit_norm(on(pixels))) == host(unit_norm(on(pixels.astype(float))))).all()
    assert (host(standardise(on(pixels))) == host(standardise(on(pixels.astype(float))))).all()


def test_numbers_of_numpy_do_not_promote_the_linearised_training():
    p = problem((3, 4, 2), dtype=np.float32)
    runs = [rn.linearized_training([p.s], p.e, rn.Exact(), kind(0.5)) for kind in (float, np.float64)]
    for plain, other in zip(*[[next(run)[0] for _ in range(3)] for run in runs], strict=True):
        assert other.dtype == np.float32
        assert (host(other) == host(plain)).all()
    with pytest.raises(ValueError, match="eta is -1; expected a finite number > 0"):
        rn.linearized_training([p.s], p.e, rn.Exact(), -1)


def test_what_looks_like_an_array_but_is_more():
    p = problem((3, 4, 2))
    with pytest.raises(ValueError, match="W is a generator; expected a list of 2 arrays"):
        p.net.forward((w for w in p.W), p.x)
    masked = np.ma.masked_array(np.ones((4, 2)), np.eye(4, 2, dtype=bool))
    with pytest.raises(ValueError, match=r"e is MaskedArray \(4, 2\); expected an array of .* \(4, 2\)"):
        rn.Exact().direction(p.s, masked)
    with pytest.raises(ValueError, match=r"K is matrix \(2, 2\); expected an array of float32 or float64 \(2, 2\)"):
        rn.inverse_power(np.eye(2).view(np.matrix))
    with pytest.raises(ValueError, match="x is a MaskedArray; expected an array or a list of arrays"):
        rn.to_device(masked, "cpu")


def test_a_number_is_no_path(capfd):
    with pytest.raises(ValueError, match="path is 1; expected a path"):
        datasets.load_npz(1)
    print("standard output is still open")
    assert capfd.readouterr().out


def test_no_cut_off_warns_of_nothing():
    zero = on(np.diag([0.0, 1, 2]))
    assert (host(rn.inverse_power(zero, rcond=0)) == np.diag([0.0, 1, 0.5])).all()
    p = problem((4, 5, 2), sigma_b=0.5)
    for make in (rn.Exact, rn.BlockDiagonal, rn.BlockTridiagonal, rn.Unitwise, rn.KFAC, rn.QuasiDiagonal):
        assert all(np.isfinite(host(dw)).all() for dw in make(rcond=0).direction(p.s, p.e))


@pytest.mark.parametrize("size", [1e155, 1e160, 1e300])
def test_what_leaves_the_range_says_so(size):
    p = problem((3, 4, 1), rn.linear)
    s = p.net.signals(p.W, size * p.x)
    for call in (rn.fisher_information, rn.Exact().matrix, lambda s: rn.Identity().coefficient(s, s)):
        with pytest.raises(FloatingPointError, match="rescale the inputs or the weights"):
            call(s)
    with pytest.raises(FloatingPointError, match="rescale the inputs or the weights"):
        rn.push(s, [w * 1e200 for w in p.W])
    with pytest.raises(FloatingPointError, match="rescale the inputs or the weights"):
        rn.pull(s, p.e * 1e200)


@pytest.mark.parametrize("power", [-350, 370])
@pytest.mark.parametrize("fisher", [rn.BlockTridiagonal(), rn.Layerwise(np.eye(3) + 1), rn.BlockDiagonal()], ids=str)
def test_steps_of_linear_networks_scale_with_the_inputs_up_to_the_ends_of_the_range(fisher, power):
    p = problem((3, 4, 4, 1), rn.linear, N=2)
    scaled = fisher.direction(p.net.signals(p.W, p.x * 2.0**power), p.e)
    for dw, expected in zip(scaled, fisher.direction(p.s, p.e), strict=True):
        np.testing.assert_allclose(host(dw) * 2.0**power, host(expected), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fisher", [rn.BlockDiagonal(), rn.QuasiDiagonal(), rn.Unitwise()], ids=str)
def test_a_saturated_unit_takes_the_step_that_its_sample_asks_for(fisher):
    net = rn.Network((1, 1, 1), rn.tanh, sigma_b=1.0)
    s = net.signals(on([np.array([[1.0, 0.0]])] * 2), on(np.array([[179.0]])))
    assert 0 < float(s.delta[0].max()) < 1e-200
    for h, delta, dw in zip(host(s.h), host(s.delta), host(fisher.direction(s, on(np.ones((1, 1))))), strict=True):
        np.testing.assert_allclose(dw, h / (h @ h.T) / delta[0], rtol=1e-12)  # J_l = delta h, e = 1


# ------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b", {"a/b/memory.max": "7000"}, 7000),
        (
            "0::/a/b",
            {"a/b/memory.max": "max", "a/memory.max": "5000", "memory.max": "9000"},
            5000,
        ),  # of a group around it
        ("0::/", {"memory.max": "6000"}, 6000),  # inside a container
        ("5:cpu,memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "3000"}, 3000),
        ("5:memory:/docker/x\n1:cpu:/y", {"memory/memory.limit_in_bytes": "2000"}, 2000),
        ("5:cpu:/a\n0::/", {"cpu/a/memory.limit_in_bytes": "3000", "memory.max": "max"}, None),
        (None, {}, None),
    ],
)
def test_the_limit_of_a_container_is_the_memory(tmp_path, groups, limits, expected):
    if groups:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for name, text in limits.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    found = arrays.host_memory(tmp_path)
    assert found == expected if expected else found > 10**6


def test_a_process_with_less_memory_than_the_machine_refuses_in_words():
    pytest.importorskip("resource")
    code = """if True:
        import resource
        import refngd
        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
        refngd.Network((200_000, 2000, 1)).init(0)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert "the weights of widths (200000, 2000, 1) would take 3.0 GiB and this device has 2.0 GiB" in done.stderr
