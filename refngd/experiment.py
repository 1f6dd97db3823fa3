"""Theory and training side by side: what `refngd run` measures, for use from code."""

from contextlib import suppress
from dataclasses import dataclass, field

from .datasets import Data, accuracy
from .dynamics import Dynamics, Isotropy, isotropy, optimal_rate
from .fisher import Fisher
from .losses import mse
from .network import Network
from .spectral import eigenvalues
from .training import train


@dataclass
class Comparison:
    """One approximation, trained and predicted. Lists run over t = 0, 1, .., and end early where the numbers overflow.

    eta: learning rate; alpha: theory's isotropy constant or None; isotropy, spectrum: of Theta_bar at initialisation;
    loss, accuracy: measured on the training and the test set; theory_loss, theory_accuracy: predicted by K&O (10);
    diverged: why training ended early, or None.
    """

    eta: float
    alpha: float | None
    isotropy: Isotropy
    spectrum: list[float]
    loss: list[float] = field(default_factory=list)
    theory_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    theory_accuracy: list[float] = field(default_factory=list)
    diverged: str | None = None


def compare(
    net: Network,
    W: list,
    data: Data,
    fisher: Fisher,
    steps: int,
    factor: float = 1.0,
    rho: float = 0.0,
    q: float = 1,
) -> Comparison:
    """Train from W with eta = factor / lambda_max(Theta_bar), that is factor / alpha where isotropic, and predict.

    Raises as `Fisher.coefficient` and `train`; divergence is reported in the result.
    """
    s, s_test = net.signals(W, data.x), net.signals(W, data.x_test)
    Theta_bar = fisher.coefficient(s, s, rho, q)
    cross = fisher.coefficient(s_test, s, rho, q)
    eta = factor * optimal_rate(Theta_bar)
    result = Comparison(eta, fisher.alpha(net, len(data.x)), isotropy(Theta_bar), eigenvalues(Theta_bar).tolist())
    with suppress(FloatingPointError):
        dynamics = Dynamics(Theta_bar, s.f, data.y, eta)
        for t in range(steps + 1):
            f, f_test = dynamics.predict(Theta_bar, s.f, t), dynamics.predict(cross, s_test.f, t)
            result.theory_loss.append(mse.value(f, data.y))
            result.theory_accuracy.append(accuracy(f_test, data.y_test))
    del s, s_test
    try:
        for step in train(net, W, data.x, data.y, fisher, eta, steps, rho, q):
            result.loss.append(step.loss)
            result.accuracy.append(accuracy(net.forward(step.W, data.x_test), data.y_test))
    except FloatingPointError as error:
        result.diverged = str(error)
    return result
