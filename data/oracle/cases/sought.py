"""Inputs that were sought for mutants which no other case notices: what a wrong line does at an edge.

`START` is where the cases of each operation begin: those of the other files come before, and no more are added there.
"""

import math

from .directions import FISHERS, INF
from .problems import draw, extended
from .unnoticed import nearly_singular

START = {
    "wide_training": 0,
    "angles": 11,
    "gaussian_outputs": 3,
    "predictive": 5,
    "fisher_matrix": 52,
    "direction": 320,
    "coefficient": 122,
    "empirical_coefficient": 31,
    "kernel_coefficient": 44,
    "kernels": 30,
    "averages": 8,
    "alpha": 86,
    "batch_training": 11,
    "linearized_training": 14,
    "training": 36,
    "forward": 16,
    "multiplier": 34,
    "deep_linear_update": 61,
    "deep_linear_step": 21,
    "direction_truncated": 20,
    "mode_velocity": 48,
    "mode_unbalanced": 10,
    "mode_solution": 58,
    "mode_time": 39,
    "cross_entropy": 17,
    "flow": 15,
    "forster": 9,
}
RANGE = "not in the range of float32"
FINE = "not exact in float32"
REFINED = "as accurate as from J: a Gram matrix has to be refined, or given up, kappa_gram = kappa"
PLAIN = {"sigma_w": 1.0, "sigma_b": 0.0, "parameterization": "ntk"}
LINEAR, RELU, TANH = ({"activation": name, **PLAIN} for name in ("linear", "relu", "tanh"))
STANDARD = LINEAR | {"parameterization": "standard"}
KFAC = FISHERS["KFAC"][0]
PRODUCT = KFAC | {"kfac_damping": "product"}
EXACT, SPLIT, CHAIN = ({"fisher": name, "q": 1} for name in ("Exact", "Layerwise", "BlockTridiagonal"))
PSD, REGULAR = [[1.0, 0.5], [0.5, 1.0]], [[2.0, 1.0], [1.0, 3.0]]
SINGULAR = [[2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]
ROW, TURN = [1.0, 0.5, -0.75], [0.5, 1.0, 0.25]


def times(factor, rows):
    return [[factor * v for v in row] for row in rows]


def plus(a, b, factor):
    return [u + factor * v for u, v in zip(a, b, strict=True)]


def linear_layer(x, y):
    """One layer of zeros, whose J has the rows x."""
    return {"W_1": [[0.0] * len(x[0])] * len(y[0]), "x": x, "y": y}


def small_first(size):
    """Five layers, the first of them small."""
    W = [times(size, [[4.0, 2.0], [-1.0, 4.0]]), [[4.0, 2.0], [-2.0, 4.0]], [[4.0, 1.0], [2.0, 4.0]]]
    W += [[[4.0, -2.0], [1.0, 4.0]], [[4.0, 2.0]]]
    return {f"W_{l}": w for l, w in enumerate(W, 1)} | {"x": [[1.0, -0.25], [0.5, 1.0]]}


UNLIKE = {"x": times(2.0**-140, [[1.0, 2.0], [2.0**-29, 2.0**-30]]), "x_test": [[1.0, 1.0]]}
UNEVEN = {"W_1": [[1.0, 0.0, 0.0]], "W_2": [[1.0, -1.0], [-1.0, 1.0]], "W_3": [[2.0**-140, 2.0**-160, 0.0]]}
PAIR = {
    "W_1": [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
    "W_2": [[1.0, 2.0**-30, -1.0], [-1.0, -(2.0**-30), 1.0]],
    "W_3": [[1.0, 2.0**-15, 0.0]],
}
OF_UNITS = {**RELU, "sigma_b": 1.0, "parameterization": "standard", "fisher": "Unitwise", "q": 1, "frozen": [2, 3]}


CLOSE = {"W_1": [[0.0, 0.0, 0.0]], "x": [[1.0, 0.0, 0.0], [1.0, 2.0**-24, 0.0]], "x_test": [[0.0, 1.0, 0.0]]}
RANK_2 = {
    "w_1": [[0.09375, -0.28125, -0.1875], [-0.078125, 0.234375, 0.15625]],
    "w_2": [[0.5, -0.5], [-1.0, -0.5]],
    "w_3": [[-0.25, -0.5], [0.125, 0.375], [-0.5, 0.0]],
    "w_star": [
        [0.4228515625, 0.2998046875, 1.3623046875],
        [-0.1005859375, -1.419921875, -1.2578125],
        [0.0224609375, -0.2109375, -0.484375],
    ],
}


def direction(book):
    add = book.add
    pins = ["a dead unit has a factor of 0, which damping of the product does not reach"]
    net = {"W_1": [[1.0, 0.5], [-1.0, -1.0]], "W_2": [[0.5, 0.25]]}
    net |= {"x": [[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]], "y": [[1.0], [0.0], [2.0]]}
    title = "KFAC, damped product: rho = 0 and a dead unit"
    add("boundary", title, "K&O (20)", pins, net, RELU | PRODUCT | {"rho": 0.0, "q": 1})
    net = {"W_1": [[1.0, 0.0], [1.0, 1.0], [-1.0, 0.5]], "W_2": [[1.0, 2.0, 0.75]]}
    net |= {"x": [[1.0, 2.0], [2.0, 1.0]], "y": [[1.0], [0.0]]}
    title = "KFAC, damped product: pairs of a zero and a number, rho = 2^-30, refined"
    pins = [REFINED, "rho^{-1/q} for every pair outside the range of A (x) B"]
    add("stress", title, "K&O (20)", pins, net, LINEAR | PRODUCT | {"rho": 2.0**-30, "q": 1}, strict=True)

    two = {"W_1": [[1.0, 0.5], [0.25, 1.0]], "W_2": [[1.0, 0.5]], "Sigma": PSD, "y": [[1.0]]}
    pins = ["a damped Sigma couples the blocks, although all are regular"]
    add("boundary", "Layerwise, rho = 1", "K&O (15)", pins, two | {"x": [[1.0, 0.5]]}, TANH | SPLIT | {"rho": 1.0})
    pins = ["rho lambda, of lambda far below 1"]
    inputs = two | {"x": [[8.0, 4.0]]}
    add("boundary", "Layerwise, large inputs, damped", "K&O (15)", pins, inputs, LINEAR | SPLIT | {"rho": 0.125})
    pins = ["a J of zeros has the step 0, damped or not, under any loss"]
    dead = {"W_1": [[-1.0]], "W_2": [[1.0]], "x": [[1.0]], "y": [[1.0]]}
    for Sigma in (PSD, REGULAR):
        title = f"Layerwise, Sigma_11 = {Sigma[0][0]}: everything is dead"
        add("boundary", title, "K&O (15)", pins, dead | {"Sigma": Sigma}, RELU | SPLIT | {"rho": 0.5})
    attrs = RELU | KFAC | {"rho": 0.0, "q": 1}
    add("boundary", "KFAC: everything is dead", "K&O (20)", pins, dead, attrs)
    chain = {"W_1": [[-1.0]], "W_2": [[1.0]], "W_3": [[1.0]], "x": [[1.0]], "y": [[1.0]]}
    add("boundary", "BlockTridiagonal: everything is dead", "K&O (19)", pins, chain, RELU | CHAIN | {"rho": 0.5})
    inputs = {"W_1": [[1.0]], "x": [[1.0], [2.0]], "y": [[1.0], [2.0]]}
    attrs = LINEAR | {"fisher": "Unitwise", "rho": 0.0, "q": 1}
    add("boundary", "Unitwise: no residual is left", "K&O (23)", ["the step is 0"], inputs, attrs)

    pins = [REFINED, "samples of a unit whose r differ by a factor of 2^20", RANGE]
    for y in ([[1.0], [2.0], [1.0]], [[-1.0], [-2.0], [1.0]]):
        inputs = UNEVEN | {"x": [[2.0**-7, 0.5], [2.0, -1.0], [0.0, 0.5]], "y": y}
        title = f"Unitwise: rows of different size, y_1 = {y[0][0]}, refined"
        add("stress", title, "K&O (23)", pins, inputs, OF_UNITS | {"rho": 0.0}, strict=True)
    inputs = PAIR | {"x": [[0.5, 0.5], [2.0, -1.0], [-1.0, 8.0]], "y": [[-1.0], [-2.0], [1.0]]}
    title = "Unitwise: rows and inputs of different size, refined"
    add("stress", title, "K&O (23)", pins, inputs, OF_UNITS | {"rho": 2.0**-44}, strict=True)

    deep = {
        "W_1": [[0.5, -0.25, 1.0], [0.75, 1.0, -0.5], [1.0, 0.25, 0.5]],
        "W_2": [[1.0, -0.5, 0.75], [-0.25, 1.0, 0.5], [0.5, 0.5, -1.0]],
        "W_3": [[0.5, 1.0, -0.75]],
        "x": times(2.0**60, [[1.0, 0.5, -0.25], [0.25, -1.0, 0.75]]),
        "y": [[1.0], [-0.5]],
        "Sigma": [[2.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]],
    }
    pins = ["what is regular is so whatever the units of G"]
    add("stress", "Layerwise, inputs of 2^60", "K&O (15)", [*pins, RANGE], deep, STANDARD | SPLIT | {"rho": 2.0**120})
    inputs = {
        "W_1": [[1.0, 0.5], [0.5, 1.0], [0.25, 1.0], [1.0, 0.75]],
        "W_2": [[1.0, 0.5, 0.25, 0.75], [1.0, 0.5, 0.25, 0.765625]],
        "x": [[1.0, 0.5], [1.0, 0.25]],
        "y": [[1.0, 0.0], [0.0, 1.0]],
    }
    attrs = TANH | KFAC | {"parameterization": "standard", "rho": 2.0**-18, "q": 1}
    add("stress", "KFAC: outputs next to each other", "K&O (20)", ["B is nearly singular"], inputs, attrs)

    base = [[1.0, 0.5, 0.75, -0.5, 0.25, 0.125], [0.25, -1.0, 0.5, 1.0, -0.75, 0.5]]
    base += [[0.75, 0.25, -0.625, 0.5, 1.0, -0.375]]
    sum_of_others = plus(plus(base[0], base[1], 0.75), base[2], -0.625)
    y = [[1.0], [-0.5], [0.25], [1.0]]
    pins = [REFINED, "a residual outside the range of J"]
    for size, rho in ((0, -36), (30, 24)):
        inputs = linear_layer(times(2.0**size, [*base, sum_of_others]), y)
        title = f"Exact: a sample that is the sum of others, times 2^{size}, rho = 2^{rho}, refined"
        add("stress", title, "K&O (8)", pins, inputs, STANDARD | EXACT | {"rho": 2.0**rho}, strict=True)
    near = plus(sum_of_others, [0.5, -1.0, 0.25, 0.75, -0.5, 1.0], 2.0**-20)
    y = [[1.0], [-0.5], [0.25], [0.5]]
    inputs = linear_layer(times(2.0**-30, [*base, near]), y)
    title = "Exact: a sample 2^-20 from the sum of others, times 2^-30, refined"
    add("stress", title, "K&O (8)", [REFINED], inputs, STANDARD | EXACT | {"rho": 0.0}, strict=True)
    inputs = {
        "W_1": [[-0.5], [-0.75], [0.0]],
        "W_2": [[-1.5, 0.25, -1.5]],
        "x": [[0.0], [-0.375], [1.25], [-0.25]],
        "y": [[0.125], [1.375], [0.625], [0.75]],
    }
    title = "Exact: samples on a line, one of them 0, rho = 2^-49, refined"
    add("stress", title, "K&O (8)", pins, inputs, LINEAR | EXACT | {"rho": 2.0**-49}, strict=True)
    inputs = {"W_1": [[1.0], [2.0], [-0.5]], "W_2": [[1.0, 0.5, 1.0]], "x": [[1.0], [2.0]], "y": [[1.0], [0.5]]}
    title = "Exact: two samples on a line, rho = 2^-20, refined"
    add("stress", title, "K&O (8)", pins, inputs, LINEAR | EXACT | {"rho": 2.0**-20}, strict=True)
    y = [[1.0], [2.0]]
    for title, rows, q in (
        ("2^-16 from parallel, of different size", [times(2.0**-20, [ROW])[0], plus(ROW, TURN, 2.0**-16)], 1),
        ("2^-8 from parallel, times 2^20", times(2.0**20, [ROW, plus(ROW, TURN, 2.0**-8)]), 1),
        ("2^-22 from each other", [ROW, plus(ROW, TURN, 2.0**-22)], 1),
        ("2^-22 from each other, times 2^60", times(2.0**60, [ROW, plus(ROW, TURN, 2.0**-22)]), 1),
        ("2^-27 from each other", [ROW, plus(ROW, TURN, 2.0**-27)], 1),
        ("2^-27 from each other", [ROW, plus(ROW, TURN, 2.0**-27)], 2),
    ):
        inputs, attrs = linear_layer(rows, y), LINEAR | EXACT | {"rho": 0.0, "q": q}
        add(
            "stress",
            f"Exact: two rows {title}, q = {q}, refined",
            "K&O (8)",
            [REFINED, FINE],
            inputs,
            attrs,
            strict=True,
        )
    inputs = linear_layer([times(2.0**-20, [ROW])[0], plus(ROW, TURN, 2.0**-16)], y)
    attrs = LINEAR | KFAC | {"rho": 0.0, "q": 1}
    title = "KFAC: two rows 2^-16 from parallel, of different size, refined"
    add("stress", title, "K&O (20)", [REFINED, FINE], inputs, attrs, strict=True)
    pins = [REFINED, "whatever the units of J", FINE]
    for gap, q in ((-16, 2), (-21, 1)):
        rows = [[1.0, 0.5, 0.25, 0.75], plus([1.0, 0.5, 0.25, 0.75], [0.5, 1.0, -1.0, 0.25], 2.0**gap)]
        inputs = {"W_1": [[1.0, 1.0, 0.5, -0.5]], "x": [*rows, [0.25, -1.0, 0.5, 0.125]]}
        inputs |= {"y": times(2.0**46, [[1.0], [0.0], [0.5]])}
        attrs = LINEAR | EXACT | {"sigma_w": 2.0**46, "rho": 0.0, "q": q}
        title = f"Exact, sigma_w = 2^46: two samples 2^{gap} from each other, q = {q}, refined"
        add("stress", title, "K&O (8)", pins, inputs, attrs, strict=True)
    x = draw(91050, (24, 26))
    inputs = linear_layer([*x[:-1], plus(x[0], x[-1], 2.0**-6)], [[v] for v in draw(91070, (24,))])
    title = "Exact: twenty-four samples, two of them 2^-6 from each other, refined"
    add("stress", title, "K&O (8)", [REFINED], inputs, LINEAR | EXACT | {"rho": 0.0}, strict=True)

    size = 2.0**-140
    inputs = {
        "W_1": [[1.0, 0.5, 0.25], [-1.0, 0.75, 0.5]],
        "W_2": times(size, [[1.0, 0.5, 0.25]]),
        "x": times(size, [[1.0, 2.0], [0.5, -1.0], [2.0, 0.25]]),
        "y": times(size, [[1.0], [0.0], [0.5]]),
    }
    attrs = RELU | {"sigma_b": size, "fisher": "QuasiDiagonal", "rho": 0.0, "q": 1}
    title = "QuasiDiagonal: fourth powers of J underflow"
    add("stress", title, "K&O, section 3.2", ["the scale of J does not matter", RANGE], inputs, attrs)
    pins = ["probabilities of 0 that are none"]
    inputs = {"W_1": [[8.0, 8.0], [-8.0, -8.0], [7.0, 7.875]], "x": [[64.0, 64.0]], "y": [[1.0, 0.0, 0.0]]}
    attrs = RELU | EXACT | {"loss": "cross-entropy", "rho": 0.0}
    add("stress", "Exact: logits of 724 and -724", "K&O (S.159)", [*pins, RANGE], inputs, attrs)
    inputs = {"W_1": [[1.0, 0.0], [-1000.0, 0.0]], "x": [[1.0, 2.0**130]], "y": [[0.0, 1.0]]}
    attrs = STANDARD | KFAC | {"loss": "cross-entropy", "loss_rho": 2.0**-1022, "rho": 0.0, "q": 1}
    add("stress", "KFAC: loss_rho = 2^-1022", "K&O (S.159)", ["Lambda + loss_rho I", RANGE], inputs, attrs)

    def coupled(kind, title, pins, Sigma, W, x, y, attrs, **more):
        inputs = {f"W_{l}": w for l, w in enumerate(W, 1)} | {"x": x, "y": y, "Sigma": Sigma}
        add(kind, f"Layerwise: {title}", "K&O (15)", pins, inputs, attrs | SPLIT | {"rho": 0.0}, **more)

    zeros = [[0.0], [0.0]]
    W = [[[1.0, 0.5], [0.5, 1.0]], [[1.0, -0.5], [0.25, 1.0]], [[1.0, 0.5]]]
    x, y = [[1.0, 0.5], [0.25, 1.0]], [[1.0], [0.5]]
    title, pins = "a singular Sigma without positive eigenvalue", ["the zero of Sigma is relative to its modulus"]
    coupled("boundary", title, pins, times(-1.0, SINGULAR), W, x, y, TANH)
    W = [
        [[1.625, -0.125, -1.5], [-0.75, -0.625, -1.125], [0.125, 0.875, 1.25]],
        [[-0.875, 0.5, 1.5], [0.875, 0.0, -0.875], [2.0, -0.125, 0.375]],
        [[-0.75, 0.5, -0.5]],
    ]
    x = [[0.5, -0.5, 1.375], times(2.0**-20, [[0.375, 1.0, -1.0]])[0], [-0.25, -1.125, -1.25]]
    title = "a sample 2^-20 of the others and a singular Sigma, refined"
    rows = ["(T J)^+ T e = J^+ e for J of full row rank, T diagonal"]
    coupled("stress", title, rows, SINGULAR, W, x, [[-0.875], [0.0], [0.0]], LINEAR, strict=True)
    unit = [[1.0, 0.0], [0.0, 1.0]]
    Sigma = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.5, 0.5, 0.5]]
    x = [[1.0, 0.0], [0.0, 2.0**-28]]
    title = "a sample 2^-28 of the other and a singular Sigma, refined"
    coupled("stress", title, rows, Sigma, [unit, unit, [[1.0, 1.0]]], x, zeros, STANDARD, strict=True)
    W, wide = [[[1.0, 0.5], [0.25, -1.0]], [[1.0, -0.5]]], [[1.0, 0.0], [0.0, 16.0]]
    no_range = [[1.0, 2.0], [2.0, 4.0]]
    title, pins = (
        "1 is not in the range of Sigma, samples of different size",
        ["rows stay as they are where J is singular"],
    )
    coupled("stress", title, pins, no_range, W, wide, zeros, STANDARD)
    W = [[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0]]]
    swapped = [[0.0, 1.0], [1.0, 0.0]]
    title = "one of two blocks is singular, samples of different size"
    coupled("stress", title, pins, swapped, W, wide, zeros, STANDARD)
    W, x = [[[1.0, 0.5], [0.25, -1.0]], [[1.0, -0.5]]], [[2.0**-60, 0.0], [0.0, 2.0**-59]]
    title, pins = "1 is not in the range of Sigma, samples of 2^-60", ["the scale of J does not matter"]
    coupled("stress", title, pins, no_range, W, x, zeros, STANDARD)
    W = [[[1.0, -0.25], [0.75, 0.5]], [[0.0, 0.25]]]
    x = times(2.0**18, [[1.0, 3.0], [1.0 + 2.0**-21, 3.0 + 2.0**-23]])
    title = "indefinite, samples 2^-21 from each other, refined"
    coupled("stress", title, [REFINED], [[1.0, 2.0], [2.0, 1.0]], W, x, [[-1.0], [0.0]], STANDARD, strict=True)

    inputs = {"W_1": [[1.0]], "x": [[1.0]] * 3, "y": [[0.0]] * 3}
    attrs = STANDARD | KFAC | {"rho": 2.0**-10, "q": 1}
    add("stress", "KFAC: a sample three times, damped, refined", "K&O (20)", [REFINED], inputs, attrs, strict=True)
    a, step = [-0.125, -0.75, 1.0, -0.75, -0.75], [2.0, -5.0, 16.0, 0.0, 9.0]
    inputs = linear_layer([a, plus(a, step, 2.0**-27)], [[-0.25], [-0.25]])
    attrs = STANDARD | KFAC | {"rho": 0.0, "q": 1}
    title = "KFAC: two samples 2^-27 from each other, refined"
    add("stress", title, "K&O (20)", [REFINED, FINE], inputs, attrs, strict=True)
    x = times(2.0**-140, [[1.0, 0.0, 0.0, 0.0], [1.0, 2.0**-24, 0.0, 0.0], [0.0] * 4])
    y = [[2.0**-50], [-(2.0**-50)], [1.0]]
    title = "Exact: a large residual of the sample 0, refined"
    pins = [REFINED, "what the range of J leaves out is relative to what J can see", RANGE]
    add("stress", title, "K&O (9)", pins, linear_layer(x, y), STANDARD | EXACT | {"rho": 0.0}, strict=True)
    inputs = linear_layer([[2.0**-8, 0.0, 0.0, 0.0]] * 2, [[1.0], [2.0**-4 - 1.0]])
    title = "Exact: a small sample twice, damped, refined"
    add("stress", title, "K&O (9)", [REFINED], inputs, STANDARD | EXACT | {"rho": 2.0**-25}, strict=True)

    inputs = {"W_1": unit, "W_2": [[1.0, 2.0**-520]], "x": [[1.0, -1.0], [-1.0, 1.0]], "y": zeros}
    attrs = RELU | {"fisher": "Unitwise", "rho": 0.0, "q": 1}
    pins = ["the scale of a unit does not matter", RANGE]
    add("stress", "Unitwise: a unit that the output all but ignores", "K&O (23)", pins, inputs, attrs)
    pins = ["where rho is above all of J J^T the step is grad L / rho^(1/q), however small", RANGE]
    for fisher, size, q in (("BlockDiagonal", -300, 1), ("BlockDiagonal", -300, 2), ("Unitwise", -500, 1)):
        inputs = {"W_1": [[1.0]], "W_2": [[2.0**size]], "x": [[2.0**size]], "y": [[1.0]]}
        title = f"{fisher}: a layer of 2^{2 * size}, q = {q}, damped"
        add("stress", title, "K&O (18)", pins, inputs, LINEAR | {"fisher": fisher, "rho": 1.0, "q": q})
    W, small = [[[1.0, 0.5], [0.25, 1.0]], [[1.0, 0.5], [-0.5, 1.0]], [[1.0, 0.5]]], 2.0**-38
    Sigma = [[0.0, small, 1.0], [small, 2 * small, 1.0], [1.0, 1.0, 0.0]]
    inputs = {f"W_{l}": w for l, w in enumerate(W, 1)} | {"x": [[1.0, 0.5]], "y": [[0.0]], "Sigma": Sigma}
    pins = ["all of 1 that Sigma leaves out has the eigenvalue rho"]
    title = "Layerwise: 1 is 2^-39 from the range of Sigma, damped"
    add("stress", title, "K&O (15)", pins, inputs, STANDARD | SPLIT | {"rho": 2.0**-10})
    W = [[[0.875, 0.75, -1.125], [0.25, 0.25, -1.125]], [[-0.25, 2.375]]]
    x = [[2.625, 2.0, 0.3125], [2.624999523162842, 2.0, 0.3124997615814209]]
    y = [[1.7998046875], [1.7998050786554813]]
    title = "nearly equal samples with nearly equal residuals, refined"
    coupled("stress", title, [REFINED, FINE], [[4.0, 2.0], [2.0, 4.0]], W, x, y, STANDARD, strict=True)
    W = [[[-2.125, -1.0], [-0.25, 0.5]], [[-0.125, 0.625], [1.25, 0.0], [-2.375, 0.25]], [[-0.5, -0.75, 0.5]]]
    x = [[1.375, 1.0], [1.375 - 2.0**-28, 1.0 - 2.0**-28]]
    Sigma, y = [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, -2.0]], [[8.8095703125], [7.559570288663963]]
    title = "indefinite, samples 2^-28 from each other, refined"
    coupled("stress", title, [REFINED, FINE], Sigma, W, x, y, STANDARD, strict=True)
    inputs = linear_layer([[1.0, 0.0], [1.0, 2.0**-18]], [[-1.0], [1.0]]) | {"W_1": [[0.0, 0.0]]}
    attrs = STANDARD | {"fisher": "Unitwise", "rho": 2.0**-8, "q": 1}
    title = "Unitwise: two samples 2^-18 from each other, damped, refined"
    add("stress", title, "K&O (23)", [REFINED], inputs, attrs, strict=True)
    gap = 2.0**-22
    inputs = {"W_1": [[1.0]] * 4, "W_2": [[1.0, 0.25, 0.75, 0.0], [1.0, 0.25 + gap, 0.75 - 2 * gap, 3 * gap]]}
    inputs |= {"x": [[1.0], [-1.0]], "y": [[0.5, -0.25], [2.0**60, 1.0]]}
    attrs = RELU | {"parameterization": "standard"} | KFAC | {"rho": 0.0, "q": 1}
    pins = [REFINED, "the residual of a dead sample does not act"]
    title = "KFAC: outputs 2^-22 from each other, a dead sample of 2^60, refined"
    add("stress", title, "K&O (20)", pins, inputs, attrs, strict=True)
    inputs = {"W_1": times(2.0**-40, [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]), "W_2": [[1.0, 1.0]]}
    inputs["x"] = [[1.0, 0.0, 0.0, 0.0], [1.0, 87 / 2048, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 2.0**-30]]
    inputs["y"] = [[0.0], [1.0], [0.0], [0.0]]
    attrs = RELU | {"parameterization": "standard", "fisher": "Unitwise", "rho": 0.0, "q": 1, "frozen": [2]}
    title, pins = (
        "Unitwise: one of two units is singular, refined",
        [REFINED, "a unit has nothing to do with the others"],
    )
    add("stress", title, "K&O (23)", pins, inputs, attrs, strict=True)
    inputs = {"W_1": [[1.0, -1.0], [-1.0, 1.0]], "W_2": [[-1.0, -1.0]], "x": [[1.0, 0.0], [0.0, 2.0**-600]]}
    title, pins = (
        "Unitwise: a unit that sees a sample of 2^-600 alone",
        ["the scale of a sample does not matter", RANGE],
    )
    add("stress", title, "K&O (23)", pins, inputs | {"y": zeros}, attrs)
    inputs = {"W_1": [[1.0], [1.0]], "W_2": [[1.0, 0.0], [0.0, 2.0**-510]], "x": [[1.0]], "y": [[0.0, 0.0]]}
    attrs = STANDARD | {"fisher": "Unitwise", "rho": 0.0, "q": 1, "frozen": [2]}
    title, pins = "Unitwise: delta of 2^-510 beside 1", ["what is regular is alive, however small", RANGE]
    add("stress", title, "K&O (23)", pins, inputs, attrs)


