"""Launches and syncs of a step of each approximation on the GPU, counted on the stand-in for CuPy of the tests.

    python -m bench.launches

A launch is a call that makes an array or writes to one, a factorisation being one; a sync is a number or a copy for
which the host waits. `signals` and `direction` of widths (60, 400, 400, C), tanh, N = 50, float64, rho = 0 and 0.1.
"""

import warnings

import numpy as np

import refngd as rn
from tests import stand_in

FISHERS = (
    rn.Identity(), rn.Exact(), rn.BlockDiagonal(), rn.BlockTridiagonal(), rn.KFAC(), rn.Unitwise(), rn.Entrywise(),
    rn.QuasiDiagonal(),
)  # fmt: skip


def main() -> None:
    stand_in.install()
    rng = np.random.default_rng(0)
    print(f"{'launches, syncs':20}" + "".join(f"{f'C = {C}, rho = {rho}':>18}" for C in (1, 3) for rho in (0, 0.1)))
    rows: dict[str, list[tuple[int, int]]] = {}
    for C in (1, 3):
        net = rn.Network((60, 400, 400, C), rn.tanh, sigma_b=0.1)
        W, x, e = rn.to_device([net.init(rng), rng.standard_normal((50, 60)), rng.standard_normal((50, C))], "gpu")
        s = net.signals(W, x)
        for rho in (0, 0.1):
            runs = {"signals": lambda net=net, W=W, x=x: net.signals(W, x)}
            runs |= {type(f).__name__: lambda f=f, s=s, e=e, rho=rho: f.direction(s, e, rho) for f in FISHERS}
            for name, run in runs.items():
                rows.setdefault(name, []).append(stand_in.count(run))
    for name, counts in rows.items():
        print(f"{name:20}" + "".join(f"{launches:10d}, {syncs:6d}" for launches, syncs in counts))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "rho = .* lies among")
        main()
