"""What each approximation keeps of the Fisher matrix: |G| of a small network, a panel for each, as a picture.

    python -m bench.structure [--out FILE]

The README shows it.
"""

import argparse
from pathlib import Path

import numpy as np

import refngd as rn
from refngd.cli.output import subplots

FISHERS = {
    "exact": rn.Exact(),
    "block tri-diagonal": rn.BlockTridiagonal(),
    "block-diagonal": rn.BlockDiagonal(),
    "K-FAC": rn.KFAC(last="gram"),
    "unit-wise": rn.Unitwise(),
    "quasi-diagonal": rn.QuasiDiagonal(),
    "diagonal": rn.Entrywise(),
    "gradient descent": rn.Identity(),
}
NETWORK = rn.Network((4, 5, 4, 1), rn.tanh, sigma_w=2**0.5, sigma_b=0.5)


def matrices(samples: int = 40, seed: int = 9) -> dict[str, np.ndarray]:
    """G (P, P) of every approximation for random weights and inputs of unit variance; seed 9 draws no idle unit."""
    rng = np.random.default_rng(seed)
    s = NETWORK.signals(NETWORK.init(rng), rng.standard_normal((samples, NETWORK.widths[0])))
    return {name: fisher.matrix(s) for name, fisher in FISHERS.items()}


def draw(G: dict[str, np.ndarray], path: Path) -> None:
    """The picture: log |G| from yellow to blue, white where G is zero, with lines between the layers."""
    from matplotlib.colors import LogNorm

    stops = np.cumsum([M * k for M, k in NETWORK.shapes])
    P, largest = int(stops[-1]), max(abs(matrix).max() for matrix in G.values())
    middles = (stops + np.concatenate([[0], stops[:-1]])) / 2 - 0.5
    figure, axes = subplots(2, 4, (11, 6.1))
    for axis, (name, matrix) in zip(axes.ravel(), G.items(), strict=True):
        size = np.where(matrix == 0, np.nan, abs(matrix))  # nan is drawn in white
        image = axis.imshow(size, cmap="YlGnBu", norm=LogNorm(1e-4 * largest, largest), interpolation="nearest")
        kept = np.count_nonzero(matrix)
        axis.set_title(f"{name}\n{kept} of {P * P} entries", fontsize=10)
        for stop in stops[:-1]:
            axis.axhline(stop - 0.5, color="grey", linewidth=0.6)
            axis.axvline(stop - 0.5, color="grey", linewidth=0.6)
        axis.set_xticks(middles, [f"$W_{l}$" for l in range(1, len(stops) + 1)])
        axis.set_yticks(middles, [f"$W_{l}$" for l in range(1, len(stops) + 1)])
        axis.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="|G|", shrink=0.8)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.structure", description=(__doc__ or "").partition("\n")[0])
    default = Path(__file__).parent / "pictures" / "structure.png"
    parser.add_argument("--out", type=Path, default=default, metavar="FILE", help="default: %(default)s")
    draw(matrices(), parser.parse_args(argv).out)


if __name__ == "__main__":
    main()