def coefficient(book):
    inputs = {"W_1": [[1.0, 0.5]], "W_2": [[0.5, 0.25]], "x": [[1.0], [2.0]], "x_test": [[0.5]]}
    attrs = LINEAR | {"sigma_b": 1.0, "fisher": "QuasiDiagonal", "rho": 0.5, "q": 1, "frozen": ["output-bias"]}
    pins = ["the first layer has its bias, the second has not"]
    book.add("boundary", "QuasiDiagonal: the bias of the output is fixed", "K&O, section 3.2", pins, inputs, attrs)
    inputs = {"W_1": [[2.0, 1.0]], "x": [[4.0, 2.0]], "x_test": [[8.0, 4.0]]}
    attrs = LINEAR | {"sigma_w": 2.0**300, "fisher": "Entrywise", "rho": 2.0**1022, "q": 1}
    pins = ["J^2 + rho stays in the range", RANGE]
    book.add("stress", "Entrywise: rho = 2^1022", "K&O, section 3.2", pins, inputs, attrs)
    inputs = {"W_1": [[1.0, 0.5], [0.5, 1.0]], "W_2": [[1.0, 0.5]], "Sigma": PSD}
    inputs |= {"x": [[1.0, 2.0], [2.0, 1.0]], "x_test": [[1.0, 1.0]]}
    pins = ["squares of J are far above rho"]
    attrs = RELU | SPLIT | {"sigma_w": 2.0**26, "rho": 4.0}
    book.add("stress", "Layerwise, sigma_w = 2^26", "K&O (16)", pins, inputs, attrs)
    inputs = small_first(2.0**-6) | {"x_test": [[1.0, 1.0]]}
    title, pins = "BlockTridiagonal, five layers: W_1 of 2^-6", ["blocks of different size, and a singular Sigma"]
    book.add("stress", title, "K&O (19)", pins, inputs, STANDARD | CHAIN | {"rho": 0.0})
    inputs = {"W_1": [[1.0, 0.0], [1.0, 1.0], [-1.0, -0.5]], "W_2": [[1.0, 2.0, 0.75]]}
    inputs |= {"x": [[1.0, 1.0], [-1.0, -1.0]], "x_test": [[1.0, 0.0]]}
    attrs = RELU | {"fisher": "Unitwise", "rho": 0.0, "q": 1}
    pins = ["each sample is dead for some units"]
    book.add("boundary", "Unitwise: opposite samples", "K&O (23)", pins, inputs, attrs)
    pins = [REFINED, "samples of a unit whose r differ", RANGE]
    x = {"x": [[2.0**-10, 7.5], [2.0, -1.0], [0.0, 7.5]], "x_test": [[2.0, 3.0]]}
    title = "Unitwise: rows of different size, refined"
    book.add("stress", title, "K&O (23)", pins, UNEVEN | x, OF_UNITS | {"rho": 0.0}, strict=True)
    x = {"x": [[0.5, 0.5], [2.0, -1.0], [-1.0, 0.5]], "x_test": [[0.75, 0.5], [1.5, 0.25]]}
    title = "Unitwise: rows of different size, rho = 2^-40, refined"
    book.add("stress", title, "K&O (23)", pins, PAIR | x, OF_UNITS | {"rho": 2.0**-40}, strict=True)
    x = times(2.0**-140, [[0.0] * 4, [1.0, 0.0, 0.0, 0.0], [0.0, 2.0**-30, 0.0, 0.0]])
    inputs = {"W_1": [[1.0] * 4], "x": x, "x_test": [[1.0, 1.0, 0.0, 0.0]]}
    title, pins = "Exact: samples of 0, 2^-140 and 2^-170, refined", [REFINED, "a row of zeros beside others", RANGE]
    book.add("stress", title, "K&O (9)", pins, inputs, LINEAR | EXACT | {"rho": 0.0}, strict=True)
    inputs = {"W_1": [[1.0, 2.0]], "x": [[2.0**600, 0.0], [0.0, 2.0**600]], "x_test": [[2.0**-600] * 2]}
    attrs = LINEAR | {"fisher": "Unitwise", "rho": 1.0, "q": 1}
    pins = ["J(x') and J(x) of opposite size", RANGE]
    book.add("stress", "Unitwise: inputs of 2^600 and of 2^-600", "K&O (23)", pins, inputs, attrs)

    inputs = {"W_1": draw(93100, (20, 1)), "W_2": draw(93101, (1, 20)), "x": draw(93102, (96, 1)), "x_test": [[0.5]]}
    attrs = LINEAR | {"fisher": "Unitwise", "rho": 0.5, "q": 1}
    pins = ["whatever is done at a time, every unit counts once"]
    title = "Unitwise: twenty units and ninety-six samples, refined"
    book.add("boundary", title, "K&O (23)", pins, inputs, attrs, strict=True)
    inputs = {"W_1": [[1.0]], "W_2": [[2.0**500]], "x": [[2.0**300]], "x_test": [[2.0**300]]}
    attrs = LINEAR | {"fisher": "Entrywise", "rho": 0.0, "q": 1}
    pins = ["h and delta of every layer have their own size", RANGE]
    book.add("stress", "Entrywise: weights of 1 and of 2^500", "K&O, section 3.2", pins, inputs, attrs)
    for q in (1, 2):
        title, pins = f"Exact: a damped direction that Theta cannot tell from 0, q = {q}", ["rho keeps it"]
        book.add("stress", title, "K&O (11)", pins, CLOSE, STANDARD | EXACT | {"rho": 2.0**-30, "q": q})
    inputs = {"W_1": [[1.0, 1.0, 1.0]], "x": [[1.0, 0.0, 0.0], [0.0, 2.0**-7, 0.0]], "x_test": [[1.0, 1.0, 1.0]]}
    attrs = STANDARD | EXACT | {"rho": 0.0, "rcond": 2.0**-10}
    pins = ["rcond is of the singular values of J, and not of their squares"]
    book.add("stress", "Exact: rcond below the smallest singular value", "K&O (11)", pins, inputs, attrs)
    x = times(2.0**-140, [[1.0, 0.0], [0.0, 2.0**-50]])
    inputs = {"W_1": [[1.0, 1.0]], "x": x, "x_test": times(2.0**-140, [[0.0, 1.0]])}
    attrs = STANDARD | {"fisher": "Unitwise", "rho": 2.0**-260, "q": 1}
    title, pins = "Unitwise: samples of 2^-140 and 2^-190, damped", ["rho is far above every row of J", RANGE]
    book.add("stress", title, "K&O (23)", pins, inputs, attrs)


