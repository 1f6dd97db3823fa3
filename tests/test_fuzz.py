"""Every public function with bad arguments of every kind: a clear message or the right value, nothing else.

    python -m tests.test_fuzz        prints how many calls had each outcome

An outcome is *clear*: ValueError that names the argument, or FloatingPointError or MemoryError, raised by a `raise` of
refngd; *right*: the value is that of the plain argument which the one given stands for, as 0.5 for np.float32(0.5); *in
range*: huge or tiny numbers gave finite ones; *silent*: a value, where there is none; *unclear*: anything else that was
raised, NumPy's warnings among it. Silent and unclear must be 0.
"""

import inspect
import linecache
import math
import re
import sys
import warnings
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import refngd as rn
from refngd import datasets, deep_linear, dynamics, experiments, kernels, linear_training, losses, modes, preprocess

HOME = Path(rn.__file__).parent
REFUSED, IN_RANGE = "refused", "in range"  # instead of the plain argument that a value stands for


class Frame:
    """What a data frame or another library's array shows of itself."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __array__(self, *args, **kwargs):
        return self.values

    def __len__(self):
        return len(self.values)


class Subclass(np.ndarray):
    """An array of a library that builds on NumPy's."""


ANYTHING = [
    None,
    "abc",
    "1",
    "False",
    b"1",
    1.5,
    math.nan,
    object(),
    [],
    {},
    (),
    [None],
    ["a"],
    len,
    int,
    rn,
    np.ones(2),
]
ANYTHING += [np.array(1.0), np.ma.masked, 1j, np.datetime64("2020"), slice(2), iter([1.0]), float("inf"), Ellipsis]
SCALARS = [*ANYTHING, True, False, np.bool_(True), 0, 1, 2, 3, -1, 0.5, 0.0, -0.5, -math.inf, 1e308, 1e-308, 10**400]
SCALARS += [np.float64(0.5), np.float32(0.5), np.float16(0.5), np.int64(1), np.uint8(2), Fraction(1, 2), 2**63]
FEW = [None, "abc", b"1", object(), {1: 2}, len, rn, np.datetime64("2020")]

# ------------------------------------------------- kinds of arguments: (value, the plain argument that it stands for)


def number(holds):
    def values(good):
        for v in SCALARS:
            real = isinstance(v, (int, float, np.floating, np.integer, Fraction)) and not isinstance(v, bool)
            plain = (math.nan if type(v) is int and v > 10**308 else float(v)) if real else math.nan
            yield v, plain if holds(plain) else REFUSED

    return values


def whole(least, most=math.inf, others=()):
    def values(good):
        for v in SCALARS:
            is_whole = isinstance(v, (int, np.integer)) and not isinstance(v, bool) and least <= v
            if not (is_whole and v > most and v > 3):  # what no memory holds is of `huge`
                fits = (is_whole and v <= most) or any(v is other for other in others)
                yield v, (v if v is None else int(v)) if fits else REFUSED

    return values


def layers(good):
    """What is frozen of two layers, with bias: a number of first layers or a list."""
    for v, plain in whole(0, 1)(good):
        yield v, 0 if isinstance(v, (list, tuple, set, frozenset, range)) and not len(v) else plain
    refused = [[3], [0], [1, 1], [1, 2], (True,), ("1",), [2, "output-bias"], [None], [[1]], np.array([1]), {1: 1}]
    yield from [([1], 1), ((1,), 1), ({1}, 1), (range(1, 2), 1), *((v, REFUSED) for v in refused)]


def huge(values):
    """Sizes that no memory holds, too."""
    return lambda good: [*values(good), (10**12, REFUSED), (10**30, REFUSED)]


def one_of(*choices, also=()):
    def values(good):
        for v in [*SCALARS, *choices]:
            fits = any(type(v) is type(c) and v == c for c in choices) or any(v is c for c in also)
            yield v, v if fits else REFUSED

    return values


flag = one_of(True, False, np.bool_(True))


def text(*choices):
    return one_of(*choices)


def dtype(good):
    return [
        *((v, REFUSED) for v in (*SCALARS, np.float16, "f2", ">f8", complex, int, [("a", "f8")]) if v is not float),
        *((v, np.dtype(v)) for v in ("float32", np.dtype("f4"), float, np.float64)),
    ]


def rng(good):
    return [*whole(0, 10**500)(good), ("seed", REFUSED), (np.random.RandomState(0), REFUSED)]


def instance(good):
    return [(v, REFUSED) for v in SCALARS]


def layouts(a):
    """The same array in other layouts of memory."""
    fixed = a.copy()
    fixed.flags.writeable = False
    return [(np.asfortranarray(a), a), (a[::-1].copy()[::-1], a), (fixed, a)]


def dressed(a):
    """The same numbers, in what is no plain array."""
    out = [a.tolist(), Frame(a), a.view(Subclass), np.ma.masked_array(a), np.ma.masked_array(a, np.ones(a.shape, bool))]
    return out + ([a.view(np.matrix)] if a.ndim == 2 else [])


