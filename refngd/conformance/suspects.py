"""Which bug a failure looks like: the usual suspects, each asked for the outputs that it would have caused.

A suspect is named if it explains what was returned to within the tolerance. Most are bugs of `bugs.TABLE`, changed
lines of `refngd.definitions`, of which a case tries those that it catches. Others misread or miswrite arrays, choose
another approximation or activation, or change the right outputs: a factor, another order, lost digits.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, pairwise, product
from typing import NamedTuple

import numpy as np

from .adapters import definitions
from .adapters.definitions import listed
from .bugs import BUGS, planted
from .compare import INTERMEDIATES, Outputs, bounds, less_index, relative_errors, roundoff
from .vectors import Case

MOST = 3  # suspects named in a message; the closing lines know all
FISHERS = ("Exact", "BlockDiagonal", "BlockTridiagonal", "KFAC", "Unitwise", "Entrywise", "QuasiDiagonal", "Identity")
CHOLESKY = "cholesky"


class Suspect(NamedTuple):
    """What it is, predict() -> the outputs that it would have caused, and more words for the message."""

    words: str
    predict: Callable[[], Outputs]
    detail: str = ""


def explain(case: Case, outputs: Outputs, dtype: type) -> tuple[list[str], list[str]]:
    """Lines on what the failure looks like, and the suspects that explain it, in words.

    The lines start with the first intermediate that differs, if any were given.
    """
    tolerance = max(bounds(case, dtype)[1], 1000 * roundoff(dtype))
    lines = _on_intermediates(case, outputs, tolerance)
    actual = {name: np.asarray(outputs[name], float) for name in case.outputs}
    problem = case.outputs, actual, tolerance
    for tables in ((files, factors, reorderings, conventions), (products,)):
        found = _found((s for table in tables for s in table(case, *problem)), *problem)
        if found:
            return [*lines, f"looks like: {_in_words(found)}"], [suspect.words for suspect in found]
    lost = lost_digits(case, *problem)
    if lost:
        return [*lines, f"looks like: {lost}"], [lost]
    found = _found(any_factor(case, *problem), *problem)
    looks = _in_words(found) if found else "none of the usual suspects"
    return [*lines, f"looks like: {looks}"], [suspect.words for suspect in found]


def explain_refusal(case: Case) -> list[str]:
    """The suspects for an error in place of outputs, in words: a Cholesky factor that does not exist."""
    return [BUGS[CHOLESKY].words] if CHOLESKY in case.flags else []


def explain_form(case: Case, outputs: Outputs, dtype: type) -> list[str]:
    """The suspects for outputs of other names or shapes, in words: what would have returned just these."""
    welcome = INTERMEDIATES.get(case.operation, ())
    actual = {name: a for name, a in outputs.items() if less_index(name) not in welcome}
    tolerance, found = max(bounds(case, dtype)[1], 1000 * roundoff(dtype)), []
    for suspect in conventions(case, case.outputs, actual, tolerance):
        predicted = _predicted(suspect)
        if {name: np.shape(a) for name, a in predicted.items()} == {name: np.shape(a) for name, a in actual.items()}:
            found += [suspect.words] if _gap(predicted, actual) <= tolerance else []
    return list(dict.fromkeys(found))


def _in_words(found: list[Suspect]) -> str:
    others = ", or ".join(suspect.words for suspect in found[1:MOST])
    return found[0].words + found[0].detail + (f"; as well as: {others}" if others else "")


def _on_intermediates(case: Case, outputs: Outputs, tolerance: float) -> list[str]:
    given = [name for name in case.intermediates if name in outputs]
    first = _first_difference(case, outputs, tolerance)
    if first is None:
        return [f"the intermediates are right: {', '.join(given)}"] if given else []
    expected, actual = {first: case.intermediates[first]}, {first: np.asarray(outputs[first])}
    found = _found(factors(case, expected, actual, tolerance), expected, actual, tolerance)
    looks = f", which looks like {_in_words(found)}" if found else ""
    return [f"the first intermediate that differs: {first}{looks}"]


def _first_difference(case: Case, outputs: Outputs, tolerance: float) -> str | None:
    """The first intermediate, in the order of computation, that was given and is wrong."""
    for name, expected in case.intermediates.items():
        if name in outputs and case.operation in INTERMEDIATES:
            same_shape = np.shape(outputs[name]) == expected.shape
            if not same_shape or not relative_errors({name: expected}, outputs)[name] <= tolerance:
                return name
    return None


def _found(suspects: Iterable[Suspect], expected: Outputs, actual: Outputs, tolerance: float) -> list[Suspect]:
    """The suspects that explain `actual`."""
    found = {}
    if all(a.shape == expected[name].shape for name, a in actual.items()):
        for suspect in suspects:
            if suspect.words not in found and _explains(suspect, expected, actual, tolerance):
                found[suspect.words] = suspect
    return list(found.values())


def _explains(suspect: Suspect, expected: Outputs, actual: Outputs, tolerance: float) -> bool:
    """Whether a suspect's outputs are those that were returned, and a good deal closer than the right ones."""
    predicted = _predicted(suspect)
    if any(name not in predicted or np.shape(predicted[name]) != a.shape for name, a in expected.items()):
        return False
    predicted = {name: predicted[name] for name in expected}
    change = _gap(expected, predicted)
    return _gap(predicted, actual) <= tolerance and change > 100 * tolerance  # or it is no more than rounding


