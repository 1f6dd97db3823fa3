"""Which bug a failure looks like: the usual suspects, each asked for the outputs that it would have caused.

A suspect is named if it explains what was returned to within the tolerance. There are three tables: factors of the
right outputs, reorderings of them, and other conventions, which refngd itself evaluates on the same case
(`wrong_engines` holds those that are no mere attribute).
"""

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise, product, starmap
from typing import NamedTuple

import numpy as np

from . import wrong_engines
from .adapters.refngd_numpy import Engine, listed
from .compare import INTERMEDIATES, Outputs, bounds, relative_errors, roundoff
from .vectors import Case

MOST = 3  # suspects named, of every table
FISHERS = ("Exact", "BlockDiagonal", "BlockTridiagonal", "KFAC", "Unitwise", "Entrywise", "QuasiDiagonal", "Identity")


class Suspect(NamedTuple):
    """What it is, predict(case) -> the outputs that it would have caused, and more words for the message."""

    words: str
    predict: Callable[[Case], Outputs]
    detail: str = ""


def explain(case: Case, outputs: Outputs, dtype: type) -> tuple[list[str], list[str]]:
    """Lines on what the failure looks like, and the suspects that explain it, in words.

    The lines start with the first intermediate that differs, if any were given.
    """
    tolerance = max(bounds(case, dtype)[1], 1000 * roundoff(dtype))
    lines = _on_intermediates(case, outputs, tolerance)
    if max(relative_errors(case.outputs, outputs).values()) <= 100 * tolerance:
        return [*lines, "looks like: a loss of precision, not another convention"], []
    actual = {name: np.asarray(outputs[name], float) for name in case.outputs}
    for tables in ((factors, reorderings, conventions), (products,), (any_factor,)):
        found = [suspect for table in tables for suspect in _found(table, case, case.outputs, actual, tolerance)]
        if found:
            return [*lines, f"looks like: {_in_words(found)}"], [suspect.words for suspect in found]
    return [*lines, "looks like: none of the usual suspects"], []


def _in_words(found: list[Suspect]) -> str:
    others = ", or ".join(suspect.words for suspect in found[1:])
    return found[0].words + found[0].detail + (f"; as well as: {others}" if others else "")


def _on_intermediates(case: Case, outputs: Outputs, tolerance: float) -> list[str]:
    given = [name for name in case.intermediates if name in outputs]
    first = _first_difference(case, outputs, tolerance)
    if first is None:
        return [f"the intermediates are right: {', '.join(given)}"] if given else []
    expected, actual = {first: case.intermediates[first]}, {first: np.asarray(outputs[first])}
    found = _found(factors, case, expected, actual, tolerance)
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