def array(*free, alone=False, wholes=False, scales=True):
    """Arrays of floats; `free`: the axes of any size; alone: float32 may come; wholes: integers may."""

    def values(good):
        bad = [*SCALARS, *dressed(good), good[None], good[..., None], good[:0], good.ravel()[:3], good.astype("U8")]
        bad += [good.astype(t) for t in ("f2", "?", "c16", "O", ">f8", "S3", "m8[s]", "M8[s]", np.longdouble)]
        bad += [] if wholes else [good.astype(int), good.astype("i1")]
        bad += [] if alone else [good.astype("f4")]
        bad += [np.repeat(good, 2, k) for k in range(good.ndim) if k not in free]
        bad += [good.take(range(n - 1), k) for k, n in enumerate(good.shape) if k not in free]
        bad += [good.T] if good.T.shape != good.shape and not free else []
        for entry in (math.nan, math.inf, -math.inf):
            damaged = good.copy()
            damaged[(-1,) * good.ndim] = entry
            bad.append(damaged)
        scaled = [(good * c, IN_RANGE) for c in (1e300, 1e155, 1e-155, 1e-300, 0.0)] if scales else []
        return [*((v, REFUSED) for v in bad), *layouts(good), *scaled]

    return values


def symmetric(good):
    lower = np.tril(good) - np.triu(good, 1)
    return [*array(alone=True)(good), (lower, REFUSED), (good[:, :-1], REFUSED)]


def matrices(good):
    """Lists of arrays, W or dW."""
    bad = [
        *SCALARS,
        good[:1],
        [*good, good[0]],
        good[::-1],
        [None] * len(good),
        (w for w in good),
        iter(good),
        {*range(2)},
    ]
    bad += [dict(enumerate(good)), np.array(good, dtype=object), [w.T for w in good], good[0]]
    for v, plain in array(0, 1, scales=False)(good[-1]):
        if plain is REFUSED:
            bad.append([*good[:-1], v])
    return [*((v, REFUSED) for v in bad), (tuple(good), good), ([np.asfortranarray(w) for w in good], good)]


def labels(good):
    bad = [
        *SCALARS,
        good[:, None],
        good.astype(float),
        good.astype(bool),
        good - 5,
        good[:0],
        good.tolist(),
        Frame(good),
    ]
    bad += [np.ma.masked_array(good), good.astype(object), good.view(Subclass)]
    return [*((v, REFUSED) for v in bad), (good.astype("u1"), good), (good.astype("i4"), good)]


def classes(good):
    bad = [*SCALARS, [0], [0, 0], [0, 77], [0, 1.0], [0, "1"], ["0", "1"], [[0, 1]], np.array([0.0, 1]), "01", {0: 1}]
    return [*((v, REFUSED) for v in bad), (np.array(good), good), (tuple(good), good), (range(2), [0, 1])]


def pairs(good):
    x, k = good
    bad = [*SCALARS, x, (x,), (x, k, k), (x[:-1], k), (x, k[:-1]), (x.tolist(), k), (x, k.tolist()), (x, k - 5), (k, x)]
    bad += [(v, k) for v in dressed(x)] + [(x * math.nan, k), (x[:, :0], k)]
    return [*((v, REFUSED) for v in bad), (list(good), good)]


def signals(good):
    return [(v, REFUSED) for v in [*SCALARS, list(vars(good).values()), vars(good)]] + [
        (damaged, REFUSED)
        for key in ("h", "delta")
        for damaged in [
            rn.Signals(good.f, **{"h": good.h, "delta": good.delta} | {key: [nan(a) for a in getattr(good, key)]})
        ]
    ]


def nan(a):
    return a * math.nan


def refused(*bad):
    return lambda good: [(v, REFUSED) for v in bad]


def but(kind, drop):
    """`kind` less the values for which `drop`."""
    return lambda good: [(v, plain) for v, plain in kind(good) if not drop(v)]


def is_negative(v):
    return type(v) is np.ndarray and v.dtype.kind == "i" and (v < 0).any()


def is_empty(v):
    return type(v) is tuple and not v


def is_stack(v):
    return getattr(v, "ndim", 0) == 3


def is_zero(v):
    return type(v) is np.ndarray and not np.any(v)


def is_none(v):
    return v is None


def has_nan(v):
    last = v[-1] if isinstance(v, list) and v else v
    return type(last) is np.ndarray and last.dtype == float and not np.isfinite(last).all()


def are_matrices(v):
    return type(v) is list and len(v) > 0 and all(type(w) is np.ndarray and w.dtype == float and w.ndim == 2 for w in v)


def are_floats(v):
    plain = type(v) is np.ndarray and v.dtype == float and v.size and v.ndim and np.isfinite(v).all()
    return plain and v.shape != (2, 2)


def are_sizes(v):
    return are_floats(v) and v.ndim == 1


def chain(good):
    """Lists of matrices that nothing else has to fit: `matrices` less those that chain as well."""
    shapes = [*({w.shape for w in good}), *({w.T.shape for w in good})]
    return but(matrices, lambda v: are_matrices(v) and not has_nan(v) and all(w.shape in shapes for w in v))(good)


def both(good):
    """Signals that other signals or weights have to fit."""
    return [*signals(good), (OTHER, REFUSED)]


def several(good):
    return [(v, REFUSED) for v in [*SCALARS, good[0], [good[0], OTHER], [good[0], 1], good[0].h]] + [
        (tuple(good), good)
    ]


def of_kernels(good):
    parts = dict(A=good.A, B=good.B, trained=good.trained)

    def make(**changed):
        return rn.Kernels(**parts | changed)

    bad = [
        *SCALARS,
        good.A,
        parts,
        rn.Kernels([], []),
        make(A=[A[:, :2] for A in good.A]),
    ]
    bad += [make(A=[a.astype(t) for a in good.A]) for t in ("f2", "f4", int)] + [make(A=[nan(a) for a in good.A])]
    bad += [
        make(B=[nan(b) for b in good.B]),
        make(B=[b[:3, :3] for b in good.B]),
        make(A=[a.view(np.matrix) for a in good.A]),
    ]
    return [(v, REFUSED) for v in bad]