def _predicted(suspect: Suspect) -> Outputs:
    """None where the suspect does not apply to the case."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {name: np.asarray(a, float) for name, a in suspect.predict().items()}
    except Exception:
        return {}


def _gap(a: Outputs, b: Outputs) -> float:
    """The largest relative error; infinite where one has a nan and the other has not."""
    with np.errstate(all="ignore"):
        same = all(np.array_equal(np.isnan(a[name]), np.isnan(b[name])) for name in a)
        return max(relative_errors(a, b).values()) if same else math.inf


# --------------------------------------------------------------------------------------------------------------- files


def files(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[Suspect]:
    """Arrays that are read or written column by column."""
    misread = {name: a.ravel().reshape(a.shape, order="F") for name, a in case.inputs.items()}

    def run() -> Outputs:
        return definitions.run(case.operation, misread, dict(case.attrs))

    def written(outputs: Outputs, held: Callable = np.asarray) -> Outputs:
        return {name: np.ravel(held(outputs[name]), order="F").reshape(a.shape) for name, a in expected.items()}

    if any((misread[name] != a).any() for name, a in case.inputs.items()):
        yield Suspect("the data of the files are read column by column", run)
        yield Suspect("the data of the files are read and written column by column", lambda: written(run()))
    yield Suspect("the data of the files are written column by column", lambda: written(expected))
    yield Suspect("the data of the files are written column by column", lambda: written(expected, _as_matrix))


def _as_matrix(a: np.ndarray) -> np.ndarray:
    """As the matrix (NC, M) that delta (N, C, M) is where arrays have two axes."""
    return a.reshape(-1, a.shape[-1]) if a.ndim > 2 else a


def lost_digits(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> str | None:
    """What took digits from the right outputs, or too many of a singular matrix's, by the size of the errors."""
    errors = relative_errors(expected, actual)
    worst, wrong = max(errors.values()), [actual[name] for name, error in errors.items() if not error <= tolerance]
    if not _gap(expected, actual) < math.inf:
        return None
    if worst > 1e3:  # what rounding makes of a singular matrix differs from machine to machine
        return BUGS["cut_off_none"].words if "cut_off_none" in case.flags else None
    digits = next((k for k in range(4, 10) if worst <= 10.0 ** (1 - k) and all(_has_digits(a, k) for a in wrong)), None)
    if digits:
        return f"a loss of precision: {digits} digits printed?"
    if worst <= 1e-5 and all((a.astype(np.float32) == a).all() for a in wrong):
        return "a loss of precision: results in float32?"
    if max(100 * tolerance, 1e-9) < worst <= min(30 * roundoff(np.float32) * case.kappa, 1e-4):
        return "a loss of precision of the size of float32's rounding: constants or steps in float32?"
    return "a loss of precision, not another convention" if worst <= 100 * tolerance else None