def empirical_coefficient(book):
    pins = ["samples of different size: no direction is cut off", "B_l and A_l alone"]
    pins = [REFINED, *pins, RANGE]
    inputs = {"W_1": [[1.0, 0.5], [0.5, 1.0]], "W_2": [[1.0, 0.5]], "Sigma": PSD, **UNLIKE}
    title = "Layerwise: samples of 2^-140 and 2^-170, refined"
    book.add("stress", title, "K&O (16)", pins, inputs, RELU | SPLIT | {"rho": 0.0}, strict=True)
    x = times(2.0**-140, [[1.0, 0.5], [-(2.0**-27), 3 * 2.0**-28]])
    inputs, attrs = {"W_1": [[0.5, 1.0]], "x": x, "x_test": [[1.0, 1.0]]}, LINEAR | EXACT | {"rho": 0.0}
    title = "Exact: samples of 2^-140 and 2^-167, refined"
    book.add("stress", title, "K&O (9)", pins, inputs, attrs, strict=True)

    attrs = STANDARD | EXACT | {"rho": 2.0**-30}
    title, pins = "Exact: a damped direction that Theta cannot tell from 0", ["rho keeps it"]
    book.add("stress", title, "K&O (11)", pins, CLOSE, attrs)
    inputs = {"W_1": [[1.0, 0.0]], "W_2": [[1.0, 0.0]], "x": [[1.0], [-1.0]], "x_test": [[2.0]]}
    attrs = STANDARD | {"activation": "relu", "sigma_b": 1.0} | SPLIT | {"rho": 0.0}
    pins = ["a sample is dead in one layer alone"]
    title = "Layerwise, indefinite: a sample dead in the second layer"
    book.add("boundary", title, "K&O (15)", pins, inputs | {"Sigma": [[1.0, 2.0], [2.0, 1.0]]}, attrs)


