"""Forward and backward pass, Jacobian, and the products with it: THEORY 1."""

from .problems import Book, draw, network

SHAPES = (
    # title, network, pins
    (
        "three layers, tanh, bias",
        dict(widths=(3, 4, 2, 1), N=3, activation="tanh", sigma_b=0.5, stream=1),
        ["bias in the last column of W and h", "h = [sigma_w/sqrt(M) phi ; sigma_b]"],
    ),
    (
        "ReLU, three outputs, no bias",
        dict(widths=(2, 4, 3, 3), N=2, activation="relu", stream=2),
        ["no bias column with sigma_b = 0", "no activation on the last layer", "samples are rows"],
    ),
    (
        "erf, standard parameterization with bias",
        dict(
            widths=(3, 3, 2), N=2, activation="erf", sigma_b=0.75, parameterization="standard", amplitude=1.0, stream=3
        ),
        ["standard: h = [phi ; 1]", "sigma_w, sigma_b do not enter"],
    ),
    (
        "shifted ReLU, four layers of unequal widths",
        dict(widths=(2, 5, 3, 4, 1), N=3, activation="shifted_relu", shift=0.5, sigma_b=0.25, stream=4),
        ["phi_s(x) = max(x, -s)", "widths differ in every layer"],
    ),
    (
        "linear, one layer",
        dict(widths=(3, 2), N=2, activation="linear", sigma_b=0.5, stream=5),
        ["one layer: f = h_0 W_1^T", "the input is scaled as well"],
    ),
    (
        "linear, standard, no bias: a deep linear network",
        dict(widths=(3, 2, 3, 2), N=2, activation="linear", parameterization="standard", amplitude=1.0, stream=6),
        ["standard without bias: h = phi(u)"],
    ),
    (
        "widths 1",
        dict(widths=(1, 1, 1), N=1, activation="tanh", sigma_b=0.5, stream=7),
        ["widths 1 and N = 1 keep their axes"],
    ),
    (
        "saturated tanh",
        dict(widths=(2, 3, 1), N=2, activation="tanh", sigma_w=8.0, amplitude=7.0, stream=8),
        ["phi' = 1 - tanh^2 where tanh rounds to 1"],
    ),
    (
        "dead units: a ReLU layer with a unit that no sample activates",
        dict(widths=(2, 3, 2), N=2, activation="relu", stream=9, dead=True),
        ["phi'(u) = 0 for u < 0"],
    ),
    (
        "a sample of zeros: every unit on the kink",
        dict(widths=(2, 3, 2), N=2, activation="relu", stream=10, zero=True),
        ["phi'(0) = 0 for ReLU"],
    ),
)

CLASSES = ("discriminating",) * 6 + ("limit", "stress", "boundary", "boundary")


def problem(dead=False, zero=False, **options):
    inputs, attrs = network(**options)
    if dead:  # a unit below zero on all samples, which are made positive
        inputs["x"] = [[abs(a) + 0.125 for a in row] for row in inputs["x"]]
        inputs["W_1"][1] = [-abs(a) - 0.125 for a in inputs["W_1"][1]]
    if zero:
        inputs["x"][0] = [0.0 for _ in inputs["x"][0]]
    return inputs, attrs


def all_shapes(operation, equation):
    book = Book(operation)
    for kind, (title, options, pins) in zip(CLASSES, SHAPES, strict=True):
        book.add(kind, title, equation, pins, *problem(**options))
    return book