def _has_digits(a: np.ndarray, digits: int) -> bool:
    return all(float(f"{x:.{digits - 1}e}") == x for x in a.ravel())


# ------------------------------------------------------------------------------------------------------------- factors


def symbols(case: Case, name: str) -> dict[str, float]:
    """The factors that may be forgotten in output `name`, by what a reader would call them."""
    attrs, shapes = case.attrs, {key: a.shape for key, a in case.inputs.items()}
    W, w = listed("W", case.inputs), listed("w", case.inputs)
    weights, q = W or w, attrs.get("q", 1)
    x = shapes.get("x") or shapes.get("f") or (attrs.get("n", 1), 1)
    N, C = (w[0].shape[1], len(w[-1])) if w else (x[0], len(W[-1]) if W else x[-1])
    L = len(weights) or attrs.get("depth") or attrs.get("d") or 1
    values = {"d^{1/q}": L ** (1 / q)} if w else {}
    values |= {"N": N, "C": C, "N C": N * C, "2": 2.0, "L": L}
    for key in ("sigma_w", "sigma_b", "eta", "rho", "alpha", "eta_bar", "loss_rho"):
        if attrs.get(key, 0) > 0:
            values[key] = attrs[key]
    if weights:
        M = _width_below(name, [weights[0].shape[1] - (attrs.get("sigma_b", 0) > 0), *(len(a) for a in weights)])
        values |= {"M": M, "M + 1": M + 1, "M / (M + 1)": M / (M + 1)}
        sigma_w = attrs.get("sigma_w", 1)
        values |= {"sigma_w^2": sigma_w**2, "sigma_w^2/M": sigma_w**2 / M, "sigma_w/sqrt(M)": sigma_w / math.sqrt(M)}
    if "rho" in values:
        values["1 + rho"] = 1 + values["rho"]
    if "x_test" in shapes:
        values["N'"] = shapes["x_test"][0]
    return {**values, "N^{1/q}": N ** (1 / q), "sqrt(N)": math.sqrt(N), "-1": -1.0}


def _width_below(name: str, widths: list[int]) -> float:
    """M of the sigma_w/sqrt(M) that belongs to an output: h_l, delta_l, A_l have their own, dW_l that of its input."""
    prefix, _, index = name.rpartition("_")
    l = int(index) - (prefix not in ("h", "delta", "delta_white", "A")) if index.isdigit() else 0
    return float(widths[min(l, len(widths) - 1)])


def _candidates(case: Case, names: list[str]) -> dict[str, list[float]]:
    """Every symbol and its inverse, with its values for the outputs `names`."""
    values = [symbols(case, name) for name in names]
    single = {key: [v[key] for v in values] for key in values[0]}
    inverses = {_inverse(key): [1 / x for x in v] for key, v in single.items() if key != "-1"}
    return {key: v for key, v in {**single, **inverses}.items() if max(abs(x - 1) for x in v) > 1e-9}


def _inverse(words: str) -> str:
    return f"1/{words}" if words.replace("_", "").isalnum() else f"1/({words})"