def kernel_coefficient(book):
    pins = ["the system is that of Theta, although Theta is near I"]
    attrs = LINEAR | CHAIN | {"depth": 3, "rho": 0.125}
    del attrs["parameterization"]
    book.add("boundary", "BlockTridiagonal, one sample", "K&O (19)", pins, {"x": [[1.125]], "x_test": [[1.0]]}, attrs)
    inputs = {"x": [[1.0, 2.0**-10, 0.0], [0.0, 2.0**-7, 1.0]], "x_test": [[1.0, 1.0, 1.0]]}
    title, pins = "BlockTridiagonal, samples nearly orthogonal", ["matrix products, not products of entries"]
    book.add("stress", title, "K&O (19)", pins, inputs, attrs | {"rho": 2.0**-20})
    inputs = {"x": [[1 + n / 128] for n in range(513)], "x_test": [[1.0]]}
    attrs = {"activation": "relu", "sigma_w": 1.0, "sigma_b": 0.0, "fisher": "Identity", "depth": 1, "rho": 0.0, "q": 1}
    pins = ["kernels of many samples, whatever blocks they are computed in"]
    book.add("boundary", "Identity: 513 samples", "K&O (9)", pins, inputs, attrs)


def kernels(book):
    plain = {"sigma_w": 1.0, "sigma_b": 0.0, "depth": 2}
    inputs, pins = {"x": [[1.0, 0.0], [0.0, 1.0]]}, ["a correlation of 0"]
    book.add("boundary", "relu: orthogonal samples", "K&O (S.171)", pins, inputs, {"activation": "relu", **plain})
    inputs = {"x": [[2.0**-10, 1.0, 0.0]], "x_test": [[5 * 2.0**-10, 0.0, 1.75]]}
    pins = ["a correlation near 0 is known to its last digits, not those of 1 less it"]
    book.add(
        "boundary", "linear: samples nearly orthogonal", "K&O (S.171)", pins, inputs, {"activation": "linear", **plain}
    )
    pins = ["squares of a negative entry", RANGE]
    inputs = {"x": [[-1.0, 2.0**-600]]}
    book.add("stress", "relu: entries of -1 and 2^-600", "K&O (S.171)", pins, inputs, {"activation": "relu", **plain})

    inputs = {"x": [[1.0, 0.0]], "x_test": [[0.25, 0.75]]}
    attrs = RELU | {"sigma_b": 8.0, "depth": 2}
    pins = ["two samples that the bias makes nearly parallel"]
    book.add("boundary", "a bias far above the inputs", "K&O (S.171)", pins, inputs, attrs)
    attrs = TANH | {"sigma_w": 8.0, "depth": 1}
    pins = ["what a last layer would need is not asked for"]
    book.add("boundary", "one layer, however large sigma_w", "K&O (S.171)", pins, {"x": [[1.0]]}, attrs)
    inputs = {"x": [[1.0, 0.0], [-1.0, 1.0]]}
    pins = ["two samples that the bias makes nearly parallel"]
    book.add(
        "boundary", "a bias far above two samples", "K&O (S.171)", pins, inputs, RELU | {"sigma_b": 16.0, "depth": 3}
    )
    inputs = {"x": [[1.0]], "x_test": [[1.0]] * 512 + [[2.0]]}
    pins = ["however many samples there are"]
    book.add("boundary", "513 samples to predict", "K&O (S.171)", pins, inputs, LINEAR | {"depth": 1})