def sigma(good):
    bad = [*ANYTHING, "ab", np.triu(good) + good, good[:1], good[:, :, None], good * math.nan, good * 1j, [[1, 2], [3]]]
    bad = [v for v in bad if not (isinstance(v, (float, np.ndarray)) and np.ndim(v) == 0 and v == 1)]
    return [*((v, REFUSED) for v in bad), (good.tolist(), good), (good.astype(int), good.astype(int).astype(float))]


def spectrum(good):
    bad = [*SCALARS[:-17], 1, [1.0, -1], [math.nan], [1, 2, 3], ["1"], [[1.0]], [True], [0.0], np.eye(2)]
    plain = [np.array(good), tuple(good), np.array(good, int), np.array(good, "f4")]
    return [*((v, REFUSED) for v in bad if np.shape(v) != (2,)), *((v, good) for v in plain)]


def widths(good):
    bad = [*SCALARS, (3,), (3, 0, 1), (3, 2.5), (3, -1), (3, "2"), (3, None), "32", {3: 1}, ((3, 2),), (True, True)]
    return [*((v, REFUSED) for v in bad), (list(good), good), (np.array(good), good), ((np.int64(3), 4, 2), good)]


def path(good):
    return [(v, REFUSED) for v in [*SCALARS, good.parent, good.with_suffix(".no"), 0, 2]] + [(str(good), good)]


def values(holds):
    """Numbers, alone or in an array, a list or a tuple; they broadcast."""

    def all_of(good):
        bad = [
            "abc",
            "1",
            b"1",
            None,
            object(),
            {},
            len,
            rn,
            math.nan,
            math.inf,
            -math.inf,
            [math.nan],
            [None],
            ["a"],
            1j,
        ]
        bad += [[[1.0], [1.0, 2.0]], np.ma.masked_array([1.0], [True]), np.array(["1"]), np.datetime64("2020"), True]
        bad += [np.ma.masked, np.array([1], "m8[s]"), slice(2), Ellipsis]
        return [(v, REFUSED) for v in bad + [v for v in (-1.0, 0.0) if not holds(v)]]

    return all_of


# ------------------------------------------------------------------------------------------------- what is called how

G = np.random.default_rng(0)
NET = rn.Network((3, 4, 2), rn.tanh, 1.5, 0.5)
W, X, Y = NET.init(0), G.standard_normal((4, 3)), G.standard_normal((4, 2))
S, TEST = NET.signals(W, X), NET.signals(W, G.standard_normal((3, 3)))
OTHER = rn.Network((3, 5, 2), rn.tanh, 1.5, 0.5).signals(rn.Network((3, 5, 2), rn.tanh, 1.5, 0.5).init(0), X)
ONE_HOT = np.eye(2)[[0, 1, 1, 0]]
FLAT = rn.flatten(W)
K = rn.Exact().coefficient(S, S, 0.1) + 0.1 * np.eye(8)
K = (K + K.T) / 2
OWN, CROSS = rn.empirical_kernels(S, S), rn.empirical_kernels(TEST, S)
DYNAMICS = rn.Dynamics(K, S.f, Y, 0.1)
PIXELS, LABELS = G.integers(1, 100, (9, 3)).astype(float), np.arange(9) % 3
LINEAR = rn.Network((3, 4, 3), rn.linear, 1.0, parameterization="standard").init(0)
STATISTICS = deep_linear.Statistics.of(G.standard_normal((6, 3)), G.standard_normal((6, 3)))
COVARIANCE = STATISTICS.S @ STATISTICS.S.T

positive = number(lambda v: 0 < v < math.inf)
not_negative = number(lambda v: 0 <= v < math.inf)
power = number(lambda v: v >= 1)
finite_number = number(math.isfinite)


def optional(holds):
    return lambda good: [(v, None if v is None else plain) for v, plain in number(holds)(good) if v is not None]


rcond = optional(lambda v: 0 <= v < 1)
OPTIONS = dict(rho=(not_negative, 0.1), q=(power, 1.0))
CUT = dict(rcond=(rcond, 0.0), refine=(flag, True))


def fisher_entries(name, make, options):
    fisher = make(**{key: good for key, (_, good) in options.items()})
    alone = name in ("QuasiDiagonal", "Layerwise")  # these have no power but 1 and inf
    o = OPTIONS | ({"q": (number(lambda v: v in (1, math.inf)), 1.0)} if alone else {})
    yield f"rn.{name}", (make, options)
    yield f"rn.{name}.matrix", (fisher.matrix, dict(s=(signals, S), rho=(not_negative, 0.1)))
    yield f"rn.{name}.direction", (fisher.direction, dict(s=(signals, S), e=(array(), Y)) | o)
    yield f"rn.{name}.coefficient", (fisher.coefficient, dict(test=(both, TEST), train=(both, S)) | o)
    yield (
        f"rn.{name}.alpha",
        (
            fisher.alpha,
            dict(net=(instance, NET), n=(whole(1), 4), frozen=(refused(*FEW, -1, 2, True, 0.5), 0)),
        ),
    )
    if name not in ("Unitwise", "Entrywise", "QuasiDiagonal"):
        k = dict(cross=(of_kernels, CROSS), train=(of_kernels, OWN)) | o
        yield f"rn.{name}.kernel_coefficient", (fisher.kernel_coefficient, k)


