"""What is not trained by name: layers in the middle and at the end, and the output bias."""

from .directions import FISHERS
from .second import problem

BIAS = "output-bias"
DEEP = (5, 4, 3, 4, 1)
ETA = {"eta": 0.09375}
CASES = {  # operation: (fisher, widths, N, options), each with what it pins
    "direction": (
        ("BlockTridiagonal", DEEP, 7, {"frozen": [2]}, "layers 1 and 3 are no neighbours"),
        ("KFAC", (5, 4, 3, 1), 7, {"frozen": [3]}, "B*_L = I / N is that of the output layer, not of the last trained"),
        ("KFAC-separate", (5, 4, 3), 8, {"frozen": [BIAS]}, "the output bias has no block, the others have"),
        ("QuasiDiagonal", (5, 4, 6, 3), 8, {"frozen": [2, BIAS]}, "units without a trained bias are diagonal"),
        ("Layerwise", DEEP, 7, {"frozen": [1, 3]}, "Sigma has a row for each trained layer"),
    ),
    "fisher_matrix": (
        ("BlockTridiagonal", (2, 2, 2, 2, 1), 7, {"frozen": [3]}, "layers 2 and 4 are no neighbours"),
        ("KFAC", (3, 2, 2, 1), 7, {"frozen": [3]}, "B*_L = I / N is that of the output layer, not of the last trained"),
        ("QuasiDiagonal", (3, 2, 1), 7, {"frozen": [BIAS]}, "units without a trained bias are diagonal"),
    ),
    "coefficient": (("KFAC-separate", (5, 4, 3, 1), 7, {"frozen": [2, BIAS]}, "both kinds at once"),),
    "prediction": (("BlockTridiagonal", (5, 3, 4, 3, 1), 7, {"frozen": [2], **ETA, "t": 4}, "no neighbours"),),
    "training": (
        ("KFAC", (5, 4, 3, 1), 7, {"frozen": [2, BIAS], **ETA, "steps": 2}, "W_2 and the last column of W_3 stay"),
    ),
    "linearized_training": (("Unitwise", (5, 4, 3, 1), 7, {"frozen": [3], **ETA, "steps": 2}, "W_3 stays"),),
    "batch_training": (
        (
            "Exact",
            (5, 4, 6, 1),
            3,
            {"frozen": [1, BIAS], **ETA, "steps": 3, "batch": 2},
            "W_1 and the last column of W_3 stay",
        ),
    ),
}
ALPHAS = (
    ("BlockTridiagonal", {"widths": [6, 6, 6, 6, 1], "frozen": [2]}),
    ("KFAC-separate", {"widths": [6, 6, 6, 1], "frozen": [BIAS]}),
    ("KFAC", {"widths": [6, 6, 6, 1], "frozen": [3]}),
    ("Unitwise", {"widths": [6, 40, 30, 2], "activation": "relu", "frozen": [1, 3]}),
)
REFUSED = (
    ("a layer twice", [1, 1], "frozen has layer 1 twice"),
    ("all layers", [1, 2], "frozen has all layers; one at least is trained"),
    ("a layer that there is not", [3], "frozen has 3; there are 2 layers"),
    ("an output bias that there is not", [BIAS], "frozen has the output bias, and the network has no bias"),
)


def extend(book):
    """The book with its cases of this kind at the end."""
    for stream, (fisher, widths, N, options, pin) in enumerate(CASES.get(book.operation, ()), 601):
        test = 11 if book.operation in ("coefficient", "prediction", "linearized_training") else 0
        y = book.operation not in ("coefficient", "fisher_matrix")
        q = {} if book.operation == "fisher_matrix" else {"q": 1}
        inputs, attrs = problem(fisher, widths, N, stream, N_test=test, y=y, rho=0.15625, **q, **options)
        if book.operation == "batch_training":
            inputs["order"] = [[2.0, 0.0, 1.0], [1.0, 2.0, 0.0]]
        title = f"{fisher}: frozen are {', '.join(map(str, options['frozen']))} of {len(widths) - 1} layers"
        book.add("discriminating", title, FISHERS[fisher][1], ["what is frozen is named", pin], inputs, attrs)
    if book.operation == "alpha":
        for fisher, more in ALPHAS:
            plain = {"activation": "tanh", "sigma_w": 1.3125, "sigma_b": 0.40625, "parameterization": "ntk", "n": 5}
            title = f"{fisher}: frozen are {', '.join(map(str, more['frozen']))}"
            attrs = FISHERS[fisher][0] | plain | more
            book.add("discriminating", title, "K&O (12)", ["what is frozen is named"], {}, attrs)
    if book.operation == "direction":
        for title, frozen, error in REFUSED:
            inputs, attrs = problem("Exact", (5, 4, 1), 3, 607, bias=False, rho=0.15625, q=1, frozen=frozen)
            book.refuse(f"frozen: {title}", "THEORY 3", "a step of other layers", inputs, attrs, error)
    return book
