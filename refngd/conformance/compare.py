"""The verdict on what an implementation returns for a case.

    error of an output = ||actual - expected|| / ||expected||     Frobenius; if expected is 0: / ||all outputs||, or / 1
    accurate           : error <= 30 u kappa                      u = 2^-53 (float64), 2^-24 (float32)
    conformant         : error <= 30 u kappa_gram                 what a route through Gram matrices may lose
    not testable       : the bound is above 0.1, so that the case says nothing in this dtype
    failed             : all else, malformed outputs and exceptions among it
    unsupported        : NotImplementedError

A must-fail case passes, as accurate, if and only if its input is refused: with an exception other than
NotImplementedError, or {"error": reason} for outputs, whose words name an input or attribute that the case's `error`
names. So a crash about something else does not pass.
"""

import math
import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .vectors import Case

ACCURATE, CONFORMANT, FAILED = "accurate", "conformant", "failed"
UNSUPPORTED, NOT_TESTABLE = "unsupported", "not testable"
STATUSES = (ACCURATE, CONFORMANT, FAILED, UNSUPPORTED, NOT_TESTABLE)

# what may be among the outputs without being asked for: names less their index, in the order of computation
INTERMEDIATES = {
    "direction": ("f", "e", "h", "delta", "e_white", "delta_white", "A", "B", "Theta", "lambda"),
    "deep_linear_update": ("E", "L", "R", "K", "Lambda"),
}

NOT_FINITE = "entries that are nan or infinite"

Outputs = dict[str, np.ndarray]


class Refused(Exception):
    """The reason that an implementation gave in place of outputs."""


class Malformed(Exception):
    """What was given in place of outputs cannot be read."""


@dataclass(frozen=True)
class Verdict:
    """status: one of STATUSES; error, digits: of the worst output, None if nothing was compared.

    outputs: if they are wrong, a dict of real arrays; fits: whether they have the names and shapes of those expected;
    refused: whether there was an error in place of outputs. An error is infinite where an expected infinity, or its
    sign, was missed.
    """

    status: str
    message: str = ""
    error: float | None = None
    digits: float | None = None
    outputs: Outputs | None = None
    fits: bool = True
    refused: bool = False


def roundoff(dtype: type) -> float:
    """u: half of eps."""
    return float(np.finfo(dtype).eps) / 2


def bounds(case: Case, dtype: type) -> tuple[float, float]:
    """Allowed errors of an accurate and of a conformant result."""
    return 30 * roundoff(dtype) * case.kappa, 30 * roundoff(dtype) * case.kappa_gram


def correct_digits(error: float, dtype: type) -> float:
    """-log10(error), at least 0 and at most those of the dtype."""
    return abs(math.log10(min(max(error, roundoff(dtype)), 1.0)))  # not -0.0