TRAIN = (
    dict(
        net=(instance, NET),
        W=(matrices, W),
        x=(array(), X),
        y=(array(), Y),
        fisher=(instance, rn.Exact()),
        eta=(positive, 0.1),
    )
    | OPTIONS
)
TRAIN |= dict(
    steps=(whole(0, 3), 2),
    loss=(instance, rn.mse),
    frozen=(layers, 0),
    batch=(whole(1, 4, [None]), 2),
    rng=(rng, 0),
)
LINEARISED = dict(s=(several, [S, TEST]), y=(array(), Y), fisher=(instance, rn.Exact()), eta=(positive, 0.1)) | OPTIONS
MODES = dict(
    s=(array(0, alone=True), np.array([[0.5, 1.0], [2.0, 1.5]])),
    s_star=(values(lambda v: v >= 0), np.array([1.0, 2.0])),
)
LAYERS = dict(s=(but(array(0, alone=True), are_floats), MODES["s"][1]))  # of any shape
TIMES = dict(
    s_star=(values(lambda v: v >= 0), 2.0), s0=(values(lambda v: True), 0.1), p=(values(lambda v: v >= 0), 1.0),
    eta_bar=(values(lambda v: v > 0), 0.5),
)  # fmt: skip
TARGET = dict(s_star=(values(lambda v: v > 0), 2.0))
DEEP = dict(w=(matrices, LINEAR), data=(instance, STATISTICS))
FOLLOW = DEEP | dict(rule=(instance, deep_linear.Rule(2)), eta=(positive, 0.1))
RULE = dict(
    q=(power, 2.0), block=(flag, False), rho=(not_negative, 0.1), clip=(number(lambda v: v > 0), 1.0),
    regularised=(flag, False), rcond=(rcond, 0.0),
)  # fmt: skip
TARGETED = dict(f=(array(), S.f), y=(array(scales=False), ONE_HOT))
FLOW = dict(f0=(array(), S.f), y=(array(scales=False), ONE_HOT))
LOGITS = rn.CrossEntropyFlow(S.f, ONE_HOT, 0.1)
SPLIT = dict(rng=(rng, 0), dtype=(dtype, float), one_hot=(flag, False))

