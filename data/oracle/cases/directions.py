"""Every approximation over depth, outputs, bias, loss, damping and power: THEORY 2 to 5, 7."""

from .problems import Book, draw, network, one_hot, targets

FISHERS = {
    # name: attributes, equation, what it pins
    "Identity": (
        {"fisher": "Identity"},
        "K&O (4)",
        "gradient descent: G = (1 + rho) I",
    ),
    "Exact": (
        {"fisher": "Exact"},
        "K&O (8), (9)",
        "F = J^T J / N",
    ),
    "BlockDiagonal": (
        {"fisher": "BlockDiagonal"},
        "K&O (18)",
        "Sigma = I",
    ),
    "BlockTridiagonal": (
        {"fisher": "BlockTridiagonal"},
        "K&O (15), (19)",
        "Sigma_lm = 1 for |l - m| <= 1, indefinite for L >= 3",
    ),
    "Layerwise": (
        {"fisher": "Layerwise"},
        "K&O (15)",
        "any symmetric Sigma",
    ),
    "KFAC": (
        {"fisher": "KFAC", "kfac_bias": "augmented", "kfac_last": "identity"},
        "K&O (20), (S.95)",
        "rho on each factor; A* = h^T h / N with scaled h; B*_L = I/N",
    ),
    "KFAC-separate": (
        {"fisher": "KFAC", "kfac_bias": "separate", "kfac_last": "identity"},
        "K&O (20), (S.123)",
        "the bias has the block b^2 delta^T delta / N^2 + rho I",
    ),
    "KFAC-gram": (
        {"fisher": "KFAC", "kfac_bias": "augmented", "kfac_last": "gram"},
        "K&O (20), (S.95)",
        "B*_L as in the other layers: I for MSE",
    ),
    "Unitwise": (
        {"fisher": "Unitwise"},
        "K&O (23), (S.131)",
        "a block is a row of W_l with its bias",
    ),
    "Entrywise": (
        {"fisher": "Entrywise"},
        "THEORY 5",
        "diagonal of F, sum over outputs of squares",
    ),
    "QuasiDiagonal": (
        {"fisher": "QuasiDiagonal"},
        "THEORY 5 (Ollivier)",
        "bias row kept, QD_ij = A_0i A_0j / A_00, A = F_unit + rho I",
    ),
}
SIGMA = {
    2: [[2.0, 0.5], [0.5, 1.5]],
    3: [[2.0, 0.5, 0.0], [0.5, 1.5, -0.25], [0.0, -0.25, 1.0]],
    4: [[1.0, 0.5, 0.0, 0.25], [0.5, -1.5, 0.25, 0.0], [0.0, 0.25, 2.0, 0.5], [0.25, 0.0, 0.5, 1.0]],
}
POWERLESS = ("BlockTridiagonal", "Layerwise")

VARIANTS = (
    # title, network, attributes, pins
    (
        "three layers with bias, undamped",
        dict(widths=(3, 4, 3, 1), N=3, activation="tanh", sigma_b=0.5, stream=209),
        {"rho": 0.0, "q": 1},
        ["rho = 0 is the pseudo-inverse", "e = f - y"],
    ),
    (
        "two layers, three outputs, ReLU, damped",
        dict(widths=(3, 4, 3), N=2, activation="relu", stream=337),
        {"rho": 0.125, "q": 1},
        ["function space is sample-major, n C + c", "rho is added after 1/N"],
    ),
    (
        "square root (q = 2), standard parameterization",
        dict(widths=(2, 3, 2), N=2, activation="tanh", sigma_b=0.5, parameterization="standard", stream=23),
        {"rho": 0.25, "q": 2},
        ["G^{-1/q}: q = 2 is the inverse square root", "standard: bias input 1"],
    ),
    (
        "four unequal layers, shifted ReLU, damped",
        dict(widths=(2, 4, 3, 2, 1), N=2, activation="shifted_relu", shift=0.5, sigma_b=0.25, stream=398),
        {"rho": 0.0625, "q": 1},
        ["widths differ in every layer"],
    ),
    (
        "cross-entropy, three classes",
        dict(widths=(3, 3, 3), N=2, activation="tanh", sigma_b=0.5, stream=25),
        {"rho": 0.125, "q": 1, "loss": "cross-entropy", "loss_rho": 0.25},
        ["H_n = diag(p) - p p^T + loss_rho I", "e = p - y", "mean over samples"],
    ),
    (
        "third root (q = 3), first layer frozen",
        dict(widths=(3, 3, 3, 2), N=2, activation="tanh", sigma_b=0.25, stream=26),
        {"rho": 0.125, "q": 3, "frozen": 1},
        ["frozen layers have no columns in J and no block in G"],
    ),
)


