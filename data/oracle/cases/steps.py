"""What slips in the passes, the losses, training and its theory had gone through: rates and times of all sizes,
batches, absent attributes, Hessians without damping, refusals, and what networks start from.

`START` is where the cases of each operation begin: those of the other files come before, and no more are added there.
"""

from itertools import pairwise

from .directions import INF
from .problems import draw, extended
from .second import DISTINCT, positive, problem

START = {
    "dynamics": 8,
    "isotropy": 3,
    "cross_entropy": 10,
    "cross_entropy_flow": 4,
    "linearized": 1,
    "linearized_training": 4,
    "batch_training": 4,
    "training": 26,
}
CLASSES = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


# ------------------------------------------------------------------------------------------ training in function space


def training_set(Theta_bar, C, stream, tests=7):
    N = len(Theta_bar)
    return {
        "Theta_bar": Theta_bar,
        "cross": draw(100 * stream + 60, (tests, N)),
        "f": draw(100 * stream + 61, (N, C)),
        "f_test": draw(100 * stream + 62, (tests, C)),
        "y": draw(100 * stream + 63, (N, C)),
    }


def dynamics(book):
    equation = "K&O (10)"
    pins = ["R_t = eta sum_{s<t} (y - f_s), f_t(x') = f_0(x') + Theta_bar(x', x) R_t"]
    for title, t in (("one step", 1), ("two steps", 2), ("eleven steps", 11)):
        inputs = training_set(positive(470, 4), 3, 470)
        book.add(
            "discriminating", f"{title}, eta lambda from 0.4 to 1.5", equation, pins, inputs, {"eta": 0.75, "t": t}
        )
    K = [[2.0, 0.5, -0.25], [0.5, -1.0, 0.125], [-0.25, 0.125, 0.75]]
    inputs = training_set(K, 2, 471)
    book.add("boundary", "a negative eigenvalue: it diverges", equation, pins, inputs, {"eta": 0.375, "t": 5})
    inputs = training_set([[1.0, 0.0, 0.0], [0.0, 2.0**-30, 0.0], [0.0, 0.0, 0.5]], 2, 472)
    for t in (3, 40):
        title = f"a slow direction, {t} steps"
        book.add("stress", title, equation, ["1 - (1 - x)^t for tiny x"], inputs, {"eta": 0.5, "t": t})
    inputs = training_set(positive(473, 4), 3, 473)
    for eta in (0.0625, 0.5):
        title = f"t = inf, eta = {eta}"
        book.add("limit", title, "K&O (14)", ["0 < eta lambda < 2 converges"], inputs, {"eta": eta, "t": INF})
    attrs = {"eta": 0.5, "t": 2}
    for title, catches, changed, error in (
        ("eta = 0", "a rate that does nothing", {"eta": 0.0}, "eta must be positive"),
        ("t = 1.5", "steps that are not whole", {"t": 1.5}, "t must be 0, 1, 2, .. or inf"),
        ("t = -1", "steps backwards", {"t": -1}, "t must be 0, 1, 2, .. or inf"),
        ("R_t overflows", "infinite outputs", {"eta": 64.0, "t": 2000}, "training diverges with this eta"),
    ):
        book.refuse(title, equation, catches, inputs, attrs | changed, error)
    for title, changed, error in (
        ("y of another shape", {"y": draw(1, (4, 2))}, "y has shape (4, 2); expected (4, 3) as f"),
        ("cross of the wrong width", {"cross": draw(2, (7, 3))}, "cross has 3 columns; expected 4 as Theta_bar"),
        ("f_test of the wrong width", {"f_test": draw(3, (7, 2))}, "f_test has 2 columns; expected 3 as f"),
        ("Theta_bar of another size", {"Theta_bar": positive(474, 3)}, "Theta_bar is 3 x 3; expected 4 x 4 or 12 x 12"),
    ):
        book.refuse(title, equation, "an array that broadcasts", inputs | changed, attrs, error)