ENTRIES = {
    "rn.Network": (
        rn.Network,
        dict(
            widths=(widths, (3, 4, 2)),
            activation=(instance, rn.relu),
            sigma_w=(number(lambda v: 1e-100 < v < 1e100), 1.5),
            sigma_b=(number(lambda v: v == 0 or 1e-100 < v < 1e100), 0.5),
            parameterization=(text("ntk", "standard"), "ntk"),
        ),
    ),
    "rn.Network.init": (NET.init, dict(rng=(rng, 0), dtype=(dtype, float))),
    "rn.Network.semi_orthogonal": (
        NET.semi_orthogonal,
        dict(rng=(rng, 0), gain=(number(lambda v: 1e-291 < v < 1e291), 1.5), dtype=(dtype, float)),
    ),
    "rn.Network.forward": (NET.forward, dict(W=(matrices, W), x=(array(0), X))),
    "rn.Network.signals": (NET.signals, dict(W=(matrices, W), x=(array(0), X))),
    "rn.Network.check": (NET.check, dict(W=(but(matrices, has_nan), W), x=(array(0), X))),
    "rn.Network.check_inputs": (NET.check_inputs, dict(x=(array(0, alone=True), X))),
    "rn.Signals": (
        rn.Signals,
        dict(
            f=(but(array(), has_nan), S.f),
            h=(refused(*SCALARS, S.h[:1], S.h[0], [S.h[0], S.h[1][:3]], [S.h[0], *dressed(S.h[1])[:1]]), S.h),
            delta=(refused(*SCALARS, S.delta[:1], S.delta[0], S.h, [d[:, 0] for d in S.delta]), S.delta),
            trained=(refused(*SCALARS[1:3], S, S.above(1).trained), S.trained),
        ),
    ),
    "rn.Signals.above": (S.above, dict(frozen=(layers, 1))),
    "rn.Kernels.above": (OWN.above, dict(frozen=(layers, 1))),
    "rn.jacobian": (rn.jacobian, dict(s=(signals, S))),
    "rn.push": (rn.push, dict(s=(both, S), dW=(matrices, W))),
    "rn.pull": (rn.pull, dict(s=(signals, S), v=(array(), Y))),
    "rn.flatten": (
        rn.flatten,
        dict(dW=(refused(*ANYTHING, W[0], [W[0], W[1].astype("f4")], [None], dressed(X)[1:]), W)),
    ),
    "rn.unflatten": (rn.unflatten, dict(net=(instance, NET), theta=(array(alone=True), FLAT))),
    "rn.to_device": (
        rn.to_device,
        dict(x=(refused(None, "abc", [1.5], *dressed(X)[1:]), X), device=(text("cpu"), "cpu")),
    ),
    "rn.fisher_information": (rn.fisher_information, dict(s=(signals, S))),
    "rn.inverse_power": (rn.inverse_power, dict(K=(but(symmetric, is_stack), K)) | OPTIONS | dict(rcond=(rcond, 0.0))),
    "rn.train": (lambda **k: list(rn.train(**k)), TRAIN),
    "rn.linearized_training": (
        lambda **k: first_two(rn.linearized_training(**k)),
        LINEARISED | dict(loss=(instance, rn.mse)),
    ),
    "rn.isotropy": (rn.isotropy, dict(Theta_bar=(but(symmetric, is_zero), K))),
    "rn.optimal_rate": (rn.optimal_rate, dict(Theta_bar=(symmetric, K))),
    "rn.linearized": (rn.linearized, dict(s=(both, S), W0=(matrices, W), W=(matrices, W))),
    "rn.gaussian_outputs": (rn.gaussian_outputs, dict(K=(symmetric, K), C=(huge(whole(1, 3)), 2), rng=(rng, 0))),
    "rn.Dynamics": (
        lambda **k: rn.Dynamics(**k).accumulated(2),
        dict(Theta_bar=(array(), K), f0=(array(), S.f), y=(array(), Y), eta=(positive, 0.1)),
    ),
    "rn.Dynamics.accumulated": (
        DYNAMICS.accumulated,
        dict(t=(number(lambda v: v >= 0 and (math.isinf(v) or v == int(v))), 2)),
    ),
    "rn.Dynamics.predict": (
        DYNAMICS.predict,
        dict(cross=(array(), K), f0=(array(), S.f), t=(number(lambda v: v >= 0 and (math.isinf(v) or v == int(v))), 2)),
    ),
    "rn.Dynamics.covariance": (
        rn.Dynamics(K[:4, :4], S.f, Y, 0.1).covariance,
        dict(
            cross=(array(), K[:3, :4]),
            K=(symmetric, K[:7, :7]),
            t=(number(lambda v: v >= 0 and (math.isinf(v) or v == int(v))), 2),
        ),
    ),
    "rn.CrossEntropyFlow": (rn.CrossEntropyFlow, FLOW | dict(eta=(positive, 0.1), alpha=(positive, 1.0))),
    "rn.CrossEntropyFlow.probabilities": (LOGITS.probabilities, dict(t=(not_negative, 2.0))),
    "rn.CrossEntropyFlow.accumulated": (LOGITS.accumulated, dict(t=(not_negative, 2.0))),
    "rn.CrossEntropyFlow.predict": (
        LOGITS.predict,
        dict(cross=(array(), K), f0=(array(), S.f), t=(not_negative, 2.0)),
    ),
    "losses.centred": (losses.centred, dict(s=(signals, S))),
    "rn.CrossEntropy": (rn.CrossEntropy, dict(rho=(not_negative, 0.1))),
    "rn.ntk": (rn.ntk, dict(test=(both, TEST), train=(both, S))),
    "rn.empirical_kernels": (rn.empirical_kernels, dict(test=(both, TEST), train=(both, S))),
    "rn.analytic_kernels": (
        rn.analytic_kernels,
        dict(net=(instance, NET), test=(array(0), X[:3] + 1), train=(array(0), X)),
    ),
    "rn.analytic_ntk": (rn.analytic_ntk, dict(net=(instance, NET), test=(array(0), X[:3] + 1), train=(array(0), X))),
    "rn.order_parameters": (
        rn.order_parameters,
        dict(net=(instance, rn.Network((3, 4, 2), rn.relu)), norm=(number(lambda v: 0 <= v < 1e100), 1.0)),
    ),
    "rn.shifted_relu": (rn.shifted_relu, dict(s=(finite_number, 0.5))),
    "rn.CrossEntropy.velocity": (rn.CrossEntropy(0.1).velocity, TARGETED | dict(alpha=(finite_number, 1.0))),
    "preprocess.standardise": (
        preprocess.standardise,
        dict(x=(array(0, alone=True, wholes=True), X), train=(but(array(0, alone=True, wholes=True), is_none), X)),
    ),
    "preprocess.unit_norm": (preprocess.unit_norm, dict(x=(array(0, 1, alone=True, wholes=True), X))),
    "preprocess.forster": (
        preprocess.forster,
        dict(
            x=(array(0, 1, alone=True), X),
            tolerance=(optional(lambda v: v > 0), 1e-6),
            steps=(whole(1, math.inf), 1000),
        ),
    ),
    "datasets.Data": (
        datasets.Data,
        dict(x=(array(), X), y=(array(), Y), x_test=(array(), X[:3]), y_test=(array(), Y[:3])),
    ),
    "datasets.digits": (datasets.digits, dict(classes=(classes, [0, 1]))),
    "datasets.mnist_sample": (datasets.mnist_sample, dict(part=(text(), "train"), classes=(classes, [0, 1]))),
    "datasets.mnist": (
        datasets.mnist,
        dict(part=(text(), "train"), folder=(refused(*(v for v in SCALARS if v is not None)), "absent")),
    ),
    "datasets.cifar10": (
        datasets.cifar10,
        dict(part=(text(), "train"), folder=(refused(*(v for v in SCALARS if v is not None)), "absent")),
    ),
    "datasets.gaussian": (
        datasets.gaussian,
        dict(n=(huge(whole(1, 3)), 3), M_0=(huge(whole(1, 3)), 2), classes=(whole(2, 3), 2), rng=(rng, 0)),
    ),
    "datasets.teacher_student": (
        datasets.teacher_student,
        dict(
            rng=(rng, 0),
            width=(huge(whole(1, 3)), 2),
            N=(huge(whole(1, 3, [None])), 3),
            singular_values=(spectrum, [2.0, 1.0]),
            noise=(number(lambda v: 0 <= v < 1e100), 0.5),
            whiten=(flag, True),
        ),
    ),
    "datasets.load_npz": (datasets.load_npz, dict(path=(path, Path(__file__)))),
    "datasets.read_idx": (datasets.read_idx, dict(path=(path, Path(__file__)), shape=(but(instance, is_empty), (3,)))),
    "datasets.select": (
        datasets.select,
        dict(
            x=(array(1, alone=True, wholes=True), PIXELS),
            labels=(but(labels, is_negative), LABELS),
            classes=(classes, [1, 2]),
        ),
    ),
    "datasets.split": (
        datasets.split,
        dict(x=(array(1, alone=True, wholes=True), PIXELS), labels=(labels, LABELS), N=(whole(1, 8), 4)) | SPLIT,
    ),
    "datasets.draw": (
        datasets.draw,
        dict(
            train=(pairs, (PIXELS, LABELS)),
            test=(pairs, (PIXELS[:4], LABELS[:4])),
            N=(whole(1, 9), 4),
            N_test=(whole(1), 2),
        )
        | SPLIT,
    ),
    "datasets.targets": (
        datasets.targets,
        dict(labels=(labels, LABELS % 2), one_hot=(flag, False), C=(huge(whole(2, 3, [None])), 3)),
    ),
    "datasets.accuracy": (datasets.accuracy, dict(f=(array(), S.f), y=(array(), Y))),
    "deep_linear.Statistics": (
        deep_linear.Statistics,
        dict(
            w_star=(array(0), STATISTICS.w_star),
            S=(but(array(1), lambda v: v is None or is_zero(v)), STATISTICS.S),
            const=(finite_number, 0.5),
        ),
    ),
    "deep_linear.Statistics.of": (
        deep_linear.Statistics.of,
        dict(x=(but(array(1), is_zero), X), y=(array(1, scales=False), Y)),
    ),
    "deep_linear.Statistics.with_covariance": (
        deep_linear.Statistics.with_covariance,
        dict(w_star=(array(0), STATISTICS.w_star), Sigma_x=(array(), COVARIANCE), const=(finite_number, 0.5)),
    ),
    "deep_linear.Rule": (deep_linear.Rule, RULE),
    "deep_linear.Rule.update": (deep_linear.Rule(2).update, DEEP),
    "deep_linear.product": (deep_linear.product, dict(w=(chain, LINEAR))),
    "deep_linear.partial_products": (deep_linear.partial_products, dict(w=(chain, LINEAR))),
    "deep_linear.displacement": (deep_linear.displacement, DEEP | dict(w=(but(matrices, has_nan), LINEAR))),
    "deep_linear.loss": (deep_linear.loss, DEEP | dict(w=(but(matrices, has_nan), LINEAR))),
    "deep_linear.push": (deep_linear.push, dict(w=(matrices, LINEAR), dw=(matrices, LINEAR))),
    "deep_linear.pull": (deep_linear.pull, dict(w=(matrices, LINEAR), Lambda=(array(), STATISTICS.w_star))),
    "deep_linear.gradient": (deep_linear.gradient, DEEP),
    "deep_linear.gauss_newton_product": (
        deep_linear.gauss_newton_product,
        dict(w=(matrices, LINEAR), dw=(matrices, LINEAR)),
    ),
    "deep_linear.hessian_product": (
        deep_linear.hessian_product,
        dict(w=(matrices, LINEAR), dw=(matrices, LINEAR), data=(instance, STATISTICS)),
    ),
    "deep_linear.null_update": (deep_linear.null_update, dict(w=(matrices, LINEAR), m=(chain, [np.eye(4)]))),
    "deep_linear.multiplier": (deep_linear.multiplier, DEEP | OPTIONS | dict(rcond=(rcond, 0.0))),
    "deep_linear.kernel": (deep_linear.kernel, dict(w=(chain, LINEAR))),
    "deep_linear.conserved": (deep_linear.conserved, dict(w=(chain, LINEAR))),
    "deep_linear.euler_drift": (deep_linear.euler_drift, dict(u=(chain, LINEAR), h=(finite_number, 0.1))),
    "deep_linear.norm": (deep_linear.norm, dict(w=(but(chain, has_nan), LINEAR))),
    "linear_training.descend": (lambda **k: list(linear_training.descend(**k)), FOLLOW | dict(steps=(whole(0, 3), 2))),
    "linear_training.flow": (
        linear_training.flow,
        FOLLOW
        | dict(
            times=(
                refused(*FEW, [2.0, 1.0], [-1.0], ["a"], [], [[1.0]], [math.nan], np.ma.masked_array([1.0], [True])),
                [0.1, 0.2],
            ),
            converged=(number(lambda v: 0 <= v < 1), 0.5),
            tolerance=(number(lambda v: 1e-13 <= v < 1), 1e-6),
            evaluations=(whole(1), 10_000),
        ),
    ),
    "experiments.teacher_student_problem": (
        experiments.teacher_student_problem,
        dict(
            seed=(whole(0, 10**500), 0),
            width=(huge(whole(1, 3)), 2),
            depth=(whole(1, 3), 2),
            N=(huge(whole(1, 3, [None])), 3),
            singular_values=(spectrum, [2.0, 1.0]),
            noise=(number(lambda v: 0 <= v < 1e100), 0.5),
            whiten=(flag, True),
            sigma_w=(number(lambda v: 1e-100 < v < 1e100), 0.2),
        ),
    ),
    "experiments.trajectory": (
        experiments.trajectory,
        FOLLOW
        | dict(teacher=(array(scales=False), STATISTICS.w_star), steps=(whole(0, 3), 2), records=(whole(2, 3), 3)),
    ),
    "experiments.compare": (
        experiments.compare,
        {key: TRAIN[key] for key in ("net", "W", "fisher", "steps", "rho", "q", "loss", "frozen")}
        | dict(data=(instance, datasets.Data(X, Y, X + 1, Y)), factor=(positive, 0.5)),
    ),
    "modes.jacobian": (modes.jacobian, LAYERS),
    "modes.velocity": (modes.velocity, MODES | dict(q=(power, 2.0), block=(flag, False), eta=(positive, 0.5))),
    "modes.speed": (modes.speed, MODES | dict(q=(power, 2.0), eta=(positive, 0.5))),
    "modes.regularised": (modes.regularised, MODES | dict(eps=(not_negative, 0.5), eta=(positive, 0.5))),
    "modes.invariants": (modes.invariants, LAYERS | dict(q=(power, 2.0), block=(flag, False))),
    "modes.exponent": (modes.exponent, dict(d=(power, 2.0), q=(power, 2.0))),
    "modes.effective_depth": (modes.effective_depth, dict(d=(power, 2.0), q=(power, 2.0))),
    "modes.calibrated_rate": (modes.calibrated_rate, dict(eta=(positive, 0.5), d=(power, 2.0), q=(power, 2.0))),
    "modes.map_velocity": (
        modes.map_velocity,
        dict(s_bar=(values(lambda v: True), 0.5)) | {k: v for k, v in TIMES.items() if k != "s0"},
    ),
    "modes.closed_form": (modes.closed_form, dict(t=(values(lambda v: v >= 0), 0.5)) | TIMES),
    "modes.solution": (modes.solution, dict(t=(values(lambda v: v >= 0), 0.5)) | TIMES),
    "modes.time_to": (modes.time_to, dict(fraction=(values(lambda v: True), 0.5)) | TIMES | TARGET),
    "modes.escape_time": (modes.escape_time, TIMES | TARGET | dict(s0=(values(lambda v: v >= 0), 0.1))),
    "modes.unbalanced": (
        modes.unbalanced,
        dict(t=(values(lambda v: v >= 0), 0.5))
        | MODES
        | dict(q=(number(lambda v: v in (1, math.inf)), 1.0), eta=(positive, 0.5)),
    ),
}

