"""Training of deep linear networks, w <- w - eta u or w' = -eta u, and the rules of Huh, section 6, side by side."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .activations import linear
from .arrays import Array, array_module, raising, to_device
from .checks import checked_rate, checked_whole
from .datasets import teacher_student
from .deep_linear import Rule, Statistics, check, conserved, displacement, loss, norm, partial_pairs, product
from .jacobian import flatten, shaped
from .network import Network


@dataclass(frozen=True)
class State:
    """Weights and loss at t, the number of updates in `descend`, the time in `flow`; at t = 0 w is the one given."""

    t: float
    w: list[Array]
    loss: float


def descend(w: list[Array], data: Statistics, rule: Rule, eta: float, steps: int) -> Iterator[State]:
    """States at t = 0, 1, .., `steps` of w <- w - eta u; w itself is not changed.

    Raises ValueError for bad arguments, at once, and FloatingPointError if the loss stops being finite, on the way.
    """
    steps, eta = checked_whole("steps", steps, 0), checked_rate(eta)
    _check_start(w, data)
    return _states(w, data, rule, eta, steps)


def _states(w, data, rule, eta, steps) -> Iterator[State]:
    for t in range(steps + 1):
        value = loss(w, data)
        if not math.isfinite(value):
            raise FloatingPointError(f"training diverged at t = {t}: the loss is {value}; lower eta = {eta:.3g}")
        yield State(t, w, value)
        if t < steps:
            w = [w_i - eta * u_i for w_i, u_i in zip(w, rule.update(w, data), strict=True)]


def flow(
    w: list[Array],
    data: Statistics,
    rule: Rule,
    times: Sequence[float],
    eta: float = 1.0,
    converged: float = 0.0,
    tolerance: float = 1e-11,
    evaluations: int = 20_000,
) -> list[State]:
    """States of w' = -eta u at `times` >= 0, each later than the one before, from w at t = 0.

    If ||E|| falls to `converged` times its first value, the last state is that, and later times are left out.
    tolerance: of each step of SciPy's DOP853, on the host in float64. Raises ValueError for bad arguments, at once, and
    FloatingPointError where steps fall below rounding or `evaluations` of u do not suffice: the flow blows up, or gets
    stuck, as that of an undamped rule may where J loses rank. Under NGD w_bar goes straight to w_star; if the two are
    square, with determinants of opposite sign, it meets a singular map, where u is infinite unless the c_i keep J
    regular. (Steps of `descend` jump over such a point.)
    """
    from scipy.integrate import solve_ivp

    times = _checked_flow(w, data, times, converged, tolerance)
    velocity, theta = _Velocity(w, data, rule, checked_rate(eta), evaluations), _to_theta(w)
    start = velocity.error(theta)

    def excess(t: float, theta: np.ndarray) -> float:
        return velocity.error(theta) - converged * start

    excess.terminal = True
    states, later = [State(0.0, w, loss(w, data))] * int(times[0] == 0), times[times > 0]
    if not later.size:
        return states
    options = dict(rtol=tolerance, atol=tolerance * norm(w) / math.sqrt(theta.size))
    options["events"] = excess if converged * start > 0 else None
    solution = solve_ivp(velocity, (0.0, later[-1]), theta, "DOP853", later, **options)
    if solution.status < 0:
        raise FloatingPointError(velocity.report("it needs steps below rounding"))
    # SciPy leaves y a list where no time was reached
    reached = [*zip(solution.t, np.transpose(solution.y), strict=True)]
    if solution.status == 1:
        reached.append((solution.t_events[0][0], solution.y_events[0][0]))
    weights = [(float(t), velocity.weights(y)) for t, y in reached]
    return states + [State(t, w_t, loss(w_t, data)) for t, w_t in weights]


RULES = {  # of Huh, section 6, for `datasets.teacher_student`: the rule, eta, the number of steps
    "SGD": (Rule(math.inf), 0.02, 8000),
    "NGD": (Rule(1, rho=1e-5, clip=10), 0.02, 300),
    "sqrt-NGD": (Rule(2), 0.02, 250),
    "NGD-d": (Rule(1, block=True, rho=1e-5, clip=10), 0.02, 300),
    "sqrt-NGD-d": (Rule(2, block=True), 0.02, 500),
}
RULES_RAW = RULES | {"SGD": (Rule(math.inf), 0.005, 16000)}  # a large eigenvalue of Sigma_x makes 0.02 unstable


def teacher_student_problem(
    seed: int,
    N: int = 16,
    depth: int = 4,
    P: int | None = None,
    singular_values: Sequence[float] = (4.0, 3.0, 2.0),
    noise: float = 0.3,
    whiten: bool = True,
    sigma_w: float = 0.2,
) -> tuple[list[np.ndarray], Statistics, np.ndarray]:
    """Weights w_i ~ N(0, sigma_w^2 / N) (N, N), the statistics of `datasets.teacher_student`, and its teacher (N, N).

    Data and weights are drawn from the two generators that `default_rng(seed)` spawns. Raises ValueError.
    """
    data_rng, weight_rng = np.random.default_rng(checked_whole("seed", seed, 0)).spawn(2)
    x, y, teacher = teacher_student(data_rng, N, P, singular_values, noise, whiten)
    net = Network((N,) * (checked_whole("depth", depth, 1) + 1), linear, sigma_w, parameterization="standard")
    data = Statistics.of(x, y)
    if whiten:  # S = I but for rounding
        data = Statistics(data.w_star, const=data.const)
    return net.init(weight_rng), data, teacher


@dataclass
class Trajectory:
    """What one rule does from w to its last step.

    t (T,): the steps recorded, both ends among them. At each of them: loss, of training; excess, the test loss beyond
    the teacher's own, ||w_bar - teacher||_F^2 / 2 for white test inputs; modes (T, k), u_a^T w_bar v_a in the singular
    vectors of w_star, strongest first; conserved (T, d-1), ||c_i||_F; entries, the first 4 x 4 of w_2, w_3, c_2.
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
    """Train by `rule`, recording about `records` >= 2 steps evenly and as many logarithmically. teacher (n_out, n_in).

    Raises as `descend`, at once and where not even the initial loss is finite; what ends training later is reported.
    """
    if teacher.shape != data.w_star.shape:
        raise ValueError(f"teacher has shape {teacher.shape}; expected {data.w_star.shape} as w_star")
    with raising(array_module(data.w_star)):
        U, _, Vt = array_module(data.w_star).linalg.svd(data.w_star, full_matrices=False)
    even, logarithmic = (
        np.linspace(0, steps, checked_whole("records", records, 2)),
        np.geomspace(1, max(steps, 1), records),
    )
    recorded, r = {*np.rint([*even, *logarithmic]).astype(int).tolist()}, Trajectory()
    try:
        for state in descend(w, data, rule, eta, steps):
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


