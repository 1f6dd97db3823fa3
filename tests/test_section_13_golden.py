"""THEORY 13.3, 13.5 and 13.6: numbers found independently."""

from math import cos, sin, sqrt

import numpy as np
import pytest
from support import host, on

import refngd as rn
from refngd import deep_linear


@pytest.fixture
def tiny():
    """The tanh network 3-5-5-1 of 13.5 with weights from sines and cosines: (net, W, x of 5 samples)."""
    net = rn.Network((3, 5, 5, 1), rn.tanh, sqrt(2), sqrt(0.5))
    W = []
    for l, (M, k) in enumerate(net.shapes, 1):
        weights = [[sqrt(2) * sin(l + (i * (k - 1) + j + 1) ** 2) for j in range(k - 1)] for i in range(M)]
        W.append(np.array([[*row, sqrt(2) * cos(l + (i + 1) ** 2)] for i, row in enumerate(weights)]))
    x = np.array([[sin((3 * n + j + 1) ** 2) for j in range(3)] for n in range(5)])
    return net, on(W), x / np.linalg.norm(x, axis=1, keepdims=True)


def test_tiny_network_has_the_golden_outputs(tiny):
    net, W, x = tiny
    golden = [-0.187517501740302, -0.558951475203746, -0.353251615101541, -0.262932383003002, -0.450719347763366]
    np.testing.assert_allclose(host(net.forward(W, on(x))).ravel(), golden, rtol=0, atol=2e-15)


def test_tiny_network_has_the_golden_loss_and_exact_step(tiny):
    net, W, x = tiny
    y = on(np.array([[1.0], [-1], [1]]))
    first, second = rn.train(net, W, on(x[:3]), y, rn.Exact(), 0.5, 1)
    assert first.loss == pytest.approx(0.57266859198990, abs=1e-14)
    golden = [0.47504982801725, -0.52790836020758, 0.391022528259]
    np.testing.assert_allclose(host(second.f).ravel(), golden, rtol=0, atol=1e-12)


def test_golden_alphas():
    net = rn.Network((100, 100, 100, 1))
    assert rn.Layerwise([[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]]).alpha(net, 10) == pytest.approx(
        2.357976653696498, rel=1e-15
    )
    depths = [rn.BlockTridiagonal().alpha(rn.Network((100,) * L + (1,)), 10) for L in range(3, 9)]
    assert depths == pytest.approx([1, 2, 2, 2, 3, 3], rel=1e-14)


def test_golden_deep_linear_network():
    """13.6: dims (3, 4, 4, 2), weights from cosines."""
    shapes = [(4, 3), (4, 4), (2, 4)]
    w = [
        np.array([[0.6 * cos(1 + k + 2 * a + 3 * b + a * b) for b in range(n)] for a in range(m)])
        for k, (m, n) in enumerate(shapes)
    ]
    w, data = on(w), deep_linear.Statistics(on(np.array([[1.5, -0.3, 0.2], [0.1, 0.8, -0.6]])))
    assert deep_linear.loss(w, data) == pytest.approx(2.13797044296717, abs=1e-14)
    assert deep_linear.norm(deep_linear.conserved(w)[:1]) == pytest.approx(1.40578087745281, abs=1e-14)
    golden = {1: 3.3145896760499, 2: 2.0678348304288, 3: 2.3052157641755, np.inf: 3.3870760884634}
    for q, size in golden.items():
        assert deep_linear.norm(deep_linear.Rule(q).update(w, data)) == pytest.approx(size, abs=1e-12)