def angles(book):
    attrs, pins = {"activation": "shifted_relu", "shift": 1.0}, ["the gap far from the kink, to the last digit"]
    for theta, size in ((0.0390625, -6), (0.0234375, -10)):
        inputs = {"theta": [theta], "a": [2.0**size], "b": [2.0**size]}
        book.add("boundary", f"shifted ReLU, a = 2^{size}", "K&O (S.178)", pins, inputs, attrs)


def gaussian_outputs(book):
    inputs = {"K": times(2.0**-60, [[2.0, 1.0], [1.0, 2.0]]), "Z": [[1.0], [0.0]]}
    book.add("boundary", "K of 2^-60", "K&O (S.171)", ["the scale of K does not matter"], inputs, {})


def predictive(book):
    inputs = {"K": times(2.0**-60, [[2.0, 1.0], [1.0, 2.0]]), "Theta_bar": [[1.0]], "cross": [[0.5]], "y": [[1.0]]}
    title, pins = "K of 2^-60", ["the scale of K does not matter"]
    book.add("boundary", title, "THEORY 7", pins, inputs, {"eta": 0.5, "t": 1})


def fisher_matrix(book):
    attrs = TANH | {"parameterization": "standard", "fisher": "BlockDiagonal"}
    inputs = {"W_1": [[1.0, 0.5], [-0.5, 1.0]], "W_2": [[1.0, 0.5]], "x": [[1.0, 0.25], [0.5, -1.0]]}
    book.add("limit", "BlockDiagonal: rho is absent", "K&O (18)", ["rho = 0"], inputs, attrs)


