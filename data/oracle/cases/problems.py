"""What a case is, and the deterministic numbers that cases are made of."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Case:
    operation: str
    id: str
    kind: str
    title: str
    equation: str
    pins: list
    attrs: dict
    inputs: dict
    error: str = ""  # of what is refused or superseded: what there is to say
    catches: str = ""  # of what is refused; of the others `flags` say it
    strict: bool = False  # whether a route through Gram matrices is to be as accurate as any


@dataclass
class Book:
    """The cases of one operation. The place in it is the number in the id: append, never insert or remove."""

    operation: str
    cases: list = field(default_factory=list)

    def add(self, kind, title, equation, pins, inputs, attrs, **more):
        name = f"{self.operation}-{len(self.cases) + 1:03d}"
        self.cases.append(Case(self.operation, name, kind, title, equation, pins, attrs, inputs, **more))

    def refuse(self, title, equation, catches, inputs, attrs, error, kind="must-fail"):
        self.add(kind, title, equation, [], inputs, attrs, error=error, catches=catches)

    def supersede(self, number, error):
        """What the case of this number asks for turned out to be wrong."""
        case = self.cases[number - 1]
        self.cases[number - 1] = replace(case, kind="superseded", error=error, catches="nothing")


def extended(book, later, start):
    """The book with the cases that a function of `later` adds, by operation; `start` has the number of those before."""
    if book.operation in later:
        if len(book.cases) != start.get(book.operation, 0):
            raise ValueError(f"{book.operation}: cases were added before these, whose ids are permanent")
        later[book.operation](book)
    return book


def draw(stream, shape, amplitude=1.5):
    """Multiples of 2^-10 in [-amplitude, amplitude], row-major, from the recurrence

    state <- (1103515245 state + 12345) mod 2^31, state_0 = 7919 stream + 1, value = (state >> 8) mod (2 k + 1) - k,

    with k = 1024 amplitude, after 8 steps that are thrown away. Nested lists of that shape, a float for ().
    """
    state, k = 7919 * stream + 1, int(1024 * amplitude)

    def number():
        nonlocal state
        state = (1103515245 * state + 12345) % 2**31
        return ((state >> 8) % (2 * k + 1) - k) / 1024

    for _ in range(8):
        number()

    def fill(dims):
        return [fill(dims[1:]) for _ in range(dims[0])] if dims else number()

    return fill(tuple(shape))


def network(
    widths,
    N=3,
    activation="tanh",
    sigma_b=0.0,
    stream=1,
    N_test=0,
    sigma_w=1.5,
    parameterization="ntk",
    amplitude=1.5,
    **attrs,
):
    """Inputs W_1 .. W_L, x (and x_test), and the attributes of a network."""
    bias = int(sigma_b > 0)
    inputs = {
        f"W_{l}": draw(100 * stream + l, (widths[l], widths[l - 1] + bias), amplitude) for l in range(1, len(widths))
    }
    inputs["x"] = draw(100 * stream + 50, (N, widths[0]))
    if N_test:
        inputs["x_test"] = draw(100 * stream + 60, (N_test, widths[0]))
    shared = {"activation": activation, "sigma_w": sigma_w, "sigma_b": sigma_b, "parameterization": parameterization}
    return inputs, shared | attrs


def targets(inputs, C, stream=1):
    return {**inputs, "y": draw(100 * stream + 70, (len(inputs["x"]), C))}


def one_hot(inputs, C):
    """Class (2 n + 1) mod C for sample n."""
    rows = range(len(inputs["x"]))
    return {**inputs, "y": [[1.0 if c == (2 * n + 1) % C else 0.0 for c in range(C)] for n in rows]}
