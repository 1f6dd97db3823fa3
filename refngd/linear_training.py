"""Training of deep linear networks by a rule of `deep_linear`: in steps, w <- w - eta u, and in time, w' = -eta u."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, array_module, raising, to_device
from .checks import checked_instance, checked_number, checked_positive, checked_values, checked_whole
from .deep_linear import Rule, Statistics, check, displacement, is_saddle, loss, norm, product
from .jacobian import flatten, shaped
from .spectral import largest


@dataclass(frozen=True)
class State:
    """Weights and loss at t, the number of updates in `descend`, the time in `flow`; at t = 0 w is the one given."""

    t: float
    w: list[Array]
    loss: float


# ------------------------------------------------------------------------------------------------------------- in steps


def descend(w: list[Array], data: Statistics, rule: Rule, eta: float, steps: int) -> Iterator[State]:
    """States at t = 0, 1, .., `steps` of w <- w - eta u; w itself is not changed.

    w: the weights, w_i (n_i, n_{i-1}).
    data: the statistics of the samples.
    rule: that of u.
    eta: the learning rate, > 0.
    steps: the number of updates.

    Raises ValueError for bad arguments, at once, and FloatingPointError on the way where the loss stops being finite or
    where a step jumps, see `jump`, over a point at which the u of an unbounded rule is infinite.
    """
    steps, eta = checked_whole("steps", steps, 0), checked_positive("eta", eta)
    _check_start(w, data, rule)
    return _states(w, data, rule, eta, steps)


def _states(w: list[Array], data: Statistics, rule: Rule, eta: float, steps: int) -> Iterator[State]:
    start, before = w, w
    for t in range(steps + 1):
        value = loss(w, data)
        if not math.isfinite(value):
            raise FloatingPointError(f"training diverged at t = {t}: the loss is {value}; lower eta = {eta:.3g}")
        reason = jump(start, before, w, data) if unbounded(rule) else None
        if reason:
            advice = f"lower eta = {eta:.3g}, {_ADVICE}"
            raise FloatingPointError(f"training diverged at t = {t}: {reason}{_signs(start, data, rule)}; {advice}")
        yield State(t, w, value)
        if t < steps:
            before, w = w, [w_i - eta * u_i for w_i, u_i in zip(w, rule.update(w, data), strict=True)]


def unbounded(rule: Rule) -> bool:
    """Whether ||u|| ~ s^{1-2/q} has no bound as a singular value s of J vanishes: q < 2, neither damped nor clipped."""
    return rule.q < 2 and rule.rho == 0 and math.isinf(rule.clip)


def jump(start: list[Array], before: list[Array], after: list[Array], data: Statistics) -> str | None:
    """Why a step of an unbounded rule has jumped over a point where its u is infinite, or None if it has not.

    start, before, after: the weights at t = 0, before the step and after it.

    If all layers are square, J is singular where two of them are. Say w_k^T a = 0 and w_m b = 0, k > m, and Lambda =
    x y^T with (w_d .. w_{k+1})^T x = a and w_{m-1} .. w_1 S y = b, or 0 where these are singular: L_i^T x = 0 for i < k
    and R_i y = 0 for i > m, so that L_i^T Lambda R_i^T = 0 for all i. Where one layer alone is singular J is regular,
    and w_bar crosses a singular map unharmed. So a step has jumped

    * if all layers are square, Sigma_x is regular, and the determinants of two of them changed sign in it;
    * if ||E|| is more than twice what it was at t = 0. In time no such rule raises it: (||E||^2)' = -2 eta u . g <= 0.
      Rounding, which is sqrt(eps) of the map wanted at the most, is let pass.
    """
    signs = [_sign(a) * _sign(b) for a, b in zip(before, after, strict=True)]
    changed = [i for i, sign in enumerate(signs, 1) if sign < 0]
    if len(changed) > 1 and data.is_regular and all(w_i.shape[0] == w_i.shape[1] for w_i in after):
        names = " and ".join(f"w_{i}" for i in changed)
        return f"det of {names} changed sign in one step, which jumped over a singular J, where u is infinite"
    rounding = float(np.finfo(data.w_star.dtype).eps) ** 0.5 * norm([data.w_star @ data.root])
    first, now = max(norm([displacement(start, data)]), rounding), norm([displacement(after, data)])
    if now > 2 * first:
        return f"||E|| is {now / first:.3g} times what it was at t = 0, and no such flow raises it: a step has jumped"
    return None


def _sign(w: Array) -> int:
    """The sign of det w, 0 if w is not square."""
    if w.shape[0] != w.shape[1]:
        return 0
    xp = array_module(w)
    with raising(xp):
        return int(xp.linalg.slogdet(w)[0])


# -------------------------------------------------------------------------------------------------------------- in time


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
    """States of w' = -eta u at `times`, from w at t = 0.

    w: the weights, w_i (n_i, n_{i-1}), in float64.
    data: the statistics of the samples.
    rule: that of u.
    times: numbers >= 0, each larger than the one before.
    eta: the learning rate, > 0.
    converged: if ||E|| falls to this share of its first value, the last state is that, and later times are left out;
        where ||E|| is 0 from the start none is.
    tolerance: of each step of SciPy's DOP853, which works on the host in float64: this share of each weight, and of
        the largest at t = 0.
    evaluations: the largest number of evaluations of u.

    Raises ValueError for bad arguments, at once, and FloatingPointError where steps fall below rounding or
    `evaluations` do not suffice: the flow blows up, or gets stuck, as that of an undamped rule may where J loses rank.
    Under NGD w_bar goes straight to w_star; if the two are square, with determinants of opposite sign, it meets a
    singular map, where u is infinite unless the c_i keep J regular.
    """
    from scipy.integrate import solve_ivp

    times = _checked_times(times)
    converged = checked_number("converged", converged, "a number in [0, 1)", lambda v: 0 <= v < 1)
    tolerance = checked_number("tolerance", tolerance, "a number in [1e-13, 1)", lambda v: 1e-13 <= v < 1)
    _check_start(w, data, rule)
    velocity, theta = _Velocity(w, data, rule, checked_positive("eta", eta), evaluations), _to_theta(w)
    start = velocity.error(theta)
    if not (start and times[-1]):  # at rest, or the start alone
        return [State(float(t), w, loss(w, data)) for t in times]

    def excess(t: float, theta: np.ndarray) -> float:
        return velocity.error(theta) - converged * start

    excess.terminal = True
    options = dict(rtol=tolerance, atol=tolerance * largest(theta), events=excess if converged else None)
    with np.errstate(all="ignore"):  # of a velocity so large that no step is small enough
        solution = solve_ivp(velocity, (0.0, times[-1]), theta, "DOP853", times, **options)
    if solution.status < 0:
        raise FloatingPointError(velocity.report("it needs steps below rounding"))
    # SciPy leaves y a list where no time was reached
    reached = [*zip(solution.t, np.transpose(solution.y), strict=True)]
    if solution.status == 1:
        reached.append((solution.t_events[0][0], solution.y_events[0][0]))
    weights = [(float(t), velocity.weights(y)) for t, y in reached]
    return [State(t, w_t, loss(w_t, data)) for t, w_t in weights]


class _Velocity:
    """w' of `flow`, as a function of time and of theta (P,), all weights in one vector on the host."""

    def __init__(self, w: list[Array], data: Statistics, rule: Rule, eta: float, limit: int) -> None:
        if w[0].dtype != np.float64:
            raise ValueError(f"w is {w[0].dtype}; expected float64, in which the integrator works")
        self.w, self.data, self.rule, self.eta, self.left = w, data, rule, eta, checked_whole("evaluations", limit, 1)
        self.t, self.size = 0.0, 0.0

    def __call__(self, t: float, theta: np.ndarray) -> np.ndarray:
        if not np.isfinite(theta).all():
            raise FloatingPointError(f"eta = {self.eta:.3g} is too large: w leaves the range of float64")
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
        return f"{text}{_signs(self.w, self.data, self.rule)}; u is not continuous where J loses rank: {_ADVICE}"


