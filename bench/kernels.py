"""Seconds and memory of the kernels at infinite width, and of the predictions from them.

    python -m bench.kernels [--device cpu|gpu] [--small]

The floor of the NTK is the bare N x N x M_0 matrix product (of two arrays: NumPy computes X X^T of one in half of the
time) and, for each hidden layer, an arcsine and a square root of half of the entries, in blocks of rows. Every figure
is a ratio within one run; memory is in N x N matrices, and that of predictions the peak of their own process (Linux).
"""

import argparse
import math
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import refngd as rn
from refngd.arrays import array_module

from .speed import best_seconds, peak_bytes


def floor(x, layers: int) -> None:
    """The passes that no implementation can avoid."""
    xp, N = array_module(x), len(x)
    K, out = x @ x.copy().T, xp.empty((32, N), x.dtype)
    for rows in (slice(i, i + 32) for i in range(0, N // 2, 32)):
        for _ in range(layers):
            xp.arcsin(K[rows], out=out)
            xp.sqrt(K[rows], out=out)


def predict(name: str, N: int) -> int:
    """Bytes that predictions at t = 10 and infinity need, for N training samples and N / 5 others; on the host."""
    rng, fisher = np.random.default_rng(0), getattr(rn, name)()
    net = rn.Network((N, 1, 1, 10), rn.relu)  # K-FAC asks for as many inputs as samples
    x, x_test, y = (rng.standard_normal(shape) for shape in ((N, N), (N // 5, N), (N, 10)))
    x @ x[:9].T  # the matrix library takes its own memory at the first product
    before = resident_peak()
    own, cross = rn.analytic_kernels(net, x, x), rn.analytic_kernels(net, x_test, x)
    Theta_bar, cross = fisher.kernel_coefficient(own, own), fisher.kernel_coefficient(cross, own)
    del own
    dynamics = rn.Dynamics(Theta_bar, 0 * y, y, rn.optimal_rate(Theta_bar))
    for t in (10, math.inf):
        dynamics.predict(cross, 0 * y[: N // 5], t)
    return resident_peak() - before


def resident_peak() -> int:
    """Bytes; ru_maxrss would start from those of the parent process."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--small", action="store_true", help="a tenth of the samples, to see that it runs")
    args = parser.parse_args()
    rng, scale = np.random.default_rng(0), 10 if args.small else 1
    net = rn.Network((784, 1, 1, 1), rn.relu)
    for N in (3200 // scale, 9600 // scale):
        x = rng.standard_normal((N, 784))
        x = rn.to_device(x / np.linalg.norm(x, axis=1, keepdims=True), args.device)
        positive = 0.9 * abs(x)
        runs = {"floor": lambda x=positive: floor(x, 2), "NTK": lambda x=x: rn.analytic_ntk(net, x, x)}
        seconds, xp = best_seconds(runs, array_module(x), 3), array_module(x)
        memory = peak_bytes(xp, runs["NTK"]) / (8 * N * N)
        print(
            f"ReLU, L = 3, N = {N}: floor {seconds['floor']:.3f} s, NTK {seconds['NTK'] / seconds['floor']:.2f} x",
            end="",
        )
        print(f" the floor, {memory:.2f} N x N matrices")

    for name in ("Exact", "BlockDiagonal", "KFAC"):
        N = 2000 // scale
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # whose peak memory is its own
            matrices = fresh.submit(predict, name, N).result() / (8 * N * N)
        size, held = matrices * 8e8 / 2**30, (24 * 2**30 / 8 / matrices) ** 0.5
        print(f"{name}: predictions, N = {N}, N' = N / 5: {matrices:.1f} N x N matrices,", end=" ")
        print(f"{size:.0f} GiB for N = 10,000; 24 GiB hold N = {held:,.0f}")


if __name__ == "__main__":
    main()
