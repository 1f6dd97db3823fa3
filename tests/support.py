"""What the tests share: small problems on the device under test, tolerances, and literal oracles on the host."""

from dataclasses import dataclass

import numpy as np

import refngd as rn

DEVICE = "cpu"  # set by conftest from --device

FISHERS = {
    "Identity": rn.Identity(),
    "Exact": rn.Exact(),
    "BlockDiagonal": rn.BlockDiagonal(),
    "BlockTridiagonal": rn.BlockTridiagonal(),
    "Unitwise": rn.Unitwise(),
    "Entrywise": rn.Entrywise(),
    "QuasiDiagonal": rn.QuasiDiagonal(),
    "KFAC": rn.KFAC(),
    "KFAC-separate": rn.KFAC(bias="separate"),
    "KFAC-gram": rn.KFAC(last="gram"),
}
ACTIVATIONS = [rn.relu, rn.tanh, rn.erf, rn.linear, rn.shifted_relu(0.6)]


def generator(seed=0):
    return np.random.default_rng(seed)


def on(x):
    """x on the device under test."""
    return rn.to_device(x, DEVICE)


def host(x):
    """x, an array or a list of arrays, as NumPy."""
    return rn.to_device(x, "cpu")


@dataclass
class Problem:
    net: rn.Network
    W: list
    x: object
    e: object
    s: rn.Signals
    test: rn.Signals

    @property
    def J(self):
        return host(rn.jacobian(self.s))

    @property
    def J_test(self):
        return host(rn.jacobian(self.test))


def problem(widths, activation=rn.tanh, sigma_b=0.0, N=4, seed=0, dtype=np.float64, **options):
    """A random network with N training samples, 3 test samples and residuals e."""
    rng = generator(seed)
    net = rn.Network(widths, activation, 2**0.5, sigma_b, **options)
    W = on(net.init(rng, dtype))
    x, x_test, e = (
        on(rng.standard_normal(shape).astype(dtype)) for shape in ((N, widths[0]), (3, widths[0]), (N, widths[-1]))
    )
    return Problem(net, W, x, e, net.signals(W, x), net.signals(W, x_test))


def relative(actual, desired):
    """||actual - desired|| / ||desired|| on the host."""
    actual, desired = np.asarray(host(actual)), np.asarray(host(desired))
    assert actual.shape == desired.shape
    return float(np.linalg.norm(actual - desired) / np.linalg.norm(desired))


def assert_close(actual, desired, kappa=1.0, dtype=np.float64):
    """||actual - desired|| <= 2 * 30 u kappa ||desired||: LAPACK's threshold for each side, u the unit roundoff."""
    error, bound = relative(actual, desired), 30 * float(np.finfo(dtype).eps) * kappa
    assert error <= bound < 0.1, f"relative error {error:.2e}, allowed {bound:.2e} for condition number {kappa:.2e}"


def condition(G):
    """Condition number of a symmetric matrix on its range."""
    w = abs(np.linalg.eigvalsh(G))
    w = w[w > 1e-12 * w.max()]
    return w.max() / w.min()