def forward():
    book, equation = all_shapes("forward", "K&O (1)"), "K&O (1)"
    inputs, attrs = network((3, 4, 2), N=2, sigma_b=0.5, stream=11)
    text = "input that is computed with instead of refused"
    book.refuse(
        "x with an infinite entry",
        equation,
        text,
        {**inputs, "x": [[1.0, float("inf"), 0.5]] * 2},
        attrs,
        "x has non-finite entries",
    )
    book.refuse(
        "x of the wrong width",
        equation,
        text,
        {**inputs, "x": [[1.0, 0.5]] * 2},
        attrs,
        "x has M_0 = 2 columns where W_1 takes 3 inputs and a bias",
    )
    wrong = {**inputs, "W_2": [row[:-1] for row in inputs["W_2"]]}
    book.refuse(
        "W_2 without its bias column",
        equation,
        "a bias that is dropped in silence",
        wrong,
        attrs,
        "W_2 has 4 columns; expected M_1 + 1 = 5 with a bias",
    )
    return book


def signals():
    return all_shapes("signals", "K&O (1), (S.64), (S.65)")


def jacobian():
    return all_shapes("jacobian", "K&O (6), J[(n,c),(l,i,j)] = delta_l[n,c,i] h_{l-1}[n,j]")


def tangents(inputs, stream):
    """dW_1 .. dW_L, shaped as the weights."""
    names = [name for name in inputs if name.startswith("W_")]
    shapes = [(len(inputs[name]), len(inputs[name][0])) for name in names]
    return {
        f"d{name}": draw(100 * stream + 80 + k, shape)
        for k, (name, shape) in enumerate(zip(names, shapes, strict=True))
    }


def push():
    book = Book("push")
    for kind, (title, options, pins) in zip(CLASSES, SHAPES, strict=True):
        inputs, attrs = problem(**options)
        if kind in ("discriminating", "boundary"):
            book.add(kind, title, "J dtheta", pins, inputs | tangents(inputs, options["stream"]), attrs)
    inputs, attrs = network((2, 3, 1), N=2, stream=11)
    wrong = inputs | {"dW_1": draw(1, (2, 3)), "dW_2": draw(2, (1, 3))}
    book.refuse(
        "dW_1 transposed",
        "J dtheta",
        "a transposed tangent that broadcasts",
        wrong,
        attrs,
        "dW_1 has shape (2, 3); expected (3, 2) as W_1",
    )
    return book


def pull():
    book = Book("pull")
    for kind, (title, options, pins) in zip(CLASSES, SHAPES, strict=True):
        inputs, attrs = problem(**options)
        if kind in ("discriminating", "boundary"):
            v = draw(100 * options["stream"] + 90, (options["N"], options["widths"][-1]))
            book.add(kind, title, "J^T v", ["no factor 1/N", *pins], inputs | {"v": v}, attrs)
    inputs, attrs = network((2, 3, 1), N=2, stream=11)
    book.refuse(
        "v with one row too many",
        "J^T v",
        "a v that broadcasts",
        inputs | {"v": draw(1, (3, 1))},
        attrs,
        "v has shape (3, 1); expected (N, C) = (2, 1)",
    )
    return book


def ntk():
    book = Book("ntk")
    for kind, (title, options, pins) in zip(CLASSES, SHAPES, strict=True):
        inputs, attrs = problem(**options, N_test=2 if options["N"] != 2 else 3)
        pin = ["N is the number of training samples, the columns", "rows N'C, columns NC, sample-major"]
        book.add(kind, title, "K&O (5), (6): J(x') J(x)^T / N", pin + pins, inputs, attrs)
    return book


BOOKS = (forward, signals, jacobian, push, pull, ntk)
ABOUT = {
    "forward": "Outputs f (N, C) of a network, K&O (1) with the factors folded into h.",
    "signals": "Outputs, scaled inputs h_{l-1} (N, M_{l-1}+1), and delta_l (N, C, M_l) = d f_c(x_n) / d u_l.",
    "jacobian": "J (NC, P): rows sample-major, columns layer by layer, each W_l row-major, K&O (6).",
    "push": "J dtheta (N, C), the first-order change of the outputs as W changes by dW.",
    "pull": "J^T v as a list like W, for v (N, C).",
    "ntk": "Theta(x', x) = J(x') J(x)^T / N (N'C, NC), K&O (6), N training samples x.",
}