def settings(name, options, attrs):
    """Attributes of an approximation in a variant; where it has no power, q = 1."""
    attrs = FISHERS[name][0] | attrs
    powerless = name in POWERLESS or (name == "QuasiDiagonal" and options.get("sigma_b"))
    return attrs | {"q": 1} if powerless else attrs


def with_targets(inputs, attrs, stream):
    C = len(inputs[max(name for name in inputs if name.startswith("W_"))])
    return one_hot(inputs, C) if attrs.get("loss") == "cross-entropy" else targets(inputs, C, stream)


def with_sigma(inputs, attrs):
    if attrs["fisher"] != "Layerwise":
        return inputs
    return {**inputs, "Sigma": SIGMA[sum(name.startswith("W_") for name in inputs) - attrs.get("frozen", 0)]}


def problem(name, options, attrs, N_test=0, y=True):
    """Inputs and attributes of an approximation on a network."""
    inputs, shared = network(**options, N_test=N_test)
    attrs = shared | settings(name, options, attrs)
    if y:
        inputs = with_targets(inputs, attrs, options["stream"])
    return with_sigma(inputs, attrs), attrs


def every_variant(book, variants, equation=None, **options):
    """All fishers in all variants."""
    for title, net, attrs, pins in variants:
        for name, (_, formula, pin) in FISHERS.items():
            inputs, full = problem(name, net, attrs, **options)
            shown = title.replace("square root (q = 2)", "q = 1").replace("third root (q = 3)", "q = 1")
            shown = shown if full.get("q", 1) != attrs.get("q", 1) else title
            text = f"{equation}; {formula}" if equation else formula
            book.add("discriminating", f"{name}: {shown}", text, [pin, *pins], inputs, full)


def direction():
    book = Book("direction")
    every_variant(book, VARIANTS)
    for kind, name, title, net, attrs, change, pins in SPECIAL:
        inputs, full = problem(name, net, attrs)
        book.add(kind, f"{name}: {title}", FISHERS[name][1], pins, change(inputs), full)
    for title, name, attrs, change, catches, error in REFUSED:
        inputs, full = problem(name, SMALL, attrs)
        kind = "superseded" if title in SUPERSEDED else "must-fail"
        book.refuse(f"{name}: {title}", FISHERS[name][1], catches, change(inputs), full | attrs, error, kind)
    for name, title, net, attrs, change in ILL_CONDITIONED:
        inputs, full = problem(name, net, attrs)
        book.add("stress", f"{name}: {title}", FISHERS[name][1], PINV, change(inputs), full)
    book.supersede(89, "its attributes have q = 1, so that it is direction-082 once more")
    return book


def same(inputs):
    return inputs


def twins(inputs):
    """The second sample becomes a copy of the first, with another target."""
    return {**inputs, "x": [inputs["x"][0], *inputs["x"][:1], *inputs["x"][2:]]}


def dead(inputs):
    """The second unit of the first layer, which has a bias, is made one that no sample activates."""
    W = [list(row) for row in inputs["W_1"]]
    W[1] = [0.015625 * (1 + j) for j in range(len(W[1]) - 1)] + [-1.0]
    return {**inputs, "W_1": W}


def eighths(inputs):
    """Weights and inputs in eighths, and the very outputs x W^T of a linear layer as targets."""
    W, x = ([[round(8 * a) / 8 for a in row] for row in inputs[name]] for name in ("W_1", "x"))
    y = [[sum(a * b for a, b in zip(w, row, strict=True)) for w in W] for row in x]
    return {**inputs, "W_1": W, "x": x, "y": y}


def with_one(name, value):
    return lambda inputs: {**inputs, name: value}