def wide_training(book):
    pins = ["Theta of all layers, and f_0 has the mean 0"]
    net = {"sigma_w": 1.5, "sigma_b": 0.5, "parameterization": "ntk"}
    for k, (activation, depth, N, C, eta, t) in enumerate(
        (("relu", 3, 5, 2, 0.375, 4), ("erf", 2, 4, 1, 0.25, INF), ("linear", 4, 3, 2, 0.625, 7))
    ):
        x, y, x_test = (draw(95000 + 10 * k + j, shape) for j, shape in enumerate(((N, 3), (N, C), (2, 3))))
        attrs = net | {"activation": activation, "depth": depth, "eta": eta, "t": t}
        kind = "limit" if t == INF else "discriminating"
        inputs = {"x": x, "y": y, "x_test": x_test}
        book.add(kind, f"{activation}, {depth} layers, t = {t}", "K&O (10)", pins, inputs, attrs)
    inputs = {"x": [[1.0]] * 256 + [[2.0]], "y": [[1.0]] * 256 + [[0.0]], "x_test": [[1.0]]}
    attrs = LINEAR | {"depth": 1, "eta": 0.25, "t": 2}
    book.add("boundary", "257 samples", "K&O (10)", ["Theta is symmetric, however many samples"], inputs, attrs)
    inputs = {"x": [[1.0]], "y": [[1.0]], "x_test": [[1.0]]}
    error = "eta must be positive"
    book.refuse("eta = 0", "K&O (10)", "training that stands", inputs, attrs | {"eta": 0.0}, error)


def averages(book):
    pins = ["E[phi phi] and E[phi' phi'] where u is small"]
    inputs = {"r": [[0.5]], "a": [2.0**-9], "b": [2.0**-9]}
    book.add("boundary", "tanh: a = b = 2^-9", "THEORY 6", pins, inputs, {"activation": "tanh"})
    pins = ["u hardly ever reaches the kink, or hardly ever leaves it"]
    for shift, a, b, r in (
        (1.0, 15 / 1024, 13 / 1024, 0.25),
        (1.0, 21 / 1024, 13 / 1024, 0.875),
        (-1.0, 0.125, 0.125, 0.25),
        (0.0625, 8.0, 2.0**-8, 2.0**-10),
        (-3.0, 1.125, 1.125, -0.75),
    ):
        inputs, attrs = {"r": [[r]], "a": [a], "b": [b]}, {"activation": "shifted_relu", "shift": shift}
        title = f"shifted_relu({shift}): a = {a}, b = {b}, r = {r}"
        book.add("stress", title, "THEORY 6", pins, inputs, attrs)


def alpha(book):
    plain = {"sigma_w": 1.5, "sigma_b": 0.0, "parameterization": "ntk"}
    relu, linear, tanh = ({"activation": name, **plain} for name in ("relu", "linear", "tanh"))
    exact, kfac = {"fisher": "Exact"}, {"fisher": "KFAC"}
    wrong = "an alpha where there is none"
    pins = ["two rays with C rows each"]
    for widths in ([1, 20, 3], [1, 16, 2]):
        attrs = relu | {"fisher": "BlockDiagonal", "widths": widths, "n": 2, "frozen": [2]}
        book.add("boundary", f"BlockDiagonal, relu, {widths}: two samples of one input", "K&O (12)", pins, {}, attrs)
    for title, widths, n, error in (
        ("three samples through one unit", [2, 1, 4, 1], 3, "a unit takes all samples to one ray"),
        ("five samples, ten weights of which six count", [2, 2, 1], 5, "J has fewer independent rows"),
        ("two samples of which one unit lets one pass", [1, 1, 8, 1], 2, "one of the samples is dead"),
    ):
        attrs = relu | exact | {"widths": widths, "n": n}
        error = f"there is no alpha for these widths and n: {error}"
        book.refuse(f"Exact, relu, {widths}: {title}", "K&O (12)", wrong, {}, attrs, error)
    separate = kfac | {"kfac_bias": "separate", "widths": [3, 3, 1], "n": 2, "frozen": ["output-bias"]}
    error = "there is no alpha for these widths and n: the bias of a linear network adds 1 1^T"
    book.refuse("KFAC, the bias apart, linear", "K&O (12)", wrong, {}, linear | separate | {"sigma_b": 0.5}, error)
    pins = ["the bias of the first layer adds n, that of the output is fixed"]
    book.add("boundary", "KFAC, the bias apart, tanh", "K&O (12)", pins, {}, tanh | separate | {"sigma_b": 0.5})
    biased = {"activation": "tanh", "sigma_w": 1.0, "sigma_b": 1.0, "parameterization": "ntk"}
    corners = [[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]]
    pins = ["N / rank of the first inputs"]
    attrs = biased | separate | {"widths": [3, 8, 1], "n": 4}
    title = "KFAC, the bias apart: a third input that is the first"
    book.add("boundary", title, "K&O (12), B.2", pins, {"x": corners}, attrs)
    cube = [[float(a), float(b), float(c), 0.0] for a in (1, -1) for b in (1, -1) for c in (1, -1)]
    attrs = biased | kfac | {"widths": [4, 8, 1], "n": 8}
    book.add("boundary", "KFAC: an input that is 0", "K&O (12), B.2", pins, {"x": cube}, attrs)
    circle = {"x": [[5.0, 0.0], [0.0, 5.0], [3.0, 4.0], [-4.0, 3.0]]}
    error = "there is no alpha for these widths, this fisher and this x: Theta_bar is not alpha I"
    for net, widths in ((linear, [2, 3, 1]), (relu, [2, 4, 1, 1])):
        attrs = net | kfac | {"widths": widths, "n": 4, "frozen": [2]}
        title = f"KFAC, {net['activation']}, {widths}: four samples on a circle"
        book.refuse(title, "K&O (12)", wrong, circle, attrs, error)
    attrs = biased | {"activation": "erf", "fisher": "Unitwise", "widths": [2, 4, 1], "n": 1}
    pins = ["one sample has one norm, be it 0"]
    book.add("boundary", "Unitwise: the sample 0, with bias", "K&O (S.128)", pins, {"x": [[0.0, 0.0]]}, attrs)

    attrs = RELU | exact | {"widths": [1, 4, 1, 1], "n": 2, "frozen": [2, 3]}
    title = "Exact, relu, [1, 4, 1, 1]: the layers that would do are frozen"
    book.refuse(title, "K&O (12)", wrong, {}, attrs, "there is no alpha for these widths, this fisher and this frozen")
    attrs = RELU | exact | {"widths": [2, 8, 8, 1], "n": 2}
    title = "Exact, relu: x and 2 x"
    book.refuse(title, "K&O (12)", wrong, {"x": [[1.0, 0.5], [2.0, 1.0]]}, attrs, error)
    attrs = RELU | exact | {"widths": [2, 8, 1], "n": 2}
    for title, x in (
        ("samples of 2^-40", times(2.0**-40, [[1.0, 0.0], [0.0, 1.0]])),
        ("samples 2^-32 from each other", [[1.0, 2.0**-32], [1.0, 0.0]]),
    ):
        pins = ["samples that are not parallel, in any units"]
        book.add("boundary", f"Exact, relu: {title}", "K&O (12)", pins, {"x": x}, attrs)
    x = [[0.0, 0.0], [1.0, 0.5]]
    for net in (RELU, LINEAR):
        attrs = net | exact | {"widths": [2, 8, 1], "n": 2}
        book.refuse(f"Exact, {net['activation']}: a sample of zeros", "K&O (12)", wrong, {"x": x}, attrs, error)


def batch_training(book):
    inputs = {"W_1": [[1.0, 0.5]], "x": [[1.0, 0.0], [0.0, 1.0]], "y": [[2.0], [1.0]], "order": [[0, 1], [1, 0]]}
    inputs["order"] = [[float(v) for v in row] for row in inputs["order"]]
    attrs = LINEAR | {"fisher": "Exact", "rho": 0.5, "eta": 0.5, "steps": 1, "batch": 1}
    book.add("boundary", "q is absent", "K&O (7)", ["q = 1"], inputs, attrs)


def linearized_training(book):
    inputs = {"W_1": [[1.0, 0.0]], "W_2": [[1.0]], "x": [[0.5, 0.25], [18.5, 1.0]], "x_test": [[1.0, 0.5]]}
    inputs |= {"y": [[1.0], [2.0**700]]}
    attrs = STANDARD | {"activation": "erf", "fisher": "Unitwise", "rho": 0.5, "q": 1, "eta": 0.5, "steps": 1}
    pins = ["a residual far above all that its sample can do", RANGE]
    book.add("stress", "Unitwise: a target of 2^700 of a saturated sample", "K&O (23)", pins, inputs, attrs)


