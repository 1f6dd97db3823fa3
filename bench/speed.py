"""Seconds and memory of one step, beside the matrix products that no implementation can avoid.

    python -m bench.speed [--device cpu|gpu] [--small] [--processor-time]

On a GPU in both dtypes, at sizes that fill it, and with the differences between the steps there and on the CPU.

The floor is the bare products of a forward pass, a backward pass of all C outputs and an update, 2 N (3 M^2 + 2 M_0 M)
flops for C = 1, into memory that is already there. Every figure is a ratio within one run: each round times the floor
and every approximation once, and the best round of each counts.
"""

import argparse
import math
import time
import tracemalloc

import numpy as np

import refngd as rn
from refngd.arrays import array_module
from refngd.cli.output import versions


class Problem:
    """Widths (784, M, M, C), N unit-norm Gaussian samples, ReLU."""

    def __init__(self, M: int, N: int, C: int, device: str, sigma_b: float = 0.0, dtype: str = "float64") -> None:
        rng = np.random.default_rng(0)
        self.net, self.C = rn.Network((784, M, M, C), sigma_b=sigma_b), C
        x = rng.standard_normal((N, 784))
        self.W = rn.to_device(self.net.init(rng, np.dtype(dtype)), device)
        self.x = rn.to_device((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(dtype), device)
        self.e = rn.to_device(rng.standard_normal((N, C)).astype(dtype), device)
        self.xp = array_module(self.x)
        self.activities = [self.xp.ones((N, k), dtype) for _, k in [*self.net.shapes, (0, C)]]
        self.backwards = [self.xp.ones((N * C, k), dtype) for k in self.net.widths]
        self.out = [self.xp.empty_like(w) for w in self.W]

    def floor(self) -> None:
        h, delta = self.activities, self.backwards
        for l, w in enumerate(self.W):
            self.xp.matmul(h[l], w.T, out=h[l + 1][:, : len(w)])
        for l, w in list(enumerate(self.W))[:0:-1]:
            self.xp.matmul(delta[l + 1], w[:, : self.net.widths[l]], out=delta[l])
        for l, out in enumerate(self.out):
            self.xp.matmul(h[l + 1][:, : len(out)].T, h[l], out=out)

    def step(self, fisher: rn.Fisher) -> None:
        fisher.direction(self.net.signals(self.W, self.x), self.e)

    def peak(self, run) -> float:
        """Peak memory of a run, the weights included, over the bytes of the weights."""
        return 1 + peak_bytes(self.xp, run) / sum(w.nbytes for w in self.W)


def peak_bytes(xp, run) -> int:
    """The most memory that a run holds at once, beyond what there was."""
    if xp is np:
        tracemalloc.start()
        run()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used
    pool = xp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    run()
    return pool.total_bytes() - before


clock = time.perf_counter


def best_seconds(runs: dict, xp, rounds: int) -> dict:
    """The best time of each of `runs`, name -> function, taken in turn."""
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            if xp is not np:
                xp.cuda.Device().synchronize()
            best[name] = min(best[name], clock() - start)
    return best


def table(title: str, problem: Problem, fishers: list, rounds: int) -> None:
    runs = {"floor": problem.floor} | {f: (lambda f=f: problem.step(f)) for f in fishers}
    seconds = best_seconds(runs, problem.xp, rounds)
    print(f"\n{title}: floor {seconds['floor']:.4f} s")
    print(f"{'':34} time / floor   peak memory / weights")
    for f in fishers:
        name = type(f).__name__ + ("" if getattr(f, "refine", True) else ", no refinement")
        print(f"{name:34} {seconds[f] / seconds['floor']:12.2f} {problem.peak(runs[f]):15.2f}")


def growth(fisher: rn.Fisher, device: str, Ms: list[int], Ns: list[int]) -> None:
    """The exponent of the time in the width and in the number of samples, from each size to the next."""
    for letter, sizes, at in (("M", Ms, lambda M: (M, 100)), ("N", Ns, lambda N: (1024, N))):
        times = []
        for size in sizes:
            p = Problem(*at(size), 1, device)
            times.append(best_seconds({0: lambda p=p: p.step(fisher)}, p.xp, 3)[0])
        slopes = ", ".join(f"{p:.2f}" for p in np.diff(np.log(times)) / np.diff(np.log(sizes)))
        print(f"{type(fisher).__name__:20} time ~ {letter}^p, {letter} = {sizes}: p = {slopes}")


def parity(N: int, dtype: str, device: str, rho: float = 1e-3) -> None:
    """The difference between each step on the device and on the CPU, in units of u kappa.

    kappa: the condition number of the damped root of a block, the largest of all; that of K-FAC is the sum of those of
    its two factors.
    """
    rng, u = np.random.default_rng(0), float(np.finfo(dtype).eps) / 2
    net = rn.Network((400, 350, 350, 2), rn.tanh, sigma_b=0.5)
    W, x, e = net.init(rng, np.dtype(dtype)), *(rng.standard_normal((N, k)).astype(dtype) for k in (400, 2))
    s, there = (net.signals(*rn.to_device([W, x], where)) for where in ("cpu", device))
    for fisher in (rn.Exact(), rn.BlockDiagonal(), rn.KFAC(last="gram"), rn.Unitwise()):
        here = rn.flatten(fisher.direction(s, e, rho))
        gap = rn.flatten(rn.to_device(fisher.direction(there, rn.to_device(e, device), rho), "cpu")) - here
        units = float(np.linalg.norm(gap) / np.linalg.norm(here)) / (u * kappa(fisher, s, rho))
        print(f"{dtype}, N = {N:4}: {type(fisher).__name__:15} {units:8.3f} u kappa")


def kappa(fisher: rn.Fisher, s: rn.Signals, rho: float) -> float:
    """See `parity`."""

    def condition(R: np.ndarray) -> float:  # the largest of a stack
        w = np.linalg.eigvalsh(R @ R.mT / len(s.f)) + rho
        return float((w[..., -1] / w[..., 0]).max()) ** 0.5

    layers = list(zip(s.h, s.delta, strict=True))
    if isinstance(fisher, rn.KFAC):
        return max(condition(h) + condition(delta.reshape(s.f.size, -1)) for h, delta in layers)
    if isinstance(fisher, rn.Unitwise):
        return max(condition((d**2).sum(1).T[:, :, None] ** 0.5 * h) for h, d in layers)
    if isinstance(fisher, rn.BlockDiagonal):
        return max(condition(rn.jacobian(s.take([l]))) for l in range(len(layers)))
    return condition(rn.jacobian(s))


def on_a_gpu(device: str, shrink: int) -> None:
    """What `--device gpu` prints: steps at sizes that fill a GPU, and how far they are from those on the CPU."""
    print("TF32 is off:", versions(device))
    for dtype in ("float64", "float32"):
        for N in (20, 100):
            parity(N, dtype, device)
        for M in (4096 // shrink, 16384 // shrink):
            for N in (100, 2000 // shrink):
                fishers = [rn.Identity(), rn.Exact(), rn.BlockDiagonal(), rn.BlockTridiagonal(), rn.KFAC()]
                title = f"{dtype}, (784, {M}, {M}, 1), N = {N}"
                table(title, Problem(M, N, 1, device, dtype=dtype), [*fishers, rn.Entrywise()], 7)
        title, problem = f"{dtype}, (784, 1024, 1024, 1), N = 100", Problem(1024, 100, 1, device, dtype=dtype)
        table(title, problem, [rn.BlockDiagonal(), rn.Unitwise()], 7)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--small", action="store_true", help="a quarter of the widths, to see that it runs")
    parser.add_argument(
        "--processor-time", action="store_true", help="for a machine that others use: with OPENBLAS_NUM_THREADS=1"
    )
    args = parser.parse_args()
    if args.processor_time:
        global clock
        clock = time.process_time
    if args.device == "gpu":
        on_a_gpu(args.device, 16 if args.small else 1)
        return
    M, rounds = (1024, 3) if args.small else (4096, 7)
    layered = [rn.Exact, rn.BlockDiagonal, rn.BlockTridiagonal]
    fishers = [rn.Identity(), *[make(refine=False) for make in layered], *[make() for make in layered]]
    fishers += [rn.KFAC(), rn.Entrywise()]
    for C in (1, 10):
        table(f"(784, {M}, {M}, {C}), N = 100", Problem(M, 100, C, args.device), fishers, rounds)
    biased = Problem(M, 100, 1, args.device, sigma_b=0.1)
    table(f"(784, {M}, {M}, 1) with bias, N = 100", biased, [rn.QuasiDiagonal()], rounds)
    units = [rn.BlockDiagonal(), rn.Unitwise(refine=False), rn.Unitwise()]
    for C in (1, 10):
        table(f"(784, {M // 4}, {M // 4}, {C}), N = 100", Problem(M // 4, 100, C, args.device), units, rounds)
    print()
    for f in (rn.BlockDiagonal(), rn.KFAC(), rn.Unitwise()):
        growth(f, args.device, [M // 8, M // 4, M // 2], [50, 100, 200, 400])


if __name__ == "__main__":
    main()
