"""Every approximation over depth, outputs, bias, loss, damping and power: SPEC 2 to 5, 7."""

from .problems import Book, network, one_hot, targets

FISHERS = {
    # name: attributes, equation, what it pins, what it catches
    "Identity": ({"fisher": "Identity"}, "K&O (4)", "gradient descent: G = (1 + rho) I", "rho ignored"),
    "Exact": ({"fisher": "Exact"}, "K&O (8), (9)", "F = J^T J / N", "1/N missing in F, or twice in the step"),
    "BlockDiagonal": ({"fisher": "BlockDiagonal"}, "K&O (18)", "Sigma = I", "blocks inverted together"),
    "BlockTridiagonal": (
        {"fisher": "BlockTridiagonal"},
        "K&O (15), (19)",
        "Sigma_lm = 1 for |l - m| <= 1, indefinite for L >= 3",
        "Cholesky on an indefinite matrix; coupling by the inverse of the blocks instead of Sigma",
    ),
    "Layerwise": (
        {"fisher": "Layerwise"},
        "K&O (15)",
        "any symmetric Sigma",
        "Sigma^{-1} in place of Sigma; Sigma indexed by unit",
    ),
    "KFAC": (
        {"fisher": "KFAC", "kfac_bias": "augmented", "kfac_last": "identity"},
        "K&O (20), (S.95)",
        "rho on each factor; A* = h^T h / N with scaled h; B*_L = I/N",
        "rho on the product or on one factor; B*_L = its own Gram; the unscaled h of the main text; 1/N lost in a factor",
    ),
    "KFAC-separate": (
        {"fisher": "KFAC", "kfac_bias": "separate", "kfac_last": "identity"},
        "K&O (20), (S.123)",
        "the bias has the block b^2 delta^T delta / N^2 + rho I",
        "the bias left in A*; b^2 or 1/N^2 missing in its block",
    ),
    "KFAC-gram": (
        {"fisher": "KFAC", "kfac_bias": "augmented", "kfac_last": "gram"},
        "K&O (20), (S.95)",
        "B*_L as in the other layers: I for MSE",
        "B*_L = I/N where the Gram matrix is wanted",
    ),
    "Unitwise": (
        {"fisher": "Unitwise"},
        "K&O (23), (S.131)",
        "a block is a row of W_l with its bias",
        "blocks by input (column of W) instead of unit; damping scaled by delta^2; bias outside the block",
    ),
    "Entrywise": (
        {"fisher": "Entrywise"},
        "SPEC 5",
        "diagonal of F, sum over outputs of squares",
        "the square of the summed gradient instead of the sum of squares",
    ),
    "QuasiDiagonal": (
        {"fisher": "QuasiDiagonal"},
        "SPEC 5 (Ollivier)",
        "bias row kept, QD_ij = A_0i A_0j / A_00, A = F_unit + rho I",
        "the bias row without damping; beta from the wrong row",
    ),
}
SIGMA = {
    2: [[2.0, 0.5], [0.5, 1.5]],
    3: [[2.0, 0.5, 0.0], [0.5, 1.5, -0.25], [0.0, -0.25, 1.0]],
    4: [[1.0, 0.5, 0.0, 0.25], [0.5, -1.5, 0.25, 0.0], [0.0, 0.25, 2.0, 0.5], [0.25, 0.0, 0.5, 1.0]],
}
POWERLESS = ("BlockTridiagonal", "Layerwise")

VARIANTS = (
    # title, network, C, loss, rho, q, pins, catches
    (
        "three layers with bias, undamped",
        dict(widths=(3, 4, 3, 1), N=3, activation="tanh", sigma_b=0.5, stream=21),
        {"rho": 0.0, "q": 1},
        ["rho = 0 is the pseudo-inverse", "e = f - y"],
        "missing 1/N; a lost bias or bias column first; y - f for f - y",
    ),
    (
        "two layers, three outputs, ReLU, damped",
        dict(widths=(3, 4, 3), N=2, activation="relu", stream=22),
        {"rho": 0.125, "q": 1},
        ["function space is sample-major, n C + c", "rho is added after 1/N"],
        "swapped output order; damping before 1/N or of N rho; transposed weights",
    ),
    (
        "square root (q = 2), standard parameterization",
        dict(widths=(2, 3, 2), N=2, activation="tanh", sigma_b=0.5, parameterization="standard", stream=23),
        {"rho": 0.25, "q": 2},
        ["G^{-1/q}: q = 2 is the inverse square root", "standard: bias input 1"],
        "q used as 1/q; the power taken of the gradient's norm; sigma_w where none belongs",
    ),
    (
        "four unequal layers, shifted ReLU, damped",
        dict(widths=(2, 4, 3, 2, 1), N=2, activation="shifted_relu", shift=0.5, sigma_b=0.25, stream=24),
        {"rho": 0.0625, "q": 1},
        ["widths differ in every layer"],
        "widths of the wrong layer; sigma_w^2/M twice or not at all; column-major theta",
    ),
    (
        "cross-entropy, three classes",
        dict(widths=(3, 3, 3), N=2, activation="tanh", sigma_b=0.5, stream=25),
        {"rho": 0.125, "q": 1, "loss": "cross-entropy", "loss_rho": 0.25},
        ["H_n = diag(p) - p p^T + loss_rho I", "e = p - y", "mean over samples"],
        "softmax over samples; loss_rho confused with rho; the Hessian of the MSE; a sum for the mean",
    ),
    (
        "third root (q = 3), first layer frozen",
        dict(widths=(3, 3, 3, 2), N=2, activation="tanh", sigma_b=0.25, stream=26),
        {"rho": 0.125, "q": 3, "frozen": 1},
        ["frozen layers have no columns in J and no block in G"],
        "frozen layers that still count in G; odd powers through a square root",
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


def direction():
    book = Book("direction")
    for title, options, attrs, pins, catches in VARIANTS:
        for name, (_, equation, pin, catch) in FISHERS.items():
            inputs, full = problem(name, options, attrs)
            shown = title.replace("square root (q = 2)", "q = 1").replace("third root (q = 3)", "q = 1")
            shown = shown if full["q"] != attrs["q"] else title
            book.add("discriminating", f"{name}: {shown}", equation, [pin, *pins], f"{catch}; {catches}", inputs, full)
    return book


BOOKS = (direction,)
ABOUT = {"direction": "The step G^{-1/q} grad L of an approximation G of the Fisher matrix, K&O (9), (18), (20), (23)."}