def training(book):
    step = {"rho": 0.0, "q": 1, "eta": 1.0, "steps": 1}
    inputs = {"W_1": [[2.0**-400]], "W_2": [[0.0]], "x": [[2.0**600]], "y": [[2.0**450]]}
    attrs = STANDARD | {"fisher": "Identity"} | step | {"eta": 2.0**-600}
    pins = ["so many steps, and not one more", RANGE]
    book.add("stress", "Identity: a second step would overflow", "K&O (7)", pins, inputs, attrs)
    pins = ["J of a dead layer is 0, however large its inputs", RANGE]
    dead = {"W_1": [[-1.0, 0.0]], "W_2": [[1.0, 1.0]], "y": [[2.0]]}
    for fisher, exponent, rho in (("BlockDiagonal", 1021, 0.0), ("Exact", 600, 0.0), ("Exact", 600, 1.0)):
        attrs = RELU | {"sigma_b": 1.0, "fisher": fisher} | step | {"rho": rho}
        title = f"{fisher}, rho = {rho}: a dead first layer, x = 2^{exponent}"
        book.add("stress", title, "K&O (7)", pins, dead | {"x": [[2.0**exponent]]}, attrs)
    pins = ["the sizes of h and of delta are not that of J", RANGE]
    inputs = {"W_1": [[1.0]], "W_2": [[2.0**600]], "x": [[2.0**-600]], "y": [[2.0]]}
    attrs = LINEAR | EXACT | step | {"rho": 1.0}
    book.add("stress", "Exact: layers of opposite size", "K&O (7)", pins, inputs, attrs)


def forward(book):
    pins = ["outputs that are 0 are no underflow"]
    inputs = {"W_1": [[-1.0, 0.0]], "W_2": [[1.0, 0.0]], "x": [[1.0]]}
    book.add("boundary", "a dead layer, and a bias with the weight 0", "K&O (1)", pins, inputs, RELU | {"sigma_b": 1.0})


def multiplier(book):
    title = "three layers with singular values 1 and 2^-8, w_2 of stream 736"
    inputs, attrs = nearly_singular(2.0**-8, 736), {"q": 1, "rho": 0.0}
    book.add("stress", title, "Huh (9)", [REFINED], inputs, attrs, strict=True)

    pins = ["no share of e is outside the range of a regular J"]
    inputs = {"w_1": [[1.0, 0.5], [-0.5, 1.25]], "w_2": [[1.0, 0.75], [0.5, -1.0]], "w_3": [[1.0, 0.25], [-0.25, 0.5]]}
    inputs |= {"w_star": [[0.5, -1.0], [1.0, 0.75]]}
    attrs = {"q": 2, "rho": 2.0**-60, "rcond": 2.0**-10}
    book.add("boundary", "three layers, rho = 2^-60, with rcond", "Huh (9)", pins, inputs, attrs)
    near = {"w_1": [[1.0, 1.0], [1.0, 1.0 + 2.0**-8]], "w_2": [[1.0, 0.5], [-0.25, 1.0]]}
    near |= {"w_3": [[1.0, -1.0], [-1.0, 1.0 + 2.0**-8]], "w_star": [[0.5, -1.0], [1.0, 0.75]]}
    attrs = {"q": 1.5, "rho": 2.0**-80}
    book.add("stress", "three layers, two nearly singular, rho = 2^-80", "Huh (9)", pins, near, attrs)
    title = "three layers, J of rank 2"
    book.add("boundary", title, "Huh (9)", ["a singular value that is rounding alone"], RANK_2, {"q": 1})


def deep_linear_update(book):
    inputs = {"w_1": [[2.0**-128]], "w_2": times(2.0**-102, [[0.5], [0.75]]), "w_star": [[-1.1875], [-0.8125]]}
    pins = [REFINED, "a tiny layer, alone in what it can do", RANGE]
    title, attrs = "layers of 2^-128 and 2^-102, q = 2, refined", {"q": 2, "rho": 0.0}
    book.add("stress", title, "Huh (12)", pins, inputs, attrs, strict=True)
    pins = ["J loses rank, and most of E is outside its range"]
    inputs = {"w_1": [[1.0, 0.5, 0.25]], "w_2": [[0.5]], "w_3": [[1.0], [1.0], [1.0]]}
    inputs |= {"w_star": [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]}
    for exponent in (-12, -40):
        title, attrs = f"a bottleneck of one, rho = 2^{exponent}, refined", {"q": 1, "rho": 2.0**exponent}
        book.add("stress", title, "Huh (12)", [REFINED, *pins], inputs, attrs, strict=True)
    negative = inputs | {"w_1": times(-1.0, inputs["w_1"])}
    title, attrs = "a bottleneck of one, w_1 negative, rho = 2^-12, refined", {"q": 1, "rho": 2.0**-12}
    book.add("stress", title, "Huh (12)", [REFINED, *pins], negative, attrs, strict=True)
    for w, clip, title in ((4.0, 8.0, "u is longer than clip > 1"), (0.125, 0.5, "u is shorter than clip < 1")):
        inputs = {"w_1": [[w]], "w_2": [[w / 2]], "w_star": [[0.0]]}
        attrs = {"q": INF, "block": False, "clip": clip}
        book.add("boundary", f"SGD: {title}", "Huh, section 5", ["clip only shortens"], inputs, attrs)

    pins = ["a singular value that is rounding alone"]
    book.add("boundary", "three layers, J of rank 2", "Huh (9)", pins, RANK_2, {"q": 1})
    inputs, attrs = {"w_1": [[0.0]], "w_2": [[2.0]], "w_star": [[2.0]]}, {"q": INF, "clip": 1.0}
    pins = ["one of the updates is 0"]
    book.add("boundary", "SGD from w_1 = 0, clipped", "Huh (12)", pins, inputs, attrs)


def deep_linear_step(book):
    one = [[1.0, 0.0], [0.0, 1.0]]
    inputs = {"w_1": one, "w_2": one, "w_star": [[0.5, 0.0], [0.0, 0.0]], "Sigma_x": [[1.0, 0.0], [0.0, 0.0]]}
    attrs = {"q": 1, "block": False, "eta": 8.0, "steps": 1}
    pins = ["the sign of a determinant is no matter where inputs lack a direction"]
    book.add("boundary", "singular Sigma_x, large eta", "Huh (12)", pins, inputs, attrs)
    inputs = {"w_1": [[2.0**-600]], "w_2": [[2.0**-600]], "w_3": [[2.0**-600]], "w_star": [[1.0]]}
    attrs = {"q": 1, "block": False, "eta": 1.0, "steps": 0}
    book.add("stress", "no step, and a J that underflows", "Huh (12)", ["no u is asked for", RANGE], inputs, attrs)


def direction_truncated(book):
    inputs = {
        "W_1": [[1.0, 0.5, 0.25, -0.5], [-1.0, 1.0, 0.5, 0.25], [0.5, -0.25, 1.0, 1.0], [0.25, 1.0, -1.0, 1.0]],
        "W_2": [[0.5, 0.25, 1.0, -0.5]],
        "x": [[1.0, 0.0, 2.0, 1.0], [1.0, 2.0, 0.0, 0.5]],
        "y": [[1.0], [0.0]],
    }
    pins = ["singular values of h and of delta count as zero, and not of their product"]
    for q in (1, 2):
        for rcond in (0.125, 0.875):
            attrs = LINEAR | PRODUCT | {"rho": 0.25, "q": q, "rcond": rcond}
            title = f"KFAC, damped product, q = {q}, rcond = {rcond}"
            book.add("boundary", title, "K&O (20)", pins, inputs, attrs)


def mode_velocity(book):
    inputs = {"s": [[0.0, 0.5], [1.0, 0.75]], "s_star": [1.0, 2.0]}
    pins = ["j_i = 0 of one layer, in a block of its own"]
    attrs = {"q": 2, "block": True, "eta": 1.0}
    book.add("boundary", "sqrt-NGD by layers: a layer of 0", "Huh (19)", pins, inputs, attrs)
    pins = ["||j||^2 underflows, and eps is 0", RANGE]
    inputs = {"s": [[2.0**-600], [2.0**-600]], "s_star": [1.0]}
    book.add("stress", "eps = 0, layers of 2^-600", "Huh (S.I.16)", pins, inputs, {"eps": 0.0, "eta": 1.0})