for _name, _options in {
    "Exact": CUT,
    "BlockDiagonal": CUT,
    "BlockTridiagonal": CUT,
    "Layerwise": dict(Sigma=(sigma, np.array([[2.0, 1.0], [1.0, 2.0]]))) | CUT,
    "Unitwise": CUT,
    "KFAC": dict(
        bias=(text("augmented", "separate"), "augmented"), last=(text("identity", "gram"), "gram"), rcond=CUT["rcond"]
    ),
    "QuasiDiagonal": dict(rcond=CUT["rcond"]),
    "Entrywise": {},
    "Identity": {},
}.items():
    ENTRIES |= fisher_entries(_name, getattr(rn, _name), _options)
for _name, _loss, _y in (("losses.MSE", rn.mse, Y), ("rn.CrossEntropy", rn.CrossEntropy(0.1), ONE_HOT)):
    _pair = dict(f=(array(), S.f), y=(array(scales=False), _y))
    ENTRIES |= {
        f"{_name}.value": (_loss.value, _pair | dict(f=(array(scales=False), S.f))),  # inf where it overflows
        f"{_name}.residual": (_loss.residual, _pair),
        f"{_name}.whiten": (_loss.whiten, dict(s=(signals, S), y=(array(scales=False), _y))),
        f"{_name}.check": (_loss.check, dict(y=(array(0, 1, alone=True, scales=False), _y))),
    }
