"""Seconds of one update of a deep linear network, beside the singular value decomposition of its explicit Jacobian.

    python -m bench.linear [--device cpu|gpu] [--small]

Depth 4, widths M, weights and data of Huh, section 6. Every figure is a ratio within one run, the best of its
rounds. At M = 64 the Jacobian would be 16384 x 4096, and H_+ 16384 x 16384: there the updates are timed
alone, once.
"""

import argparse

from refngd import to_device
from refngd.arrays import Array, array_module
from refngd.deep_linear import Statistics, displacement, partial_pairs
from refngd.experiments import RULES as SETTINGS
from refngd.experiments import teacher_student_problem

from .speed import best_seconds

RULES = {name: rule for name, (rule, _, _) in SETTINGS.items()}


def problem(width: int, device: str) -> tuple[list[Array], Statistics]:
    w, data, _ = teacher_student_problem(0, width)
    return to_device(w, device), Statistics(to_device(data.w_star, device))


def svd_update(w: list[Array], data: Statistics) -> list[Array]:
    """sqrt-NGD by the polar factor of J (P, N^2), which is formed: the definition, to compare with."""
    xp = array_module(w[0])
    J = xp.concatenate([xp.kron(R, L.T) for L, R in partial_pairs(w, data.S)])
    U, _, Vt = xp.linalg.svd(J, full_matrices=False)
    u = U @ (Vt @ displacement(w, data).T.ravel())
    return [part.reshape(w_i.T.shape).T for part, w_i in zip(u.reshape(len(w), -1), w, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--small", action="store_true", help="few rounds, and M = 24 in the place of 64")
    args = parser.parse_args()
    w, data = problem(16, args.device)
    xp = array_module(w[0])
    runs = {"SVD of J": lambda: svd_update(w, data)}
    runs |= {name: (lambda rule=rule: rule.update(w, data)) for name, rule in RULES.items()}
    seconds = best_seconds(runs, xp, 3 if args.small else 20)
    print(f"M = 16: one update by the SVD of J, {seconds['SVD of J']:.4f} s; the others over it")
    for name in RULES:
        print(f"{name:12} {seconds[name] / seconds['SVD of J']:8.4f}")
    M = 24 if args.small else 64
    w, data = problem(M, args.device)
    print(f"\nM = {M}: seconds of one update, K being {M * M} x {M * M}")
    for name in RULES:
        print(f"{name:12} {best_seconds({name: lambda name=name: RULES[name].update(w, data)}, xp, 1)[name]:8.3f}")


if __name__ == "__main__":
    main()