class _Velocity:
    """w' of `flow`, as a function of time and of theta (P,), all weights in one vector on the host."""

    def __init__(self, w: list[Array], data: Statistics, rule: Rule, eta: float, limit: int) -> None:
        self.w, self.data, self.rule, self.eta, self.left = w, data, rule, eta, checked_whole("evaluations", limit, 1)
        self.t, self.size = 0.0, 0.0

    def __call__(self, t: float, theta: np.ndarray) -> np.ndarray:
        u = self.rule.update(self.weights(theta), self.data)
        self.left, self.t, self.size = self.left - 1, t, max(self.size, norm(u))
        if self.left < 0:
            raise FloatingPointError(self.report("it takes too many evaluations of u"))
        return -self.eta * _to_theta(u)

    def weights(self, theta: np.ndarray) -> list[Array]:
        return shaped(array_module(self.w[0]).asarray(theta), [w_i.shape for w_i in self.w])

    def error(self, theta: np.ndarray) -> float:
        return norm([displacement(self.weights(theta), self.data)])

    def report(self, why: str) -> str:
        """What to say of a flow that ends here."""
        text = f"the flow ends at t = {self.t:.9g}, ||u|| having reached {self.size:.3g}: {why}"
        if self.rule.q == 1 and not self.rule.rho and self._changes_sign():
            text += "; det w_bar at t = 0 and det w_star have opposite signs, so NGD's w_bar meets a singular one"
        return text + "; u is not continuous where J loses rank: damp it (rho > 0), or choose other initial weights"

    def _changes_sign(self) -> bool:
        """Whether w_bar and w_star are square and regular, with determinants of opposite sign."""
        maps = to_device([product(self.w), self.data.w_star], "cpu")
        regular = maps[0].shape[0] == maps[0].shape[1] and all(np.linalg.matrix_rank(m) == len(m) for m in maps)
        return bool(regular and math.prod(np.linalg.slogdet(m)[0] for m in maps) < 0)


def _to_theta(w: list[Array]) -> np.ndarray:
    return to_device(flatten(w), "cpu")


def _checked_flow(w, data, times, converged, tolerance) -> np.ndarray:
    """times as an array, or ValueError for what `flow` cannot take."""
    times = np.asarray(times, dtype=float)
    ascending = times.ndim == 1 and times.size and times[0] >= 0 and (np.diff(times) > 0).all()
    if not (ascending and np.isfinite(times).all()):
        raise ValueError(f"times is {times}; expected finite numbers >= 0, each larger than the one before")
    if not 0 <= converged < 1:
        raise ValueError(f"converged is {converged}; expected a number in [0, 1)")
    if not 1e-13 <= tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; expected a number in [1e-13, 1)")
    _check_start(w, data)
    if w[0].dtype != np.float64:
        raise ValueError(f"w is {w[0].dtype}; expected float64, in which the integrator works")
    return times


def _check_start(w: list[Array], data: Statistics) -> None:
    check(w, data)
    if not any((abs(L).max() > 0) & (abs(R).max() > 0) for L, R in partial_pairs(w, data.S)):
        raise ValueError(
            "w is a saddle point where J = 0, as all-zero weights are: every update is 0 there; "
            "expected at most one layer of zeros, such as small random weights"
        )
