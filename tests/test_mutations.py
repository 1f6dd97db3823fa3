"""bench.mutants and bench.mutations: which mutants there are, and that they are run, noticed, and end."""

import ast

from bench import mutations
from bench.mutants import mutants

SOURCE = '''
"""A text, 1 + 1."""

def f(x: "float" = 2.0, axis=-1):
    """Another, 2 * 3."""
    if x < 0:
        raise ValueError(f"x is {x - 1}")
    n = checked_number("x", x * 2, lambda x: x > 1)
    checked_number("n", n)
    y = x.T @ x + abs(x)
    y += max(x, y)
    y = g(x, y)
    return y[1:x]

class A:
    def __repr__(self):
        return 1 + 1

    def check(self):
        return not self
'''


def changes(is_check):
    return {(m.function, m.text) for m in mutants(SOURCE, "f.py") if m.is_check == is_check}


def test_the_mutants_of_a_function():
    sums = {"x.T @ x + abs(x)  ->  " + new for new in ("x.T @ x - abs(x)", "x.T @ x", "abs(x)")}
    products = {"x.T @ x  ->  " + new for new in ("x.T * x", "x.T", "x")}
    calls = {"abs(x)  ->  x", "x.T  ->  x", "max(x, y)  ->  min(x, y)", "g(x, y)  ->  g(y, x)"}
    defaults = {"2.0  ->  " + new for new in ("0", "1.0", "3.0", "4.0")} | {"-1  ->  1", "1  ->  0", "1  ->  2"}
    statements = {"y += max(x, y)  ->  y -= max(x, y)", "y += max(x, y)  ->  removed", "y = g(x, y)  ->  removed"}
    slices = {"1:x  ->  " + new for new in (":x", "1:", "1:x + 1")}
    expected = sums | products | calls | defaults | statements | slices
    assert changes(is_check=False) == {("f", text) for text in expected}


def test_checks_are_apart_and_texts_are_left_alone():
    conditions = {("f", "x < 0  ->  " + new) for new in ("x <= 0", "x >= 0", "not x < 0")}
    call = 'checked_number("x", x * 2, lambda x: x > 1)'.replace('"', "'")
    swapped = ("checked_number(x * 2, 'x', lambda x: x > 1)", "checked_number('x', lambda x: x > 1, x * 2)")
    values = {f"x * 2  ->  {new}" for new in ("x / 2", "x + 2", "x", "2")} | {f"2  ->  {n}" for n in (0, 1, 3, 4)}
    bounds = {"x > 1  ->  x >= 1", "x > 1  ->  x <= 1", "1  ->  0", "1  ->  2"}
    statement = "checked_number('n', n)"
    calls = {f"{statement}  ->  removed", f"{statement}  ->  checked_number(n, 'n')"}
    checked = {("f", text) for text in {f"{call}  ->  {new}" for new in swapped} | values | bounds | calls}
    assert changes(is_check=True) == conditions | checked | {
        ("f", "0  ->  -1"),
        ("f", "0  ->  1"),
        ("A.check", "not self  ->  self"),
    }


def test_a_mutant_is_one_change_of_the_file():
    lines = ast.unparse(mutants(SOURCE, "f.py")[0].apply()).splitlines()
    before = ast.unparse(ast.parse(SOURCE)).splitlines()
    assert sum(a != b for a, b in zip(lines, before, strict=True)) == 1


def test_vectors_notice_mutants_and_forks_that_do_not_end(monkeypatch):
    monkeypatch.setattr(mutations, "CASES", {id: case for id, case in mutations.CASES.items() if id[:7] == "forward"})
    own = [m for m in mutations.core()["network.py"] if m.function == "Network._scale" and not m.is_check]
    trials = mutations.recorded_in_fork(mutations.recorded_cases, None)
    assert len(own) >= 5
    assert all(trials.noticed(own[:2], jobs=2).values())
    assert not any(map(mutations.fails, trials.of(own[0])))  # planted in the forks alone

    def loop():
        mutations.signal.setitimer(mutations.signal.ITIMER_PROF, 0.1)
        while True:
            pass

    assert dict(mutations.forked({"loop": loop, "exit": lambda: 3}, jobs=2)) == {"loop": mutations.DIED, "exit": 3}