SMALL = dict(widths=(2, 3, 2), N=2, activation="tanh", sigma_b=0.5, stream=41)
TANH = dict(widths=(4, 5, 1), N=3, activation="tanh", sigma_b=0.5, stream=231)
DEEP = dict(widths=(2, 3, 3, 3, 3, 1), N=2, activation="tanh", sigma_b=0.5, stream=32)
RELU = dict(widths=(3, 6, 4, 1), N=3, activation="relu", sigma_b=0.5, stream=478)
CLASSES = dict(widths=(3, 4, 3), N=2, activation="tanh", sigma_b=0.5, stream=34)
NARROW = dict(widths=(3, 2, 1), N=4, activation="tanh", stream=221)
SINGLE = dict(widths=(2, 3, 2), N=1, activation="tanh", sigma_b=0.5, stream=36)
LINEAR = dict(widths=(2, 2), N=3, activation="linear", parameterization="standard", stream=37)
ERF = dict(widths=(2, 3, 1), N=2, activation="erf", sigma_b=0.5, stream=38)
HUH = dict(widths=(3, 2, 3, 2), N=3, activation="linear", parameterization="standard", amplitude=1.0, stream=253)
HOT = dict(widths=(2, 4, 1), N=2, activation="tanh", sigma_w=4.0, amplitude=3.0, stream=40)
UNDAMPED, NONE = {"rho": 0.0, "q": 1}, {"rho": 0.0, "q": 1, "loss": "cross-entropy", "loss_rho": 0.0}
PINV = ["rho = 0 is the Moore-Penrose pseudo-inverse"]