def isotropy(book):
    equation = "K&O (12), (17)"
    pins = ["alpha: the mean eigenvalue", "deviation: ||Theta_bar - alpha I||_2 / |alpha|", "rate: 1 / lambda_max"]
    for title, kind, K in (
        ("one number", "limit", [[1.75]]),
        ("the mean is negative", "boundary", [[-3.0, 0.5], [0.5, 1.5]]),
        (
            "the smallest eigenvalue is the farthest from alpha",
            "discriminating",
            [[0.0625, 0.0, 0.0], [0.0, 1.5, 0.25], [0.0, 0.25, 1.75]],
        ),
        (
            "the largest eigenvalue is the farthest from alpha",
            "discriminating",
            [[0.5, 0.125, 0.0], [0.125, 0.75, 0.25], [0.0, 0.25, 3.0]],
        ),
    ):
        book.add(kind, title, equation, pins, {"Theta_bar": K}, {})
    error = "Theta_bar is not symmetric"
    book.refuse("not symmetric", equation, "half of it used", {"Theta_bar": [[1.0, 0.5], [0.25, 1.0]]}, {}, error)
    error = "Theta_bar has no positive eigenvalue: no rate converges"
    book.refuse("zeros", equation, "an infinite rate", {"Theta_bar": [[0.0, 0.0], [0.0, 0.0]]}, {}, error)


def cross_entropy(book):
    equation = "K&O (S.158), (S.168)"
    inputs = {"f": draw(475, (4, 3)), "y": CLASSES}
    book.add("discriminating", "absent attributes", equation, ["loss_rho is 0, alpha is 1"], inputs, {})
    inputs = {"f": draw(476, (5, 4)), "y": [[1.0 * (c == n % 4) for c in range(4)] for n in range(5)]}
    book.add("discriminating", "four classes", equation, [], inputs, {"loss_rho": 2.5, "alpha": 0.6875})
    f = [[800.0, 1.5, 0.5], [-30.0, 5.0, -40.0], [0.25, 60.0, 59.0], [1000.0, 999.0, 998.5]]
    pins = ["logits of any size", "a target far below the others, or above"]
    inputs = {"f": f, "y": CLASSES}
    book.add("stress", "logits far apart", equation, pins, inputs, {"loss_rho": 0.40625, "alpha": 1.3125})
    inputs = {"f": draw(477, (3, 1)), "y": [[1.0], [1.0], [1.0]]}
    error = "y has one column: expected C >= 2 classes"
    book.refuse("one class", equation, "a loss that is always 0", inputs, {"loss_rho": 0.0}, error)
    for title, y in (("two ones", [1.0, 1.0, 0.0]), ("no one", [0.0, 0.0, 0.0]), ("minus one", [1.0, 1.0, -1.0])):
        inputs = {"f": draw(478, (2, 3)), "y": [[0.0, 1.0, 0.0], y]}
        book.refuse(title, equation, "targets that are no classes", inputs, {"loss_rho": 0.0}, "y is not one-hot")


def cross_entropy_flow(book):
    equation = "K&O (S.168), THEORY 7"
    shared = {"cross": draw(47960, (7, 4)), "f_test": draw(47962, (7, 3)), "y": CLASSES}
    pins = ["p_t = y + (p_0 - y) e^{-alpha eta t}"]
    inputs = shared | {"f": draw(47961, (4, 3))}
    book.add("discriminating", "alpha is 1", equation, ["absent attributes"], inputs, {"eta": 0.75, "t": 1.5})
    for title, kind, t in (("late", "discriminating", 40.0), ("early", "stress", 2.0**-20)):
        book.add(kind, title, equation, pins, inputs, {"eta": 0.75, "alpha": 1.3125, "t": t})
    inputs = shared | {"f": [[30.0, 1.5, 0.5], [-5.0, 5.0, -30.0], [0.25, 20.0, 19.0], [1.5, -1.0, -20.0]]}
    title = "learnt, and far from learnt"
    book.add("stress", title, equation, pins, inputs, {"eta": 0.75, "alpha": 1.3125, "t": 1.5})
    attrs = {"eta": 0.75, "alpha": 1.0, "t": 1.5}
    for title, changed, error in (
        ("eta = 0", {"eta": 0.0}, "eta must be positive"),
        ("alpha = 0", {"alpha": 0.0}, "alpha must be positive"),
        ("t = inf", {"t": INF}, "t is not finite: the outputs have no limit"),
    ):
        book.refuse(title, equation, "a flow that stands, or has no end", inputs, attrs | changed, error)
    inputs = inputs | {"y": [[0.5, 0.5, 0.0]] * 4}
    book.refuse("y not one-hot", equation, "targets that are no classes", inputs, attrs, "y is not one-hot")