def mode_unbalanced(book):
    inputs, attrs = {"t": [1.0], "s": [[2.0**260], [2.0**260]], "s_star": [2.0**521]}, {"q": INF, "eta": 2.0**-520}
    book.add("stress", "SGD: layers of 2^260", "Huh, section 4", ["(s_star)^2 overflows", RANGE], inputs, attrs)
    inputs, attrs = {"t": [1.0], "s": [[0.5], [0.25]], "s_star": [0.125]}, {"q": INF, "eta": 1.0}
    book.add("boundary", "SGD: s_bar is s_star", "Huh, section 4", ["s does not move"], inputs, attrs)


def mode_solution(book):
    def add(title, t, s_star, s0, p, pins, **more):
        inputs, attrs = {"t": [t], "s_star": [s_star], "s0": [s0]}, {"p": p, "eta_bar": 1.0, **more}
        book.add("stress", title, "Huh (17)", pins, inputs, attrs)

    above, below = ["from above s_star"], ["from below 0"]
    add("p = 2, s0 = 2 s_star", 2.0**-4, 1.0, 2.0, 2.0, above)
    add("p = 0.6875, a short time", 2.0**-7, 1.0, 0.0625, 0.6875, ["close to the start"])
    add("p = 2^-40, from 2^80", 0.125, 1.0, 2.0**80, 2.0**-40, [*above, RANGE])
    add("p = 2, s0 = -1/2", 256.0, 1.0, -0.5, 2.0, below)
    add("p = 1.5, from -2^20", 2.0**-10, 1.0, -(2.0**20), 1.5, below)
    add("p = 1, close to 0 from below", 707.0, 1.0, -1.0, 1.0, [*below, RANGE])
    add("p = 1.5, s0 = 0, times out of range", 2.0**700, 1.0, 0.0, 1.5, ["it stays at 0", RANGE], eta_bar=2.0**400)

    inputs, attrs = {"t": [2.0], "s_star": [1.0], "s0": [-0.25]}, {"p": 0.5, "eta_bar": 1.0}
    book.add("boundary", "p = 0.5, past 0", "Huh (17)", ["it goes on from 0"], inputs, attrs)
    inputs = {"t": [3.183231456205249e-12, 4.092726157978177e-10], "s_star": [1.0]}
    inputs |= {"s0": [1.2197274440461925e-17, 1.81603863891322e-18]}
    pins = ["to the last digit where s has grown a little", FINE]
    book.add("stress", "p = 0.5, short times from far below", "Huh (17)", pins, inputs, attrs)
    for t, s_star, s0, p in (
        (2.0**-97, 1.0, 2.0**100, 2.0),
        (2.0**-46, 1.0, -(2.0**-90), 0.5),
        (720 * 2.0**-300, 2.0**300, -(2.0**300), 1.0),
    ):
        inputs, attrs = {"t": [t], "s_star": [s_star], "s0": [s0]}, {"p": p, "eta_bar": 1.0}
        sign, size = ("-" if s0 < 0 else ""), round(math.log2(abs(s0)))
        title = f"p = {p:g}, from {sign}2^{size}, s_star = 2^{round(math.log2(s_star))}"
        book.add("stress", title, "Huh (17)", ["s_0 and s_star of different size, or a short time"], inputs, attrs)


def mode_time(book):
    inputs, attrs = {"fraction": [0.5], "s_star": [2.0**-10], "s0": [-8.0]}, {"p": 0.0, "eta_bar": 1.0}
    book.add("stress", "p = 0, from far below", "Huh (17)", ["in closed form"], inputs, attrs)
    inputs, attrs = {"fraction": [0.5], "s_star": [1.0], "s0": [-1.0]}, {"p": 1 - 2.0**-53, "eta_bar": 1.0}
    pins = ["0 is passed, after a long time", FINE]
    book.add("stress", "p next to 1, from below 0", "Huh (17)", pins, inputs, attrs)


def cross_entropy(book):
    pins = ["a probability of 0 leaves out its class alone", RANGE]
    for f, y in (([1000.0, 0.0, 999.0], [0.0, 0.0, 1.0]), ([0.0, 1.0, -1000.0], [1.0, 0.0, 0.0])):
        attrs = {"loss_rho": 0.0, "alpha": 1.0}
        book.add("stress", f"logits {f}", "K&O (S.168)", pins, {"f": [f], "y": [y]}, attrs)


def flow(book):
    pins = ["errors of a step are relative to the size of w", RANGE]
    inputs = {"w_1": [[2.0**-10]], "w_2": [[2.0**-9]], "w_star": [[1.0]], "times": [0.25, 1.0]}
    book.add(
        "stress", "damped sqrt-NGD from small weights", "Huh (12)", pins, inputs, {"q": 2, "rho": 0.25, "eta": 1.0}
    )
    inputs = {"w_1": [[2.0**-10]], "w_2": [[2.0**-11]], "w_star": [[2.0**-20]], "times": [0.5, 1.0]}
    attrs = {"q": 1, "block": False, "eta": 1.0}
    book.add("stress", "NGD between small weights", "Huh (12)", pins, inputs, attrs)
    inputs = {"w_1": [[2.0]], "w_2": [[1.0]], "w_star": [[2.0]], "times": [1.0, 2.0]}
    pins = ["without `converged` no time is left out"]
    book.add("limit", "at w_star from the start", "Huh (12)", pins, inputs, {"q": 1, "eta": 1.0})
    inputs = {"w_1": [[1.0]], "w_2": [[2.0]], "w_star": [[3.0]], "times": [10.0]}
    attrs = {"q": 1, "block": False, "eta": 1.0, "converged": 0.5}
    book.add("limit", "converged before the first time", "Huh (12)", ["one state, and its time"], inputs, attrs)

    inputs = {"w_1": [[2.0]], "w_2": [[1.0]], "w_star": [[2.0]], "times": [0.0, 1.0, 2.0]}
    attrs = {"q": 1, "eta": 1.0, "converged": 0.5}
    pins = ["where ||E|| is 0 it does not fall, and no time is left out"]
    book.add("limit", "at w_star from the start, with converged", "Huh (12)", pins, inputs, attrs)


def forster(book):
    for stream, shape in ((921, (8, 4)), (922, (11, 3))):
        inputs, pins = {"x": draw(100 * stream + 50, shape)}, ["to the last digit"]
        book.add("boundary", f"x of shape {shape}", "K&O B.3", pins, inputs, {})
    pins = ["to the last digit, however slow"]
    x = [[1.0, 0.0]] * 5 + [[1.0, j + 1.0] for j in range(6)]
    book.add("boundary", "5 of 11 samples are one", "K&O B.3", pins, {"x": x}, {})

    g = 2.0**-6
    x = [[1.0, 1.0, 0.5], [1.0, 1.0 + g, 0.5], [1.0, 1.0, 0.5 + g], [1.0, 1.0 + g, 0.5 - g]]
    x += [[1.0, 1.0 - g / 2, 0.5 - g / 2]]
    title = "samples near each other, refined"
    book.add("stress", title, "K&O B.3", ["A may be ill-conditioned"], {"x": x}, {}, strict=True)
    g = 2.0**-10
    x = [[0.5, -0.25 * g], [1.0, 0.75 * g], [-0.75, 1.25 * g]]
    title = "inputs of different size, refined"
    book.add("stress", title, "K&O B.3", ["to the last digit, whatever the units"], {"x": x}, {}, strict=True)


LATER = (
    wide_training,
    angles,
    gaussian_outputs,
    predictive,
    fisher_matrix,
    direction,
    coefficient,
    empirical_coefficient,
    kernel_coefficient,
    kernels,
    averages,
    alpha,
    batch_training,
    linearized_training,
    training,
    forward,
    multiplier,
    deep_linear_update,
    deep_linear_step,
    direction_truncated,
    mode_velocity,
    mode_unbalanced,
    mode_solution,
    mode_time,
    cross_entropy,
    flow,
    forster,
)
ABOUT = {"wide_training": "The mean of f_t(x') (N', C) of gradient descent at infinite width, K&O (10)."}
EXTENDED = {make.__name__: make for make in LATER}


def extend(book):
    """The book with its later cases."""
    return extended(book, EXTENDED, START)