def check(case: Case, implementation: Callable[[Case, type], Outputs], dtype: type = np.float64) -> Verdict:
    """Runs the implementation on one case. What it warns of is not judged."""
    if case.error is None and bounds(case, dtype)[0] > 0.1:
        return Verdict(NOT_TESTABLE, f"kappa = {case.kappa:.3g} is too much for {np.dtype(dtype)}")
    if not _within_range(case, dtype):
        return Verdict(NOT_TESTABLE, f"its numbers leave the range of {np.dtype(dtype)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = implementation(case, dtype)
    except NotImplementedError as error:
        return Verdict(UNSUPPORTED, f"unsupported: {error}".removesuffix(": "))
    except Malformed as error:
        return Verdict(FAILED, str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit and pytest's own, of a timeout, among it
        return _refusal(case, error) if case.error else Verdict(FAILED, _raised(error), refused=True)
    if case.error:
        return Verdict(FAILED, f"outputs were returned where a user must be told: {case.error}")
    return judge(case, outputs, dtype)


def _refusal(case: Case, error: BaseException) -> Verdict:
    """The verdict on a must-fail case that was refused, or crashed."""
    names = sorted(refused(case))
    if any(_parts(word) & _parts(name) for name in names for word in re.findall(r"\b[A-Za-z]\w*", str(error))):
        return Verdict(ACCURATE, str(error))
    told = f"a user must be told: {case.error}"
    return Verdict(FAILED, f"the reason does not name {' or '.join(names)}; {told}\n{_raised(error)}")


def refused(case: Case) -> set[str]:
    """The inputs and attributes that the `error` of a must-fail case names."""
    words = re.findall(r"\b[A-Za-z]\w*", case.error)
    return {name for name in [*case.inputs, *case.attrs] if name in words}


def _parts(name: str) -> set[str]:
    """{"loss", "rho"} of loss_rho, {"w"} of W_1."""
    return set(re.sub(r"\d", "", name).lower().split("_")) - {""}


def _within_range(case: Case, dtype: type) -> bool:
    """Whether the inputs, and the largest entry of every output, are 0 or normal numbers of the dtype."""
    values = [abs(a).ravel() for a in case.inputs.values()] + [abs(a).max(initial=0.0) for a in case.outputs.values()]
    values = np.concatenate([np.ravel(a[np.isfinite(a)]) for a in values] or [np.zeros(0)])
    info = np.finfo(dtype)
    return not ((values > float(info.max)) | ((values > 0) & (values < float(info.tiny)))).any()


def judge(case: Case, outputs: Outputs, dtype: type = np.float64) -> Verdict:
    """The verdict on outputs."""
    malformed = malformations(case, outputs, dtype)
    if malformed:
        is_dict = isinstance(outputs, dict) and all(map(_is_real, outputs.values()))
        fits = all(message.endswith(NOT_FINITE) for message in malformed)
        return Verdict(FAILED, "; ".join(malformed), outputs=outputs if is_dict else None, fits=fits)
    errors = relative_errors(case.outputs, outputs)
    worst, (accurate, conformant) = max(errors.values()), bounds(case, dtype)
    numbers = worst, correct_digits(worst, dtype)
    if worst <= accurate:
        return Verdict(ACCURATE, "", *numbers)
    if conformant > 0.1:
        lost = f"error {worst:.1e}, but with kappa_gram = {case.kappa_gram:.3g} a Gram route loses all digits"
        return Verdict(NOT_TESTABLE, f"{lost} of {np.dtype(dtype)}")
    if worst <= conformant:
        return Verdict(CONFORMANT, "", *numbers)
    wrong = ", ".join(f"{name} ({error:.1e})" for name, error in errors.items() if error > conformant)
    allowed = f"{accurate:.1e} is accurate, {conformant:.1e} conformant"
    return Verdict(FAILED, f"wrong, with relative errors: {wrong}; {allowed}", *numbers, outputs)


def _is_real(a: object) -> bool:
    return isinstance(a, float) or (isinstance(a, np.ndarray) and a.dtype.kind in "fiub")


def relative_errors(expected: Outputs, actual: Outputs) -> dict[str, float]:
    """The error of every expected output; infinities are to agree exactly, and do not count then."""
    scale = math.hypot(*map(_norm, expected.values())) or 1.0
    return {name: _distance(np.asarray(actual[name], float), a) / (_norm(a) or scale) for name, a in expected.items()}


def malformations(case: Case, outputs: Outputs, dtype: type) -> list[str]:
    """What is wrong with the form of outputs, a message each."""
    if not isinstance(outputs, dict):
        return [f"the outputs are a {type(outputs).__name__}; expected a dict of arrays: {', '.join(case.outputs)}"]
    dtypes = {np.dtype(dtype)} if case.inputs else {np.dtype(np.float32), np.dtype(np.float64)}
    found = [_malformation(name, outputs, a, dtypes) for name, a in case.outputs.items()]
    welcome = INTERMEDIATES.get(case.operation, ())
    unknown = [str(name) for name in outputs if name not in case.outputs and less_index(name) not in welcome]
    if unknown:
        found.append(f"unknown outputs: {', '.join(unknown)}; expected {', '.join(case.outputs)}")
    return [message for message in found if message]


def less_index(name: str) -> str:
    return re.sub(r"_\d+$", "", str(name))


def _malformation(name: str, outputs: Outputs, expected: np.ndarray, dtypes: set[np.dtype]) -> str | None:
    if name not in outputs:
        return f"{name} is missing"
    a = outputs[name]
    if not isinstance(a, np.ndarray | np.generic) and not (isinstance(a, float) and expected.shape == ()):
        return f"{name} is a {type(a).__name__}; expected a NumPy array"
    if not isinstance(a, float) and a.dtype not in dtypes:
        return f"{name} has dtype {a.dtype}; expected {' or '.join(sorted(map(str, dtypes)))}, that of the inputs"
    if np.shape(a) != expected.shape:
        return f"{name} has shape {np.shape(a)}; expected {expected.shape}{_guess(np.shape(a), expected.shape)}"
    if (~np.isfinite(a) & np.isfinite(expected)).any():
        return f"{name} has {int((~np.isfinite(a)).sum())} {NOT_FINITE}"
    return None


def _guess(shape: tuple, expected: tuple) -> str:
    """Which slip a wrong shape looks like."""
    if shape == expected[::-1]:
        return ": it looks transposed"
    if len(shape) == len(expected) == 2 and (shape[0], shape[1] + 1) == expected:
        return ": the bias column, the last, looks missing"
    return ": the number of entries is right" if math.prod(shape) == math.prod(expected) else ""


def _distance(actual: np.ndarray, expected: np.ndarray) -> float:
    infinite = np.isinf(expected)
    return _norm(actual[~infinite] - expected[~infinite]) if (actual == expected)[infinite].all() else math.inf


def _norm(a: np.ndarray) -> float:
    """||a|| of the finite entries, whatever their size."""
    a = a[np.isfinite(a)]
    largest = abs(a).max(initial=0.0)
    return float(largest * np.linalg.norm(a / largest)) if largest else 0.0


def _raised(error: BaseException) -> str:
    """The exception, and where, less the frames of this package that called."""
    if isinstance(error, Refused):
        return f"refused: {error}"
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if Path(f.filename).name != "implementations.py"]
    return f"raised {type(error).__name__}: {error}\n{''.join(traceback.format_list(frames))}".rstrip()