def predictive(book):
    equation = "THEORY 7"
    pins = ["f_0 ~ N(0, K) of the test samples, then those of the training set", "N' x N', the same for every output"]
    inputs = {
        "Theta_bar": positive(480, 4),
        "cross": draw(48060, (3, 4)),
        "K": positive(481, 7),
        "y": draw(48063, (4, 2)),
    }
    for title, kind, t in (
        ("five steps", "discriminating", 5),
        ("t = inf", "limit", INF),
        ("t = 0: K of the test samples", "limit", 0),
    ):
        book.add(kind, title, equation, pins, inputs, {"eta": 0.15625, "t": t})
    attrs = {"eta": 0.15625, "t": 2}
    K = [[1.0 * (i == j) - 2.0 * (i == j == 3) for j in range(7)] for i in range(7)]
    book.refuse("K indefinite", equation, "a root of |K|", inputs | {"K": K}, attrs, "K has a negative eigenvalue")
    wrong = inputs | {"K": positive(482, 4)}
    book.refuse(
        "K of the training set alone", equation, "a K that broadcasts", wrong, attrs, "K is 4 x 4; expected 7 x 7"
    )


def gaussian_outputs(book):
    equation = "K&O (S.171)"
    pins = ["K^{1/2} Z with the symmetric root of K, a column of Z for each output"]
    inputs = {"K": positive(483, 4), "Z": draw(484, (4, 3))}
    book.add("discriminating", "four samples, three outputs", equation, pins, inputs, {})
    inputs = {"K": [[a * b for b in (1.0, -0.5, 0.75)] for a in (1.0, -0.5, 0.75)], "Z": draw(485, (3, 2))}
    book.add("boundary", "samples on a line", equation, [*pins, "a negative zero is none"], inputs, {})
    inputs = {"K": [[1.0, 2.0], [2.0, 1.0]], "Z": draw(486, (2, 2))}
    book.refuse("K indefinite", equation, "a root of |K|", inputs, {}, "K has a negative eigenvalue")


# --------------------------------------------------------------------------------------------------------- training


def linearized(book):
    options = {"parameterization": "standard", "amplitude": 0.75, "bias": False, "y": False}
    inputs, attrs = problem(None, (5, 6, 5, 3), 4, 487, **options)
    inputs |= {"V_1": draw(48781, (6, 5)), "V_2": draw(48782, (5, 6)), "V_3": draw(48783, (3, 5))}
    title = "three layers, standard, without bias"
    pins = ["f_0 + J_0 (theta - theta_0)"]
    book.add("discriminating", title, "K&O (S.23)", pins, inputs, attrs)
    inputs = inputs | {"V_3": draw(48784, (3, 6))}
    book.refuse("V_3 with a bias", "K&O (S.23)", "a bias that is lost", inputs, attrs, "V_3 has 6 columns; W_3 has 5")


def linearized_training(book):
    for fisher, more in (
        ("Unitwise", {"rho": 0.15625, "q": 1.5, "loss": 2.5}),
        ("Exact", {"rho": 0.0, "q": 1, "bias": False, "parameterization": "standard", "amplitude": 0.75}),
        ("KFAC-gram", {"rho": 0.15625, "q": 2}),
        ("Exact", {}),
    ):
        widths, N, N_test = ((5, 6, 3), 4, 11) if "loss" in more else ((5, 4, 1), 3, 7)
        inputs, attrs = problem(fisher, widths, N, 488, N_test=N_test, eta=0.09375, steps=2, **more)
        title = f"{fisher}: {', '.join(f'{k} = {v}' for k, v in more.items()) or 'absent attributes'}"
        book.add("discriminating", title, "K&O (S.24)", ["f of both sets follow theta"], inputs, attrs)
    book.add("limit", "no steps: f_0", "K&O (S.24)", [], inputs, attrs | {"steps": 0})
    for title, error, change in (
        ("eta = 0", "eta must be positive", {"eta": 0.0}),
        ("rho < 0", "rho is negative", {"rho": -0.25}),
        ("q < 1", "q is below 1", {"q": 0.5}),
    ):
        book.refuse(title, "K&O (S.24)", "steps that are none", inputs, attrs | change, error)
    error = "y has shape (1, 3); expected (3, 1) as f"
    book.refuse("y transposed", "K&O (S.24)", "a y that broadcasts", inputs | {"y": draw(4, (1, 3))}, attrs, error)