ENTRIES |= {
    "rn.shifted_relu.mean_square": (rn.relu.mean_square, dict(q=(positive, 1.0))),
    "rn.shifted_relu.mean_square_derivative": (rn.relu.mean_square_derivative, dict(q=(positive, 1.0))),
    "rn.shifted_relu.gamma": (rn.relu.gamma, dict(q=(positive, 1.0))),
    "rn.shifted_relu.features": (
        rn.relu.features,
        dict(scale=(but(array(0, alone=True, scales=False), are_sizes), np.array([1.0, 2.0, 3.0]))),
    ),
}

RECORD, INTERNAL = "a report, which nothing takes", "takes what the library has checked or computed"
EXEMPT = {
    **dict.fromkeys(
        ("rn.Step", "rn.Isotropy", "linear_training.State", "experiments.Trajectory", "experiments.Comparison"), RECORD
    ),
    **dict.fromkeys(("rn.Loss", "rn.Fisher", "rn.Activation"), "abstract"),
    "rn.Kernels": "checked where it is used",
    **dict.fromkeys(("losses.MSE", "deep_linear.Statistics.pseudo_samples"), "no arguments"),
    "datasets.shipped": INTERNAL,
    "kernels.hadamard": INTERNAL,
    **dict.fromkeys(
        (
            "losses.softmax",
            "losses.output_hessian",
            "losses.hessian_root",
            "rn.shifted_relu.gap",
            "rn.shifted_relu.dual",
        ),
        INTERNAL,
    ),
    **dict.fromkeys(
        (
            "rn.Signals.parts",
            "rn.Signals.take",
            "rn.Signals.weights",
            "rn.Layerwise.Sigma",
            "rn.BlockTridiagonal.Sigma",
        ),
        INTERNAL,
    ),
    "rn.Network.trained": INTERNAL,
    **dict.fromkeys(("rn.Exact.Sigma", "rn.BlockDiagonal.Sigma"), INTERNAL),
    **dict.fromkeys(("rn.shifted_relu.phi", "rn.shifted_relu.derivative"), "act on arrays of any kind"),
    **{f"deep_linear.{f}": INTERNAL for f in ("check", "check_chain", "is_saddle", "partial_pairs", "singular_cutoff")},
    **dict.fromkeys(("kernels.tangent_kernel", "losses.log_odds", "losses.softplus"), INTERNAL),
    **{f"linear_training.{f}": INTERNAL for f in ("jump", "unbounded")},
    **{f"rn.{f}.kernel_coefficient": "never defined" for f in ("Unitwise", "Entrywise", "QuasiDiagonal")},
    **{f"{cls}.check_pair": INTERNAL for cls in ("losses.MSE", "rn.CrossEntropy")},
}
# ------------------------------------------------------------------------------------------------------- the outcomes


