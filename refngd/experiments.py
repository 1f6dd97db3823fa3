"""What the two commands and the figures run."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np

from .activations import linear
from .arrays import Array, array_module, raising
from .checks import checked_array, checked_damping, checked_instance, checked_positive, checked_whole
from .datasets import Data, accuracy, teacher_student
from .deep_linear import Rule, Statistics, conserved, norm, product
from .dynamics import Dynamics, Isotropy, isotropy, optimal_rate
from .fisher import Fisher
from .linear_training import State, descend
from .losses import Loss, mse
from .network import Network
from .training import checked_method, linearized_training, train

# ------------------------------------------- Deep linear networks, Huh section 6: `refngd linear`, Figs. 4, 5, S.I.1

RULES = {  # for `teacher_student_problem`: the rule, eta, the number of steps
    "SGD": (Rule(math.inf), 0.02, 8000),
    "NGD": (Rule(1, rho=1e-5, clip=10), 0.02, 300),
    "sqrt-NGD": (Rule(2), 0.02, 250),
    "NGD-d": (Rule(1, block=True, rho=1e-5, clip=10), 0.02, 300),
    "sqrt-NGD-d": (Rule(2, block=True), 0.02, 500),
}
RULES_RAW = RULES | {"SGD": (Rule(math.inf), 0.005, 16000)}  # a large eigenvalue of Sigma_x makes 0.02 unstable


def teacher_student_problem(
    seed: int,
    width: int = 16,
    depth: int = 4,
    N: int | None = None,
    singular_values: Sequence[float] = (4.0, 3.0, 2.0),
    noise: float = 0.3,
    whiten: bool = True,
    sigma_w: float = 0.2,
) -> tuple[list[np.ndarray], Statistics, np.ndarray]:
    """The start of the experiment: initial weights, the statistics of `datasets.teacher_student`, and its teacher.

    seed: data and weights are drawn from the two generators that `default_rng(seed)` spawns.
    width: of the inputs, the outputs and each hidden layer; Huh's N.
    depth: the number d of layers of weights.
    N: the number of samples, by default `width`; Huh's P.
    singular_values, noise, whiten: those of `datasets.teacher_student`.
    sigma_w: the weights are w_i ~ N(0, sigma_w^2 / width) (width, width).

    Raises ValueError for bad arguments.
    """
    data_rng, weight_rng = np.random.default_rng(checked_whole("seed", seed, 0)).spawn(2)
    x, y, teacher = teacher_student(data_rng, width, N, singular_values, noise, whiten)
    net = Network((width,) * (checked_whole("depth", depth, 1) + 1), linear, sigma_w, parameterization="standard")
    data = Statistics.of(x, y)
    if whiten and data.is_regular:  # S = I but for rounding
        data = Statistics(data.w_star, const=data.const)
    return net.init(weight_rng), data, teacher


@dataclass
class Trajectory:
    """What one rule does from the initial weights to its last step.

    t: (T,), the steps recorded, both ends among them. At each of them:
    loss: (T,), of training.
    excess: (T,), the test loss beyond the teacher's own, ||w_bar - teacher||_F^2 / 2 for white test inputs.
    modes: (T, k), u_a^T w_bar v_a in the singular vectors of w_star, strongest first.
    conserved: (T, d-1), ||c_i||_F.
    entries: the first 4 x 4 of w_2, w_3, c_2, each (T, 16) or what there is.
    best, best_excess: the step of least excess among all steps, where early stopping would end, and the excess there.
    stopped: why training ended early, or None.
    """

    t: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)
    modes: list[list[float]] = field(default_factory=list)
    conserved: list[list[float]] = field(default_factory=list)
    entries: dict[str, list[list[float]]] = field(default_factory=dict)
    best: int = 0
    best_excess: float = math.inf
    stopped: str | None = None


def trajectory(
    w: list[Array], data: Statistics, teacher: Array, rule: Rule, eta: float, steps: int, records: int = 200
) -> Trajectory:
    """Train by `descend`, and record.

    w, data, rule, eta, steps: those of `descend`.
    teacher: (n_out, n_in), the map that the excess test loss is measured from.
    records: about as many steps are recorded evenly, and as many again logarithmically, at least 2.

    Raises as `descend`, at once and where not even the initial loss is finite; what ends training later is reported in
    `stopped`.
    """
    checked_instance("data", data, Statistics, "the Statistics of a data set")
    checked_array("teacher", teacher, data.w_star.shape, data.w_star)
    xp, checked_records = array_module(data.w_star), checked_whole("records", records, 2)
    with raising(xp):
        U, _, Vt = xp.linalg.svd(data.w_star, full_matrices=False)
    states, r = descend(w, data, rule, eta, steps), Trajectory()
    even, logarithmic = np.linspace(0, steps, checked_records), np.geomspace(1, max(steps, 1), checked_records)
    recorded = {*np.rint([*even, *logarithmic]).astype(int).tolist()}
    try:
        for state in states:
            w_bar = product(state.w)
            excess = norm([w_bar - teacher]) ** 2 / 2
            if excess < r.best_excess:
                r.best, r.best_excess = int(state.t), excess
            if state.t in recorded:
                _record(r, state, excess, (U.T @ w_bar @ Vt.T).diagonal().tolist())
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        if not r.t:
            raise
        r.stopped = str(error)
    return r


def _record(r: Trajectory, state: State, excess: float, modes: list[float]) -> None:
    c = conserved(state.w)
    r.t.append(int(state.t))
    r.loss.append(state.loss)
    r.excess.append(excess)
    r.modes.append(modes)
    r.conserved.append([norm([c_i]) for c_i in c])
    for name, matrices in (("w_2", state.w[1:2]), ("w_3", state.w[2:3]), ("c_2", c[1:2])):
        for matrix in matrices:  # none in shallower networks
            r.entries.setdefault(name, []).append(matrix[:4, :4].ravel().tolist())


# ------------------------------------------- One approximation, measured and predicted: `refngd run`, Figs. of K&O


@dataclass
class Comparison:
    """One approximation, trained and predicted. Lists run over t = 0, 1, .., and end early where the numbers overflow.

    rho: the damping.
    eta: the learning rate.
    alpha: theory's isotropy constant, None if there is none or rho > 0 or q > 1.
    isotropy: of Theta_bar at initialisation, of the whitened outputs (`losses`).
    loss: on the training set, measured.
    theory_loss: of the linearised network, for the MSE loss by K&O (10).
    accuracy, theory_accuracy: the same on the test set.
    stopped: why training ended early, or None.
    """

    rho: float
    eta: float
    alpha: float | None
    isotropy: Isotropy
    loss: list[float] = field(default_factory=list)
    theory_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    theory_accuracy: list[float] = field(default_factory=list)
    stopped: str | None = None


def compare(
    net: Network,
    W: list[Array],
    data: Data,
    fisher: Fisher,
    steps: int,
    factor: float = 1.0,
    rho: float = 0.0,
    q: float = 1,
    loss: Loss = mse,
    frozen: int | Collection = 0,
) -> Comparison:
    """Train from W with eta = factor / lambda_max(Theta_bar), that is factor / alpha where isotropic, and predict.

    data: the training and the test set.
    factor: what the optimal learning rate is multiplied by; training diverges from 2 on.
    net, W, fisher, steps, rho, q, loss, frozen: those of `train`.

    Raises as `Fisher.coefficient` and `train`; a FloatingPointError in training is reported in the result.
    """
    checked_instance("net", net, Network, "a Network")
    checked_instance("data", data, Data, "a Data of refngd.datasets")
    checked_method(fisher, loss)
    steps, factor, (rho, q) = (
        checked_whole("steps", steps, 0),
        checked_positive("factor", factor),
        checked_damping(rho, q),
    )
    s, s_test = (net.signals(W, x).above(frozen) for x in (data.x, data.x_test))
    whitened, _ = loss.whiten(s, data.y)
    Theta_bar = fisher.coefficient(whitened, whitened, rho, q)
    known = rho == 0 and q == 1 and (loss == mse or (fisher.isotropic_for_any_loss and loss.is_regular))
    alpha = fisher.alpha(net, len(data.x), frozen) if known else None
    result = Comparison(rho, factor * optimal_rate(Theta_bar), alpha, isotropy(Theta_bar))
    outputs = _theory([s, s_test], data.y, fisher, Theta_bar, result.eta, rho, q, loss)
    with suppress(FloatingPointError):
        for f, f_test in islice(outputs, steps + 1):
            result.theory_loss.append(loss.value(f, data.y))
            result.theory_accuracy.append(accuracy(f_test, data.y_test))
    try:
        for step in train(net, W, data.x, data.y, fisher, result.eta, steps, rho, q, loss, frozen):
            result.loss.append(step.loss)
            result.accuracy.append(accuracy(net.forward(step.W, data.x_test), data.y_test))
    except FloatingPointError as error:
        result.stopped = str(error)
    return result


def _theory(sets, y, fisher, Theta_bar, eta, rho, q, loss) -> Iterator[list[Array]]:
    """Outputs on both sets of signals after t = 0, 1, .. steps of the linearised network: K&O (10) for mse."""
    if loss != mse:
        return linearized_training(sets, y, fisher, eta, rho, q, loss)
    s, s_test = sets
    cross, dynamics = fisher.coefficient(s_test, s, rho, q), Dynamics(Theta_bar, s.f, y, eta)
    return ([dynamics.predict(Theta_bar, s.f, t), dynamics.predict(cross, s_test.f, t)] for t in count())
