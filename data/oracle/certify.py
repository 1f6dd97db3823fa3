"""A case made certain: evaluated at 50 and at 100 digits, with condition numbers, and rounded to float64."""

import math

from mpmath import mp

from . import linalg as la
from .arrays import flatten, like
from .operations import FALLBACK, GRAMS, OPERATIONS, SYMMETRIC

DIGITS = 50
PERTURBATION = 10  # relative changes of 10^-10 of the inputs, at 50 digits
DIRECTIONS = 3
FEWER = dict.fromkeys(("kernels", "averages", "angles", "flow", "wide_training"), 25)  # digits for kappa: it takes long
LEAST = {"flow": 500, "mode_unbalanced": 500}  # kappa of what is integrated, with errors of 1e-12 or so
ZERO = mp.mpf(10) ** (10 - DIGITS)  # an output is zero if its norm is below that of all outputs by this factor
INFINITE = 10**9  # a larger condition number means that the perturbation changed a rank


def exact(array):
    """The same with mpf numbers."""
    return like(array, (mp.mpf(x) for x in flatten(array)))


def evaluate(case, digits, full=False, disturb=None):
    with mp.workdps(digits):
        inputs = {name: exact(array) for name, array in case.inputs.items()}
        if disturb:
            inputs = {name: disturb(name, array) for name, array in inputs.items()}
        return OPERATIONS[case.operation](inputs, case.attrs, full)


def disturbance(k):
    """Every entry times 1 + 10^-10 r, with r in [-1, 1] from sin of its place; symmetric matrices stay so."""

    def disturb(name, array):
        start = mp.mpf(sum(map(ord, name)) + 101 * k)
        numbers = iter(
            [x * (1 + mp.mpf(10) ** -PERTURBATION * mp.sin((start + 7 * i) ** 2)) for i, x in enumerate(flatten(array))]
        )
        changed = like(array, numbers)
        return la.scale(la.add(changed, la.transpose(changed)), mp.mpf(1) / 2) if name in SYMMETRIC else changed

    return disturb


def total(outputs):
    """The norm of all outputs together, of what is finite."""
    return la.norm([v for array in outputs.values() for v in flatten(array) if mp.isfinite(v)])


def kappa(case, outputs):
    """The largest relative change of an output over that of the inputs, at least 1."""
    worst = mp.mpf(1)
    if any(any(flatten(array)) for array in case.inputs.values()):
        worst = max(worst, *(amplification(case, outputs, disturbance(k)) for k in range(DIRECTIONS)))
    worst = max(worst, LEAST.get(case.operation, 1))
    return worst if worst <= INFINITE else max(mp.mpf(1), condition(FALLBACK, case))


def amplification(case, outputs, disturb):
    """The relative change of the output that changes most over that of the inputs; inf where there is no output."""
    digits = FEWER.get(case.operation, DIGITS)
    try:
        changed, _ = evaluate(case, digits, disturb=disturb)
    except ArithmeticError:
        return mp.inf
    with mp.workdps(digits):
        worst, least = mp.mpf(0), ZERO * total(outputs)
        for name, value in outputs.items():
            a, b = flatten(value), flatten(changed[name])
            size = la.norm(a)
            if size > least and mp.isfinite(size):
                worst = max(worst, la.norm([p - r for p, r in zip(a, b, strict=True)]) / size)
        return worst * mp.mpf(10) ** PERTURBATION


def condition(table, case):
    if case.operation not in table:
        return mp.mpf(1)
    with mp.workdps(DIGITS):
        return table[case.operation]({name: exact(array) for name, array in case.inputs.items()}, case.attrs)


def rounded_up(x):
    """x rounded up to 3 significant digits, as a float."""
    with mp.workdps(DIGITS):
        exponent = int(mp.floor(mp.log10(x))) - 2
        digits = int(mp.ceil(x / mp.mpf(10) ** exponent - mp.mpf(10) ** -6))
        return float(f"{digits}e{exponent}")


def agreement(low, high, least):
    """On how many digits two evaluations of one array agree, relative to its norm: 0, 5, .., 45; 45 if it is zero.

    The last digits depend on what mpmath computes with, and no vector should.
    """
    a, b = flatten(low), flatten(high)
    gap = la.norm([p - r for p, r in zip(a, b, strict=True) if mp.isfinite(r) or p != r])
    size = la.norm([v for v in b if mp.isfinite(v)])
    most = DIGITS - 5
    return most if gap == 0 or size <= least else min(most, 5 * int(mp.floor(-mp.log10(gap / size) / 5)))


def rounded(low, high, size):
    """The nearest float64 of every entry; what is only the rounding error of a zero is zero."""

    def number(p, r):
        noise = mp.isfinite(r) and abs(r) <= ZERO * size and abs(p - r) > abs(r) / 1000
        return 0.0 if noise else float(r) + 0.0

    return like(high, iter([number(p, r) for p, r in zip(flatten(low), flatten(high), strict=True)]))


def both(low, high):
    """Arrays in float64, and the digits on which two evaluations of them agree, for the worst."""
    with mp.workdps(2 * DIGITS):
        size = total(high)
        digits = min(agreement(low[name], high[name], ZERO * size) for name in high)
        return {name: rounded(low[name], high[name], size) for name in high}, digits


def certified(case):
    """The case as it is written: outputs, intermediates, kappa, kappa_gram, digits."""
    if case.error:
        return {"error": case.error}
    low, low_steps = evaluate(case, DIGITS, full=True)
    high, high_steps = evaluate(case, 2 * DIGITS, full=True)
    outputs, digits = both(low, high)
    if digits < 20:
        raise ArithmeticError(f"{case.id}: two precisions agree on {digits} digits only")
    problem = kappa(case, low)
    gram = problem if case.strict else max(problem, condition(GRAMS, case))
    if case.kind == "discriminating" and not problem < 1000:
        raise ArithmeticError(f"{case.id}: kappa is {mp.nstr(problem, 3)}, too much for a discriminating case")
    record = {"outputs": outputs}
    if high_steps:
        record["intermediates"] = both(low_steps, high_steps)[0]
    if any(math.isnan(x) for group in record.values() for array in group.values() for x in flatten(array)):
        raise ArithmeticError(f"{case.id}: there is a NaN among its numbers")
    return {**record, "kappa": rounded_up(problem), "kappa_gram": rounded_up(gram), "digits": digits}