def training(book):
    pins = ["the output Hessian and the residual are those of every step"]
    for fisher, rho, loss_rho in (("BlockDiagonal", 0.0, 2.5), ("KFAC", 0.15625, 0.03125), ("KFAC-gram", 0.15625, 0.0)):
        inputs, attrs = problem(fisher, (5, 6, 3), 4, 489, rho=rho, q=1, eta=0.09375, steps=2, loss=1.0)
        title = f"{fisher}: cross-entropy, rho = {rho}, loss_rho = {loss_rho}"
        book.add("discriminating", title, "K&O (7), (S.159)", pins, inputs, attrs | {"loss_rho": loss_rho})
    inputs, attrs = problem("Exact", (5, 4, 1), 3, 491, eta=0.09375, steps=2, **SKEWED)
    book.add("discriminating", "Exact: absent attributes", "K&O (7)", ["rho is 0, q is 1"], inputs, attrs)
    inputs, attrs = problem("BlockDiagonal", (5, 4, 1), 3, 491, rho=0.0, q=1, eta=0.09375, steps=0)
    book.add("limit", "no steps: the loss alone", "K&O (7)", ["loss has steps + 1 numbers"], inputs, attrs)
    for title, catches, error, change in (
        ("eta = inf", "infinite weights", "eta must be finite", {"eta": INF}),
        ("rho < 0", "a negative damping", "rho is negative", {"rho": -0.25}),
        ("q < 1", "q meant as 1/q", "q is below 1", {"q": 0.5}),
    ):
        book.refuse(title, "K&O (7)", catches, inputs, attrs | {"steps": 1} | change, error)
    wrong = inputs | {"y": draw(5, (1, 3))}
    book.refuse("y transposed", "K&O (7)", "a y that broadcasts", wrong, attrs, "y has shape (1, 3); expected (3, 1)")


SKEWED = {"activation": "relu", "parameterization": "standard", "amplitude": 0.75}


def batch_training(book):
    order = [[3.0, 0.0, 2.0, 1.0], [1.0, 3.0, 0.0, 2.0]]
    for fisher, batch, steps, more in (
        ("Unitwise", 4, 1, {"rho": 0.15625, "q": 1}),
        ("BlockDiagonal", 3, 3, {"rho": 0.0, "q": 1}),
        ("KFAC-gram", 1, 4, {"rho": 0.15625, "q": 1}),
        ("Entrywise", 2, 2, {"rho": 0.15625, "q": 1.5, "loss": 0.25}),
    ):
        C = 3 if "loss" in more else 1
        inputs, attrs = problem(fisher, (5, 6, C), 4, 492, eta=0.09375, steps=steps, batch=batch, **more)
        pins = ["N is the number of samples in the batch"]
        title = f"{fisher}: batches of {batch} of 4 samples"
        kind = "boundary" if batch == 1 else "discriminating"
        book.add(kind, title, "K&O (7)", pins, inputs | {"order": order}, attrs)
    for batch, error in ((0, "batch is 0: expected 1 to N"), (5, "batch is 5, more than N = 4 samples")):
        wrong = attrs | {"batch": batch}
        book.refuse(f"batch = {batch}", "K&O (7)", "no batches, or all", inputs | {"order": order}, wrong, error)


# ----------------------------------------------------------------------------------------- what networks start from


def normals(shapes, stream):
    return {f"Z_{l}": draw(100 * stream + l, shape) for l, shape in enumerate(shapes, 1)}