def first_two(steps):
    return [next(steps), next(steps)]


def numbers_of(value):
    """All numbers in what a function returns, as one list of arrays."""
    if isinstance(value, (list, tuple)):
        return [a for item in value for a in numbers_of(item)]
    if isinstance(value, (np.ndarray, np.generic, float, int)):
        return [np.asarray(value)]
    return numbers_of(list(vars(value).values())) if hasattr(value, "__dict__") else []


def outcome(call, good, name, value, plain):
    """The outcome of the call with `value` for the argument `name`, and a word on it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", ".*(encountered|Casting|deprecat|invalid value)")
            result = call(**good | {name: value})
    except Exception as error:
        together = isinstance(value, (np.ndarray, rn.Signals, list, tuple))  # two that do not fit: either may be named
        return judged(
            error, [*good] if together else [name, Path(value).name] if isinstance(value, (str, Path)) else [name]
        )
    if plain is REFUSED:
        return "silent", f"gives {str(result)[:60]!r}"
    found = numbers_of(result)
    if plain is IN_RANGE:
        return (
            ("in range", "") if all(np.isfinite(a).all() for a in found if a.dtype.kind == "f") else ("silent", "nan")
        )
    expected = numbers_of(call(**good | {name: plain}))
    same = len(found) == len(expected) and all(
        a.dtype == b.dtype and np.allclose(a, b, rtol=1e-12, atol=0) for a, b in zip(found, expected, strict=True)
    )
    return ("right", "") if same else ("silent", "differs from the value for the plain argument")


def judged(error, names):
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
    ours = HOME in Path(file).parents and linecache.getline(file, line).split()[:1] == ["raise"]
    said = re.search(rf"\b({'|'.join(map(re.escape, names))})\b", str(error)) or isinstance(
        error, (FloatingPointError, MemoryError)
    )
    clear = ours and said and isinstance(error, (ValueError, FloatingPointError, MemoryError))
    return "clear" if clear else "unclear", f"{type(error).__name__}: {str(error)[:90]} [{Path(file).name}:{line}]"


def outcomes(entry):
    """(argument, value, outcome, word) of all bad values of all arguments of an entry."""
    call, arguments = ENTRIES[entry]
    good = {name: value for name, (_, value) in arguments.items()}
    for name, (kind, value) in arguments.items():
        for bad, plain in kind(value):
            yield name, bad, *outcome(call, good, name, bad, plain)


def public():
    """The names of everything public, each under `rn` if it is there."""
    # of `spectral` only what is in `rn`: all else there takes what the library has checked or computed
    modules = (rn, preprocess, datasets, deep_linear, linear_training, modes, losses, kernels, dynamics, experiments)
    seen = {}
    for module in modules:
        homes = {module.__name__, "refngd.mode_solution" if module is modes else None}
        for name, thing in vars(module).items():
            listed = name in rn.__all__ if module is rn else getattr(thing, "__module__", None) in homes
            if listed and name[0] != "_" and (inspect.isclass(thing) or inspect.isfunction(thing)):
                seen.setdefault(thing, f"{'rn' if module is rn else module.__name__.split('.')[-1]}.{name}")
    for thing, name in seen.items():
        yield name
        if inspect.isclass(thing) and EXEMPT.get(name) not in ("abstract", RECORD):
            methods = inspect.getmembers(thing, lambda m: inspect.isfunction(m) or inspect.ismethod(m))
            yield from (f"{name}.{method}" for method, _ in methods if method[0] != "_" and method != "require")


def test_everything_public_is_called():
    assert {*public()} == ENTRIES.keys() | EXEMPT.keys()


@pytest.mark.parametrize("entry", ENTRIES)
def test_bad_arguments_have_a_clear_message_or_the_right_value(entry):
    bad = [f"{name} = {str(v)[:60]}: {o}, {word}" for name, v, o, word in outcomes(entry) if o in ("silent", "unclear")]
    assert not bad, "\n".join(bad)


def test_a_silent_value_and_an_unclear_error_are_noticed():
    good = {"x": 2.0}
    assert outcome(lambda x: x, good, "x", "abc", REFUSED)[0] == "silent"
    assert outcome(lambda x: x, good, "x", np.float32(0.5), 0.25)[0] == "silent"
    assert outcome(lambda x: x / 0 * np.ones(1), good, "x", np.float64(1), IN_RANGE)[0] == "unclear"
    assert outcome(lambda x: len(x), good, "x", 1.0, REFUSED)[0] == "unclear"
    assert outcome(lambda x: rn.CrossEntropy(x), good, "y", "abc", REFUSED)[0] == "unclear"
    assert outcome(lambda rho: rn.CrossEntropy(rho), {"rho": 0.0}, "rho", "abc", REFUSED)[0] == "clear"
    assert outcome(lambda rho: rn.CrossEntropy(rho), {"rho": 0.0}, "rho", np.float32(0.5), 0.5)[0] == "right"


if __name__ == "__main__":
    total, pattern = Counter(), sys.argv[1] if len(sys.argv) > 1 else ""
    for entry in ENTRIES:
        if pattern in entry:
            found = list(outcomes(entry))
            total.update(o for _, _, o, _ in found)
            for name, bad, o, word in found:
                if o in ("silent", "unclear"):
                    print(entry, name, f"{type(bad).__name__} {str(bad)[:50]!r}", o, word)
    print(sum(total.values()), "calls:", ", ".join(f"{n} {o}" for o, n in total.most_common()))