def factors(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[Suspect]:
    """Outputs that are a common, known factor times what is expected."""
    yield from _fitting(case, expected, actual, tolerance, _candidates)


def products(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[Suspect]:
    """Products of two known factors."""

    def pairs(case: Case, names: list[str]) -> dict[str, list[float]]:
        single = _candidates(case, names).items()
        return {
            f"({a}) ({b})": [x * y for x, y in zip(u, v, strict=True)] for (a, u), (b, v) in combinations(single, 2)
        }

    yield from _fitting(case, expected, actual, tolerance, pairs)


def any_factor(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[Suspect]:
    """A common factor of unknown origin."""

    def fitted(case: Case, names: list[str]) -> dict[str, list[float]]:
        c = _fit(expected[names[0]], actual[names[0]])
        return {"of no simple origin": [c] * len(names)}

    if max(np.size(a) for a in expected.values()) > 1:  # any number is a factor times another
        yield from _fitting(case, expected, actual, tolerance, fitted)


def _fitting(case, expected, actual, tolerance, candidates: Callable) -> Iterator[Suspect]:
    """Suspects for those candidates that agree with the fitted factors of all outputs that are wrong."""
    errors = relative_errors(expected, actual)
    names = [name for name in expected if not errors[name] <= tolerance]
    fits = [_fit(expected[name], actual[name]) for name in names]
    if not names or not all(map(math.isfinite, fits)):
        return
    for words, values in candidates(case, names).items():
        if all(abs(v - c) <= 2 * tolerance * abs(v) for v, c in zip(values, fits, strict=True)):
            scaled = dict(zip(names, values, strict=True))
            yield Suspect(
                "the opposite sign" if words == "-1" else f"a factor {words}",
                lambda scaled=scaled: {name: scaled.get(name, 1.0) * a for name, a in expected.items()},
                "" if words == "-1" else _factor_detail(scaled, expected),
            )


def _fit(expected: np.ndarray, actual: np.ndarray) -> float:
    """c of the least ||actual - c expected||."""
    with np.errstate(all="ignore"):
        return float((expected * actual).sum() / (expected * expected).sum())


def _factor_detail(scaled: dict[str, float], expected: Outputs) -> str:
    names = "all of " * (len(scaled) == len(expected) > 1) + ", ".join(scaled)
    values = sorted(set(scaled.values()))
    if len(values) > 1:
        return f" ({names} are {', '.join(f'{v:.6g}' for v in scaled.values())} times what is expected)"
    return f" = {values[0]:.6g} ({names} {'is' if len(scaled) == 1 else 'are'} {values[0]:.6g} times what is expected)"


# --------------------------------------------------------------------------------------------------------- reorderings


def reorderings(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[Suspect]:
    """The right numbers at other places."""
    yield Suspect("transposed", lambda: {n: a.swapaxes(-1, -2) if a.ndim > 1 else a for n, a in expected.items()})
    for a, b in combinations(expected, 2):
        yield Suspect(f"{a} and {b} swapped", lambda a=a, b=b: {**expected, a: expected[b], b: expected[a]})
    yield Suspect("layers in reverse order", lambda: _layers_reversed(expected))
    for words, *indices in _permutations(case):
        for orders, stacked in product((indices, [np.argsort(index) for index in indices]), (False, True)):
            yield Suspect(
                words,
                lambda orders=orders, stacked=stacked: {n: _permuted(a, orders, stacked) for n, a in expected.items()},
            )
    yield Suspect("the bias column first, not last", lambda: _on_columns(expected, lambda a: np.roll(a, 1, axis=-1)))
    yield Suspect("the bias column is zero", lambda: _on_columns(expected, _without_bias))
    yield Suspect("samples in reverse order", lambda: {n: a[::-1] if a.ndim else a for n, a in expected.items()})


def _layers_reversed(expected: Outputs) -> Outputs:
    result = dict(expected)
    for prefix in {name.rpartition("_")[0] for name in expected}:
        names = [name for name in expected if name.rpartition("_")[0] == prefix and name.rpartition("_")[2].isdigit()]
        result |= {name: expected[other] for name, other in zip(names, reversed(names), strict=True)}
    return result


def _permutations(case: Case) -> Iterator[tuple]:
    """Words, and other orders of what is stacked in one index: samples and outputs of both sets, or theta."""
    W, w = listed("W", case.inputs), listed("w", case.inputs)
    if w:
        yield "output-major order of n_in n_out", _swapped(w[0].shape[1], len(w[-1]))
    if not W:
        return
    C = len(W[-1])
    if C > 1:
        yield (
            BUGS["outputs_first"].words,
            *(_swapped(len(case.inputs[x]), C) for x in ("x", "x_test") if x in case.inputs),
        )
    stops = np.cumsum([0] + [a.size for a in W])
    blocks = [np.arange(a, b).reshape(m.shape) for (a, b), m in zip(pairwise(stops), W, strict=True)]
    for words, order in {
        "theta column-major within each layer": [b.T for b in blocks],
        "theta with the bias first in each row": [np.roll(b, 1, axis=1) for b in blocks],
        "theta with all weights of a layer first, then its biases": [
            np.concatenate([b[:, :-1].ravel(), b[:, -1]]) for b in blocks
        ],
        "theta with the layers in reverse order": blocks[::-1],
    }.items():
        yield words, np.concatenate([b.ravel() for b in order])


def _swapped(n: int, m: int) -> np.ndarray:
    return np.arange(n * m).reshape(n, m).T.ravel()


def _permuted(a: np.ndarray, orders: list[np.ndarray], stacked: bool) -> np.ndarray:
    """All axes of such lengths in another order; if `stacked`, so are two axes that have that many entries."""
    by_size = {len(order): order for order in orders}
    if stacked and a.ndim == 2 and a.size in by_size and not by_size.keys() & set(a.shape):
        return a.ravel()[by_size[a.size]].reshape(a.shape)
    for axis, size in enumerate(a.shape):
        a = np.take(a, by_size[size], axis) if size in by_size else a
    return a


def _on_columns(expected: Outputs, change: Callable) -> Outputs:
    return {n: change(a) if n.startswith(("dW_", "W_", "h_")) else a for n, a in expected.items()}


def _without_bias(a: np.ndarray) -> np.ndarray:
    return np.concatenate([a[..., :-1], 0 * a[..., -1:]], axis=-1)


# --------------------------------------------------------------------------------------------------------- conventions


def conventions(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[Suspect]:
    """What the definitions return with a bug of the table, or for another problem."""
    for name in case.flags or BUGS:
        yield Suspect(BUGS[name].words, lambda name=name: planted(name)(*case.arguments(float)))
    for words, inputs, attrs in _other_problems(case):
        yield Suspect(words, lambda inputs=inputs, attrs=attrs: definitions.run(case.operation, inputs, attrs))


def _other_problems(case: Case) -> Iterator[tuple[str, dict, dict]]:
    """Words, inputs and attributes."""
    _, inputs, attrs = case.arguments(float)
    for name, key, value in _other_settings(attrs, len(inputs.get("x", "."))):
        yield BUGS[name].words, inputs, {**attrs, key: value}
    for key, names in (("fisher", FISHERS), ("activation", ("relu", "tanh", "erf", "linear"))):
        for name in names if key in attrs else ():
            yield f"the {'approximation' if key == 'fisher' else key} is {name}", inputs, {**attrs, key: name}
    if "x_test" in inputs:
        yield "x and x_test exchanged", {**inputs, "x": inputs["x_test"], "x_test": inputs["x"]}, attrs


def _other_settings(attrs: dict, N: int) -> Iterator[tuple[str, str, float]]:
    """Bugs that act as another attribute would wherever it is used, the attribute and its value."""
    rho, q = attrs.get("rho", 0.0), attrs.get("q", 1)
    if rho > 0:
        yield from (("rho_ignored", "rho", 0.0), ("rho_twice", "rho", 2 * rho), ("rho_squared", "rho", rho * rho))
        yield from (("rho_root", "rho", rho**0.5), ("rho_times_N", "rho", rho * N), ("rho_before_N", "rho", rho / N))
    if q not in (1, math.inf):
        yield from (("q_ignored", "q", 1), ("q_inverse", "q", 1 / q), ("q_squared", "q", q * q))
    if attrs.get("frozen"):
        yield "frozen_ignored", "frozen", 0