_ADVICE = "damp it (rho > 0), or choose other initial weights"


def _signs(w: list[Array], data: Statistics, rule: Rule) -> str:
    """What to add for undamped NGD if w_bar and w_star are square and regular, with determinants of opposite sign."""
    maps = to_device([product(w), data.w_star], "cpu")
    opposite = _sign(maps[0]) * _sign(maps[1]) < 0 and all(np.linalg.matrix_rank(a) == len(a) for a in maps)
    if rule.q == 1 and not rule.rho and opposite and data.is_regular:
        return "; det w_bar at t = 0 and det w_star have opposite signs, so NGD's w_bar meets a singular one"
    return ""


def _to_theta(w: list[Array]) -> np.ndarray:
    return to_device(flatten(w), "cpu")


def _checked_times(times: Sequence[float]) -> np.ndarray:
    """times as an array, if they are finite, >= 0 and ascend."""
    t = to_device(checked_values("times", times), "cpu").astype(float)
    if not (t.ndim == 1 and t.size and t[0] >= 0 and (np.diff(t) > 0).all() and np.isfinite(t).all()):
        raise ValueError(f"times is {times}; expected finite numbers >= 0, each larger than the one before")
    return t


def _check_start(w: list[Array], data: Statistics, rule: Rule) -> None:
    checked_instance("rule", rule, Rule, "a Rule")
    check(w, data)
    if is_saddle(w, data):
        raise ValueError(
            "w is a saddle point where J = 0, as all-zero weights are: every update is 0 there; "
            "expected at most one layer of zeros, such as small random weights"
        )