def init(book):
    equation = "K&O (2)"
    for title, kind, attrs, shapes in (
        ("ntk: the numbers themselves", "discriminating", {"parameterization": "ntk"}, ((4, 4), (2, 5))),
        ("standard, with bias", "discriminating", {"parameterization": "standard"}, ((4, 4), (2, 5))),
        (
            "standard, without bias",
            "discriminating",
            {"parameterization": "standard", "sigma_b": 0.0},
            ((4, 3), (2, 4)),
        ),
    ):
        pins = ["ntk: W ~ N(0, 1)", "standard: W ~ N(0, sigma_w^2 / M), b ~ N(0, sigma_b^2)"]
        book.add(kind, title, equation, pins, normals(shapes, 493), DISTINCT | attrs)
    pins = ["sigma_w^2 is 2, as for ReLU", "there is no bias"]
    attrs = {"parameterization": "standard"}
    book.add("limit", "absent attributes", equation, pins, normals(((4, 3), (2, 4)), 493), attrs)
    for title, error, change in (
        ("sigma_w = 0", "sigma_w must be positive", {"sigma_w": 0.0}),
        ("sigma_b < 0", "sigma_b is negative", {"sigma_b": -0.5}),
        ("sigma_w = inf", "sigma_w is not finite", {"sigma_w": INF}),
        ("no such parameterization", "parameterization must be ntk or standard", {"parameterization": "mup"}),
    ):
        inputs = normals(((4, 4), (2, 5)), 493)
        book.refuse(title, equation, "weights that are none", inputs, DISTINCT | change, error)


def semi_orthogonal(book):
    equation = "Huh S.I.3"
    pins = ["Z = Q R with R_jj > 0: W = gain Q, or gain Q^T where M_l < M_{l-1}", "biases are 0"]
    for title, widths, attrs in (
        ("more units, then fewer, with bias", (3, 5, 2), {"gain": 1.75}),
        ("as many units as inputs", (3, 3, 4), {"gain": 0.625, "sigma_b": 0.0}),
        ("absent attributes", (4, 2, 2), {"sigma_b": 0.0}),
    ):
        shapes = [(max(pair), min(pair)) for pair in pairwise(widths)]
        more = {"parameterization": "standard", "widths": list(widths)}
        book.add("discriminating", title, equation, pins, normals(shapes, 494), DISTINCT | more | attrs)
    for gain in (0.0, INF):
        attrs = DISTINCT | more | {"gain": gain}
        title, error = f"gain = {gain}", "gain must be positive and finite"
        book.refuse(title, equation, "weights without singular values", normals(shapes, 494), attrs, error)


def flatten(book):
    shapes = ((6, 6), (5, 7), (3, 6))
    inputs = {f"W_{l}": draw(49700 + l, shape) for l, shape in enumerate(shapes, 1)}
    inputs["theta"] = draw(49750, (sum(a * b for a, b in shapes),))
    pins = ["layers in order, each row by row, the bias last in a row"]
    attrs = DISTINCT | {"activation": "tanh", "parameterization": "ntk"}
    book.add("discriminating", "three layers with bias", "THEORY 1", pins, inputs, attrs)
    wrong = inputs | {"theta": inputs["theta"][1:]}
    book.refuse("theta too short", "THEORY 1", "layers that overlap", wrong, attrs, "theta has 88 entries; expected 89")


def centred(book):
    for widths, bias, stream in (((5, 6, 3), True, 495), ((5, 6, 5, 2), False, 496)):
        inputs, attrs = problem(None, widths, 4, stream, y=False, bias=bias)
        title = f"{len(widths) - 1} layers, {widths[-1]} classes"
        pins = ["f and delta less their mean over the classes", "h stays"]
        book.add("discriminating", title, "K&O (S.158)", pins, inputs, attrs)


NEW = (
    (init, "W_l of normal numbers Z_l, shaped as W_l, K&O (2)."),
    (
        semi_orthogonal,
        "W_l of normal numbers Z_l (larger, smaller width): gain times a semi-orthogonal matrix, Huh S.I.3.",
    ),
    (gaussian_outputs, "K^{1/2} Z, the outputs of an infinitely wide random network, K&O (S.171)."),
    (predictive, "Mean (N', C) and covariance (N', N') of f_t(x') over f_0 ~ N(0, K), THEORY 7."),
    (flatten, "theta (P,) of the weights W_l, and the V_l of which a given theta is the flattening."),
    (centred, "f, h_{l-1} and delta_l of the outputs less their mean over the classes, which softmax does not see."),
)
EXTENDED = {f.__name__: f for f in (dynamics, isotropy, cross_entropy, cross_entropy_flow, linearized)}
EXTENDED |= {f.__name__: f for f in (linearized_training, training, batch_training, *(make for make, _ in NEW))}
ABOUT = {make.__name__: about for make, about in NEW}


def extend(book):
    """The book with its later cases."""
    return extended(book, EXTENDED, START)
