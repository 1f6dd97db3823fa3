"""How a deviation from theory falls with the width: a power of M, fitted over widths and seeds."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PowerLaw:
    """y = factor x^power, least squares of logarithms; error: the standard error of the power, of their scatter."""

    power: float
    error: float
    factor: float

    def __str__(self) -> str:
        return f"{self.power:.2f} +- {self.error:.2f}"


def power_law(x: list[float], y: np.ndarray) -> PowerLaw:
    """The law of y (len(x), seeds) > 0, len(x) >= 3; with numbers that are not finite the power is nan."""
    X, Y = np.repeat(np.log(x), y.shape[1]), np.log(y).ravel()
    if not np.isfinite(Y).all():
        return PowerLaw(math.nan, math.nan, math.nan)
    X_c = X - X.mean()
    power = float(X_c @ Y / (X_c @ X_c))
    rest = Y - Y.mean() - power * X_c
    error = math.sqrt(float(rest @ rest) / (len(Y) - 2) / float(X_c @ X_c))
    return PowerLaw(power, error, math.exp(float(Y.mean() - power * X.mean())))


def width_verdict(what: str, widths: list[int], deviations: np.ndarray) -> tuple[str, bool]:
    """The claim of Theorem A.3, a bound: what deviates from theory falls as M^(-1/2) or faster, within two errors.

    deviations: (widths, seeds). The fall has to be seen, too: the power is below 0 by two errors.
    """
    law, last = power_law(widths, deviations), deviations[-1]
    means = np.exp(np.log(np.maximum(deviations, 1e-300)).mean(1))
    listed = ", ".join(f"{100 * mean:.2g} % at M = {M}" for M, mean in zip(widths, means, strict=True))
    text = (
        f"{what}: {listed} ({100 * last.min():.2g} to {100 * last.max():.2g} % over {len(last)} seeds) of the first "
        f"residual, as M^({law}); theory bounds it by M^(-1/2)"
    )
    return text, law.power - 2 * law.error <= -0.5 and law.power + 2 * law.error < 0