SPECIAL = (
    # class, fisher, title, network, attributes, change of the inputs, pins
    (
        "discriminating",
        "KFAC",
        "wide enough, undamped",
        TANH,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "discriminating",
        "KFAC-separate",
        "wide enough, undamped",
        TANH,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "discriminating",
        "KFAC-gram",
        "wide enough, undamped",
        TANH,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "KFAC",
        "fewer units than samples",
        NARROW,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "BlockDiagonal",
        "fewer parameters than samples in the last layer",
        NARROW,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "Exact",
        "two equal samples with different targets",
        CLASSES,
        UNDAMPED,
        twins,
        PINV,
    ),
    (
        "boundary",
        "Unitwise",
        "dead units and dead samples",
        RELU,
        UNDAMPED,
        dead,
        PINV,
    ),
    (
        "boundary",
        "Entrywise",
        "dead units",
        RELU,
        UNDAMPED,
        dead,
        PINV,
    ),
    (
        "boundary",
        "QuasiDiagonal",
        "dead units",
        RELU,
        UNDAMPED,
        dead,
        PINV,
    ),
    (
        "boundary",
        "BlockDiagonal",
        "dead units",
        RELU,
        UNDAMPED,
        dead,
        PINV,
    ),
    (
        "boundary",
        "KFAC",
        "one sample",
        SINGLE,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "Exact",
        "one sample",
        SINGLE,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "Unitwise",
        "one sample, two outputs",
        SINGLE,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "Exact",
        "one layer, zero residual",
        LINEAR,
        UNDAMPED,
        eighths,
        ["e = 0 gives a step of 0"],
    ),
    (
        "boundary",
        "KFAC",
        "one layer",
        LINEAR,
        UNDAMPED,
        same,
        ["L = 1: the last layer is the first"],
    ),
    (
        "discriminating",
        "BlockTridiagonal",
        "L = 5: Sigma is singular",
        DEEP,
        UNDAMPED,
        same,
        ["L = 3s + 2: 1 is in the range of Sigma, so the pseudo-inverse has a limit"],
    ),
    (
        "discriminating",
        "BlockTridiagonal",
        "L = 5, damped",
        DEEP,
        {"rho": 4.0, "q": 1},
        same,
        ["rho above the largest negative eigenvalue"],
    ),
    (
        "discriminating",
        "BlockDiagonal",
        "L = 5, undamped",
        DEEP,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "boundary",
        "Layerwise",
        "singular Sigma with 1 in its range",
        RELU,
        UNDAMPED,
        with_one("Sigma", [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ["layers 1 and 2 form one block"],
    ),
    (
        "discriminating",
        "Layerwise",
        "indefinite Sigma, damped",
        RELU,
        {"rho": 8.0, "q": 1},
        with_one("Sigma", [[1.0, 2.0, 0.0], [2.0, 1.0, 0.5], [0.0, 0.5, -1.0]]),
        ["Sigma may be indefinite"],
    ),
    (
        "limit",
        "Exact",
        "q = inf is gradient descent, rho or not",
        TANH,
        {"rho": 0.5, "q": float("inf")},
        same,
        ["G^0 = I"],
    ),
    (
        "limit",
        "KFAC",
        "q = inf is gradient descent",
        TANH,
        {"rho": 0.5, "q": float("inf")},
        same,
        ["G^0 = I"],
    ),
    (
        "limit",
        "BlockTridiagonal",
        "q = inf is gradient descent",
        DEEP,
        {"rho": 0.0, "q": float("inf")},
        same,
        ["G^0 = I"],
    ),
    (
        "limit",
        "Exact",
        "huge damping",
        TANH,
        {"rho": 1048576.0, "q": 1},
        same,
        ["the step tends to gradient / rho"],
    ),
    (
        "limit",
        "KFAC",
        "huge damping",
        TANH,
        {"rho": 1024.0, "q": 1},
        same,
        ["the step tends to gradient / rho^2: damping on both factors"],
    ),
    (
        "stress",
        "Exact",
        "tiny damping",
        TANH,
        {"rho": 2.0**-40, "q": 1},
        same,
        ["damping is absolute"],
    ),
    (
        "stress",
        "Unitwise",
        "tiny damping, saturated units",
        HOT,
        {"rho": 2.0**-30, "q": 1},
        same,
        PINV,
    ),
    (
        "stress",
        "BlockDiagonal",
        "saturated units",
        HOT,
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "discriminating",
        "Exact",
        "cross-entropy without damping",
        CLASSES,
        NONE,
        same,
        ["loss_rho = 0 is the pseudo-inverse of Lambda, which loses nothing of p - y"],
    ),
    (
        "discriminating",
        "BlockDiagonal",
        "cross-entropy without damping",
        CLASSES,
        NONE,
        same,
        ["loss_rho = 0 is the pseudo-inverse of Lambda"],
    ),
    (
        "discriminating",
        "KFAC-gram",
        "cross-entropy, undamped Lambda",
        CLASSES,
        NONE | {"rho": 0.125},
        same,
        ["B*_L = mean of Lambda_n, over samples"],
    ),
    (
        "discriminating",
        "Unitwise",
        "cross-entropy, undamped Lambda",
        CLASSES,
        NONE | {"rho": 0.125},
        same,
        ["the Hessian couples the outputs of a unit"],
    ),
    (
        "discriminating",
        "Exact",
        "erf",
        ERF,
        {"rho": 0.125, "q": 1},
        same,
        ["phi' of erf is 2/sqrt(pi) exp(-u^2)"],
    ),
    (
        "discriminating",
        "Exact",
        "deep linear, square root",
        HUH,
        {"rho": 0.0, "q": 2},
        same,
        ["q = 2 of Huh, on samples that are not white"],
    ),
    (
        "discriminating",
        "BlockDiagonal",
        "deep linear, square root",
        HUH,
        {"rho": 0.0, "q": 2},
        same,
        ["the factor d^{-1/q} of Huh (19) is not part of this operation"],
    ),
    (
        "discriminating",
        "Entrywise",
        "two layers, q = 2, undamped",
        RELU,
        {"rho": 0.0, "q": 2},
        same,
        ["F^{-1/2} entry by entry"],
    ),
    (
        "discriminating",
        "QuasiDiagonal",
        "no bias: the plain diagonal",
        NARROW,
        {"rho": 0.125, "q": 2},
        same,
        ["without bias it is Entrywise, and takes any power"],
    ),
    (
        "discriminating",
        "Unitwise",
        "three outputs with bias, undamped",
        dict(widths=(6, 3, 3), N=2, activation="tanh", sigma_b=0.5, stream=42),
        UNDAMPED,
        same,
        PINV,
    ),
    (
        "discriminating",
        "Identity",
        "frozen first layer",
        dict(widths=(2, 3, 2), N=2, stream=43),
        {"rho": 0.5, "q": 2, "frozen": 1},
        same,
        ["(1 + rho)^{-1/q}"],
    ),
)

INF = float("inf")
CLOSE = VARIANTS[0][1] | {"stream": 21}  # signals of the samples that are nearly dependent in some layers
ILL_CONDITIONED = (  # for the route through Gram matrices, not as problems
    # fisher, title, network, attributes, change of the inputs
    ("QuasiDiagonal", "inputs nearly proportional to the bias", CLOSE, UNDAMPED, same,
     ),
    ("KFAC", "backward signals nearly dependent", CLOSE, UNDAMPED, same, ),
    ("BlockTridiagonal", "nearly singular layers", CLOSE, UNDAMPED, same, ),
    ("BlockDiagonal", "deep linear, square root, nearly dependent", HUH | {"stream": 39}, {"rho": 0.0, "q": 2}, same,
     ),
)  # fmt: skip
REFUSED = (
    # title, fisher, attributes, change of the inputs, catches, error
    ("rho < 0", "Exact", {"rho": -0.125, "q": 1}, same, "an indefinite system solved in silence", "rho is negative"),
    ("rho < 0", "KFAC", {"rho": -0.125, "q": 1}, same, "an indefinite system solved in silence", "rho is negative"),
    ("q < 1", "Exact", {"rho": 0.125, "q": 0.5}, same, "q meant as 1/q", "q is below 1"),
    ("q = 0", "BlockDiagonal", {"rho": 0.125, "q": 0}, same, "division by zero", "q is below 1"),
    ("rho = inf", "Unitwise", {"rho": INF, "q": 1}, same, "a step of 0 without a word", "rho is not finite"),
    (
        "a power of a coupled Sigma",
        "BlockTridiagonal",
        {"rho": 0.125, "q": 2, "frozen": 0},
        lambda i: {**i, "W_2": draw(9, (3, 4)), "W_3": draw(8, (2, 4))},
        "a real power of an indefinite matrix",
        "G is indefinite: q must be 1 or inf",
    ),
    (
        "Sigma not symmetric",
        "Layerwise",
        UNDAMPED,
        with_one("Sigma", [[1.0, 0.5], [0.0, 1.0]]),
        "half of Sigma used",
        "Sigma is not symmetric",
    ),
    (
        "Sigma without 1 in its range",
        "Layerwise",
        {"rho": 0.125, "q": 1},
        with_one("Sigma", [[1.0, -1.0], [-1.0, 1.0]]),
        "a step that grows as 1 / rho",
        "Sigma is singular and 1 is not in its range",
    ),
    (
        "Sigma of the wrong size",
        "Layerwise",
        UNDAMPED,
        with_one("Sigma", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        "layers left out",
        "Sigma is 3 x 3; the network has 2 layers",
    ),
    (
        "y of shape (C, N)",
        "Exact",
        UNDAMPED,
        with_one("y", draw(3, (2, 1))),
        "a y that broadcasts against f",
        "y has shape (2, 1); expected (N, C) = (2, 2)",
    ),
    (
        "y not finite",
        "Exact",
        UNDAMPED,
        with_one("y", [[1.0, INF], [0.0, 1.0]]),
        "inf - inf in the step",
        "y has non-finite entries",
    ),
    (
        "y not one-hot",
        "Exact",
        {"rho": 0.125, "q": 1, "loss": "cross-entropy", "loss_rho": 0.0},
        with_one("y", [[1.0, 1.0], [0.0, 1.0]]),
        "p - y for targets that are no classes",
        "y is not one-hot",
    ),
    (
        "loss_rho < 0",
        "Exact",
        {"rho": 0.125, "q": 1, "loss": "cross-entropy", "loss_rho": -0.5},
        with_one("y", [[1.0, 0.0], [0.0, 1.0]]),
        "an indefinite Hessian",
        "loss_rho is negative",
    ),
    (
        "frozen = L",
        "Exact",
        UNDAMPED | {"frozen": 2},
        same,
        "an empty step",
        "frozen is 2; one layer at least is trained",
    ),
)

SUPERSEDED = {"Sigma without 1 in its range"}  # its pseudo-inverse, and G + rho I, exist: no reason for an error

MATRIX_VARIANTS = (
    (
        "with bias, two outputs",
        dict(widths=(2, 3, 2), N=3, activation="tanh", sigma_b=0.5, stream=51),
        {"rho": 0.125},
        ["theta: layers in order, rows of W_l in order, bias last in each row"],
    ),
    (
        "three layers, ReLU, standard",
        dict(widths=(2, 3, 2, 1), N=3, activation="relu", sigma_b=0.5, parameterization="standard", stream=52),
        {"rho": 0.0},
        ["1/N once", "standard: bias input 1"],
    ),
)
LOSS_MATRIX = (
    "cross-entropy, first layer frozen",
    dict(widths=(2, 3, 3), N=2, activation="tanh", sigma_b=0.5, stream=53),
    {"rho": 0.0625, "loss": "cross-entropy", "loss_rho": 0.125, "frozen": 1},
    ["H_n = diag(p) - p p^T + loss_rho I in every approximation"],
)


def fisher_matrix():
    book = Book("fisher_matrix")
    for title, net, attrs, pins in MATRIX_VARIANTS:
        for name, (_, formula, pin) in FISHERS.items():
            inputs, full = problem(name, net, attrs, y=False)
            full.pop("q", None)
            book.add("discriminating", f"{name}: {title}", formula, [pin, *pins], inputs, full)
    title, net, attrs, pins = LOSS_MATRIX
    for name in ("Exact", "KFAC", "KFAC-separate", "KFAC-gram", "Unitwise", "Entrywise", "QuasiDiagonal"):
        inputs, full = problem(name, net, attrs)
        full.pop("q", None)
        book.add("discriminating", f"{name}: {title}", f"{FISHERS[name][1]}, (S.159)", pins, inputs, full)
    inputs, full = problem("QuasiDiagonal", RELU, {"rho": 0.0}, y=False)
    full.pop("q", None)
    book.add(
        "boundary",
        "QuasiDiagonal: dead units",
        "THEORY 5 (Ollivier)",
        ["A_00 = 0: the products are 0"],
        dead(inputs),
        full,
    )
    inputs, full = problem("Exact", SMALL, {"rho": -1.0}, y=False)
    full.pop("q", None)
    book.refuse("Exact: rho < 0", "K&O (8)", "a negative damping", inputs, full, "rho is negative")
    return book


COEFFICIENT_VARIANTS = (
    (
        "one output with bias, undamped",
        dict(widths=(3, 4, 3, 1), N=3, activation="tanh", sigma_b=0.5, stream=246),
        {"rho": 0.0, "q": 1},
        ["N is that of the training set", "rows test, columns training samples"],
    ),
    (
        "two outputs, ReLU, damped",
        dict(widths=(3, 5, 2), N=2, activation="relu", stream=62),
        {"rho": 0.125, "q": 1},
        ["N'C x NC, sample-major"],
    ),
    (
        "square root (q = 2), standard",
        dict(widths=(3, 4, 3, 2), N=2, activation="tanh", sigma_b=0.5, parameterization="standard", stream=63),
        {"rho": 0.25, "q": 2},
        ["Theta_bar = J' G^{-1/q} J^T / N"],
    ),
)


def coefficient():
    book = Book("coefficient")
    for title, net, attrs, pins in COEFFICIENT_VARIANTS:
        for name, (_, formula, pin) in FISHERS.items():
            inputs, full = problem(name, net, attrs, N_test=3 if net["N"] == 2 else 2, y=False)
            shown = title if full["q"] == attrs["q"] else title.replace("square root (q = 2)", "q = 1")
            book.add("discriminating", f"{name}: {shown}", f"K&O (11); {formula}", [pin, *pins], inputs, full)
    for name in ("Exact", "BlockDiagonal", "KFAC", "Unitwise", "BlockTridiagonal"):
        net = DEEP if name == "BlockTridiagonal" else TANH
        inputs, full = problem(name, net, UNDAMPED, y=False)
        inputs["x_test"] = inputs["x"]
        book.add(
            "discriminating",
            f"{name}: on the training set itself",
            "K&O (12)",
            ["Theta_bar = alpha I, where isotropic"],
            inputs,
            full,
        )
    inputs, full = problem("Unitwise", RELU, UNDAMPED, N_test=2, y=False)
    book.add("boundary", "Unitwise: dead units", "K&O (23)", PINV, dead(inputs), full)
    inputs, full = problem("Exact", TANH, {"rho": 0.5, "q": INF}, N_test=2, y=False)
    book.add("limit", "Exact: q = inf is the NTK", "K&O (5)", ["G^0 = I"], inputs, full)
    inputs, full = problem("Exact", SMALL, UNDAMPED, N_test=2, y=False)
    inputs["x_test"] = draw(7, (2, 3))
    book.refuse(
        "Exact: x_test of another width",
        "K&O (11)",
        "a kernel of mismatched inputs",
        inputs,
        full,
        "x_test has 3 columns; expected M_0 = 2",
    )
    return book


BOOKS = (direction, fisher_matrix, coefficient)
ABOUT = {
    "direction": "The step G^{-1/q} grad L of an approximation G of the Fisher matrix, K&O (9), (18), (20), (23).",
    "fisher_matrix": "G (P, P) with its damping: the definition of every approximation, K&O (8), (15), (20), (23).",
    "coefficient": "Theta_bar(x', x) = J(x') G^{-1/q} J(x)^T / N (N'C, NC), K&O (11).",
}