def _found(suspects: Callable, case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> list[Suspect]:
    """The first suspects that explain `actual`."""
    found = {}
    if all(a.shape == expected[name].shape for name, a in actual.items()):
        for suspect in starmap(Suspect, suspects(case, expected, actual, tolerance)):
            if suspect.words not in found and _explains(suspect, case, expected, actual, tolerance):
                found[suspect.words] = suspect
            if len(found) == MOST:
                break
    return list(found.values())


def _explains(suspect: Suspect, case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> bool:
    """Whether a suspect's outputs are those that were returned, and a good deal closer than the right ones."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = suspect.predict(case)
            if any(np.shape(predicted[name]) != a.shape for name, a in expected.items()):
                return False
            predicted = {name: predicted[name] for name in expected}
            gap = max(relative_errors(predicted, actual).values())
            change = max(relative_errors(expected, predicted).values())
            return gap <= tolerance and change > 100 * tolerance  # or it is no more than rounding
    except Exception:  # the suspect does not apply to this case
        return False


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


def factors(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[tuple]:
    """Outputs that are a common, known factor times what is expected."""
    yield from _fitting(case, expected, actual, tolerance, _candidates)


def products(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[tuple]:
    """Products of two known factors."""

    def pairs(case: Case, names: list[str]) -> dict[str, list[float]]:
        single = _candidates(case, names).items()
        return {
            f"({a}) ({b})": [x * y for x, y in zip(u, v, strict=True)] for (a, u), (b, v) in combinations(single, 2)
        }

    yield from _fitting(case, expected, actual, tolerance, pairs)


def any_factor(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[tuple]:
    """A common factor of unknown origin."""

    def fitted(case: Case, names: list[str]) -> dict[str, list[float]]:
        c = _fit(expected[names[0]], actual[names[0]])
        return {"of no simple origin": [c] * len(names)}

    yield from _fitting(case, expected, actual, tolerance, fitted)


def _fitting(case, expected, actual, tolerance, candidates: Callable) -> Iterator[tuple]:
    """Suspects for those candidates that agree with the fitted factors of all outputs that are wrong."""
    errors = relative_errors(expected, actual)
    names = [name for name in expected if not errors[name] <= tolerance]
    fits = [_fit(expected[name], actual[name]) for name in names]
    if not names or not all(map(math.isfinite, fits)):
        return
    for words, values in candidates(case, names).items():
        if all(abs(v - c) <= 2 * tolerance * abs(v) for v, c in zip(values, fits, strict=True)):
            scaled = dict(zip(names, values, strict=True))
            yield (
                "the opposite sign" if words == "-1" else f"a factor {words}",
                lambda _, scaled=scaled: {name: scaled.get(name, 1.0) * a for name, a in expected.items()},
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


def reorderings(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[tuple]:
    """The right numbers at other places."""
    yield "transposed", lambda _: {n: a.swapaxes(-1, -2) if a.ndim > 1 else a for n, a in expected.items()}
    for a, b in combinations(expected, 2):
        yield f"{a} and {b} swapped", lambda _, a=a, b=b: {**expected, a: expected[b], b: expected[a]}
    yield "layers in reverse order", lambda _: _layers_reversed(expected)
    for words, index in _permutations(case):
        for order, stacked in product((index, np.argsort(index)), (False, True)):
            yield (
                words,
                lambda _, order=order, stacked=stacked: {n: _permuted(a, order, stacked) for n, a in expected.items()},
            )
    yield "the bias column first, not last", lambda _: _on_columns(expected, lambda a: np.roll(a, 1, axis=-1))
    yield "the bias column is zero", lambda _: _on_columns(expected, _without_bias)
    yield "samples in reverse order", lambda _: {n: a[::-1] if a.ndim else a for n, a in expected.items()}


def _layers_reversed(expected: Outputs) -> Outputs:
    result = dict(expected)
    for prefix in {name.rpartition("_")[0] for name in expected}:
        names = [name for name in expected if name.rpartition("_")[0] == prefix and name.rpartition("_")[2].isdigit()]
        result |= {name: expected[other] for name, other in zip(names, reversed(names), strict=True)}
    return result


def _permutations(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """Other orders of what is stacked in one index: samples and outputs, or theta."""
    W, w = listed("W", case.inputs), listed("w", case.inputs)
    if w:
        yield "output-major order of n_in n_out", _swapped(w[0].shape[1], len(w[-1]))
    if not W:
        return
    C = len(W[-1])
    for x in ("x", "x_test"):
        if x in case.inputs and C > 1:
            yield "output-major order, c N + n for n C + c", _swapped(len(case.inputs[x]), C)
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


def _permuted(a: np.ndarray, order: np.ndarray, stacked: bool) -> np.ndarray:
    """All axes of that length in another order; if `stacked`, so are two axes that have that many entries."""
    if stacked and a.ndim == 2 and a.size == len(order) and len(order) not in a.shape:
        return a.ravel()[order].reshape(a.shape)
    for axis, size in enumerate(a.shape):
        if size == len(order):
            a = np.take(a, order, axis)
    return a


def _on_columns(expected: Outputs, change: Callable) -> Outputs:
    return {n: change(a) if n.startswith(("dW_", "W_", "h_")) else a for n, a in expected.items()}


def _without_bias(a: np.ndarray) -> np.ndarray:
    return np.concatenate([a[..., :-1], 0 * a[..., -1:]], axis=-1)


# --------------------------------------------------------------------------------------------------------- conventions


def conventions(case: Case, expected: Outputs, actual: Outputs, tolerance: float) -> Iterator[tuple]:
    """What refngd returns for the same case in another convention."""
    for words, change in [*_ATTRIBUTES, *_choices()]:
        attrs = {**case.attrs, **_changes(change, case)}
        if attrs != case.attrs:
            yield words, lambda case, attrs=attrs: Engine()(case.operation, case.inputs, attrs)
    for words, inputs, attrs in _other_inputs(case):
        yield (
            words,
            lambda case, inputs=inputs, attrs=attrs: _padded(Engine()(case.operation, inputs, attrs), case.outputs),
        )
    for words, engine in wrong_engines.ENGINES:
        yield words, lambda case, engine=engine: engine(*case.arguments(float))
    yield "the activation is applied to the outputs as well", lambda case: wrong_engines.activated(case)


def _changes(change: Callable, case: Case) -> dict:
    try:
        return change(case.attrs, _sizes(case))
    except (KeyError, TypeError):
        return {}  # it has no such attribute


def _sizes(case: Case) -> dict[str, int]:
    W, w = listed("W", case.inputs), listed("w", case.inputs)
    x = case.inputs.get("x")
    return {"N": len(x) if x is not None else 1, "C": len(W[-1]) if W else 1, "d": len(w) or 1}


def _set(key: str, value) -> Callable:
    return lambda a, n: {key: value} if key in a else {}


_ATTRIBUTES = [  # words, (attrs, sizes) -> the attributes that are others; KeyError: the case has none such
    ("rho is not applied", _set("rho", 0.0)),
    ("rho is added to N times the matrix", lambda a, n: {"rho": a["rho"] / n["N"]}),
    ("rho is multiplied by N", lambda a, n: {"rho": a["rho"] * n["N"]}),
    ("rho is added twice", lambda a, n: {"rho": 2 * a["rho"]}),
    ("rho is squared", lambda a, n: {"rho": a["rho"] ** 2}),
    ("the square root of rho is added", lambda a, n: {"rho": a["rho"] ** 0.5}),
    ("B*_L is the other one (last: identity or gram)", lambda a, n: {"kfac_last": _other_last(a)}),
    ("K-FAC treats the bias the other way (augmented or separate)", lambda a, n: {"kfac_bias": _other_bias(a)}),
    ("the power is ignored: q = 1", _set("q", 1)),
    ("the power of q = 2", _set("q", 2)),
    ("the gradient alone: no matrix is inverted", lambda a, n: {"q": math.inf} if {"fisher", "q"} & {*a} else {}),
    ("eta times N: a loss that is a sum, not a mean", lambda a, n: {"eta": a["eta"] * n["N"]}),
    ("eta over N: divided by N twice", lambda a, n: {"eta": a["eta"] / n["N"]}),
    ("eta times 2: a loss without its 1/2", lambda a, n: {"eta": 2 * a["eta"]}),
    ("eta is not applied", _set("eta", 1.0)),
    ("d^{-1/q} is missing", lambda a, n: {"eta": a["eta"] * n["d"] ** (1 / a.get("q", 1))}),
    ("eta_bar is not applied", _set("eta_bar", 1.0)),
    ("one step too few", lambda a, n: {"t": a["t"] - 1}),
    ("one step too many", lambda a, n: {"t": a["t"] + 1}),
    ("sigma_w is squared", lambda a, n: {"sigma_w": a["sigma_w"] ** 2}),
    ("sigma_w is a variance where a standard deviation is meant", lambda a, n: {"sigma_w": a["sigma_w"] ** 0.5}),
    ("sigma_w is not applied", _set("sigma_w", 1.0)),
    ("sigma_b is squared", lambda a, n: {"sigma_b": a["sigma_b"] ** 2}),
    ("sigma_b is a variance where a standard deviation is meant", lambda a, n: {"sigma_b": a["sigma_b"] ** 0.5}),
    ("sigma_b is not applied: the bias enters as 1", lambda a, n: {"sigma_b": 1.0 if a["sigma_b"] else 0.0}),
    ("the other parameterization", lambda a, n: {"parameterization": _other_parameterization(a)}),
    ("loss_rho is not applied", _set("loss_rho", 0.0)),
    ("alpha is not applied", _set("alpha", 1.0)),
    ("the loss is the mean squared error", _set("loss", "mse")),
    ("the norm is not applied", _set("norm", 1.0)),
    ("the norm is not squared", lambda a, n: {"norm": a["norm"] ** 0.5}),
    ("block and full rule exchanged", lambda a, n: {} if "fisher" in a else {"block": not a.get("block", False)}),
    ("the regularised rule without its factor", _set("regularised", False)),
    ("the update is not clipped", _set("clip", math.inf)),
]


def _choices() -> Iterator[tuple[str, Callable]]:
    """Another approximation, another activation."""
    for name in FISHERS:
        yield f"the approximation is {name}", _set("fisher", name)
    for name in ("relu", "tanh", "erf", "linear"):
        yield f"the activation is {name}", _set("activation", name)


def _other_last(a: dict) -> str:
    return "gram" if a.get("kfac_last", "identity") == "identity" else "identity"


def _other_bias(a: dict) -> str:
    return "separate" if a.get("kfac_bias", "augmented") == "augmented" else "augmented"


def _other_parameterization(a: dict) -> str:
    return "standard" if a["parameterization"] == "ntk" else "ntk"


def _other_inputs(case: Case) -> Iterator[tuple[str, dict, dict]]:
    """Words, inputs and attributes where inputs are dropped or exchanged."""
    inputs, attrs = case.inputs, case.attrs
    if attrs.get("sigma_b", 0) > 0:
        dropped = {name: a[:, :-1] if name.startswith(("W_", "dW_")) else a for name, a in inputs.items()}
        yield "the bias is lost", dropped, {**attrs, "sigma_b": 0.0}
    if "x_test" in inputs:
        yield "x and x_test exchanged", {**inputs, "x": inputs["x_test"], "x_test": inputs["x"]}, attrs
    if "Sigma_x" in inputs:
        yield "Sigma_x is ignored", {name: a for name, a in inputs.items() if name != "Sigma_x"}, attrs
        Sigma_x = inputs["Sigma_x"]
        yield "Sigma_x twice, or in place of its root", {**inputs, "Sigma_x": Sigma_x @ Sigma_x}, attrs
    if "Sigma" in inputs:
        for words, Sigma in (("Sigma = I", np.eye(len(inputs["Sigma"]))), ("Sigma = 1 1^T", 0 * inputs["Sigma"] + 1)):
            yield words, {**inputs, "Sigma": Sigma}, attrs


def _padded(outputs: Outputs, expected: Outputs) -> Outputs:
    """With a column of zeros for a bias that was dropped."""
    return {
        name: np.pad(a, ((0, 0), (0, 1))) if a.ndim == 2 and a.shape[1] + 1 == expected[name].shape[1] else a
        for name, a in outputs.items()
        if name in expected
    }
