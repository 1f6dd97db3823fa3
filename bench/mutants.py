"""Mutants of a Python file, from its syntax tree: each is one small change that a slip of the pen might be.

Operators replaced, terms of a sum and factors of a product dropped, signs, comparisons shifted and turned round,
constants + 1, - 1, times 2 and 0, flags, conditions negated, transposes and `abs` dropped, slices shifted and opened,
neighbouring arguments swapped, keyword arguments dropped (so that defaults act), min for max and its like, statements
removed. Defaults are constants too. Texts, annotations, decorators, `raise` and `__repr__` stay as they are.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
PAIRS = ("min", "max"), ("any", "all"), ("sum", "mean"), ("zeros", "ones"), ("minimum", "maximum"), ("cos", "sin")
PARTNERS = {name: other for a, b in PAIRS for name, other in ((a, b), (b, a))}
COMMUTATIVE = ("min", "max", "minimum", "maximum")
DROPPED = ("abs", "sqrt", "transpose", "copy")  # calls that may go, and leave their argument
SKIPPED = ("annotation", "returns", "decorator_list", "op", "ops", "ctx")
SAID = (  # functions and classes for messages, warnings and refusals alone
    *("shown", "kind", "host_memory", "_limit_files", "device_versions"),
    *("_crowded", "_signs", "_sign", "jump", "unbounded", "report", "is_damped", "_Watch"),
)
WITHOUT_EFFECT = ("strict", "stacklevel")  # keyword arguments that only check or say something


@dataclass(frozen=True, eq=False)
class Mutant:
    """In `function` (qualified, "" for a module) of `file`, `place`, a field of a node, becomes `new`.

    is_check: whether it is about what is refused, or said, and not about what is computed.
    """

    file: str
    tree: ast.Module
    line: int
    function: str
    text: str
    is_check: bool
    place: tuple[ast.AST, str, int | None]
    new: ast.AST

    def apply(self) -> ast.Module:
        """The tree, which is changed for good."""
        node, name, index = self.place
        if index is None:
            setattr(node, name, self.new)
        else:
            getattr(node, name)[index] = self.new
        return ast.fix_missing_locations(self.tree)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.function}:  {self.text}"


@dataclass(frozen=True)
class _Scope:
    file: str
    tree: ast.Module
    line: int = 0
    names: tuple[str, ...] = ()
    in_function: bool = False
    is_check: bool = False

    def of(self, node: ast.AST) -> "_Scope":
        """The scope of what stands in `node`."""
        names, in_function = self.names, self.in_function
        is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
        if is_definition and not in_function:
            names, in_function = (*names, node.name), isinstance(node, ast.FunctionDef)
        is_check = self.is_check or _refuses(node)
        return _Scope(self.file, self.tree, getattr(node, "lineno", self.line), names, in_function, is_check)


def mutants(text: str, file: str) -> list[Mutant]:
    """All mutants of a file with this text."""
    tree = ast.parse(text)
    found = list(_mutants(tree, _Scope(file, tree)))
    return list({(m.line, m.function, m.text): m for m in found}.values())


def _mutants(node: ast.AST, scope: _Scope) -> Iterator[Mutant]:
    for name, value in ast.iter_fields(node):
        if name in SKIPPED:
            continue
        many = isinstance(value, list)
        for index, child in enumerate(value if many else [value]):
            if not isinstance(child, ast.AST) or _is_fixed(child):
                continue
            inner = scope.of(child)
            for new in [*_changes(child), *_changes_in_place(node, name, child)]:
                text = f"{_short(child)}  ->  {_short(new)}"
                place = node, name, index if many else None
                function = ".".join(inner.names) if inner.in_function else ""
                yield Mutant(scope.file, scope.tree, inner.line, function, text, inner.is_check, place, new)
            if not _is_call(child, ("warn",)):
                yield from _mutants(child, inner)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of an expression, or of a statement."""
    match node:
        case ast.BinOp(left, op, right):
            yield from (ast.BinOp(left, other(), right) for other in OPERATORS[type(op)])
            yield left
            if isinstance(op, ast.Sub):
                yield ast.UnaryOp(ast.USub(), right)
            elif isinstance(op, ast.Add | ast.Mult | ast.MatMult | ast.BitAnd | ast.BitOr):
                yield right
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield operand
        case ast.Compare(left, ops, right):
            for i, op in enumerate(ops):
                yield from (ast.Compare(left, _with(ops, i, [o()]), right) for o in OPERATORS[type(op)])
        case ast.BoolOp(op, values):
            yield from (ast.BoolOp(other(), values) for other in OPERATORS[type(op)])
            for i in range(len(values)):
                rest = _with(values, i, [])
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from map(ast.Constant, sorted({value + 1, value - 1, 2 * value, 0} - {value}))
        case ast.Attribute(value, "T" | "mT"):
            yield value
        case ast.Slice(lower, upper, step):
            for bounds in ((None, upper), (lower, None), (_next(lower), upper), (lower, _next(upper))):
                if bounds != (lower, upper):
                    yield ast.Slice(*bounds, step)
        case ast.Call(func, args, keywords):
            for i, (a, b) in enumerate(pairwise(args)):
                same = _called(node) in COMMUTATIVE or ast.dump(a) == ast.dump(b)
                if not (same or isinstance(a, ast.Starred) or isinstance(b, ast.Starred)):
                    yield ast.Call(func, _with(_with(args, i, [b]), i + 1, [a]), keywords)
            for i, keyword in enumerate(keywords):
                if keyword.arg not in WITHOUT_EFFECT:
                    yield ast.Call(func, args, _with(keywords, i, []))
            if _called(node) in PARTNERS:
                yield ast.Call(_renamed(func, PARTNERS[_called(node)]), args, keywords)
            if _called(node) in DROPPED:
                yield args[0] if args and _called(node) in ("abs", "sqrt") else getattr(func, "value", func)
        case ast.comprehension(target, iterable, [_, *_]):
            yield ast.comprehension(target, iterable, [], 0)
        case ast.AugAssign(target, op, value):
            yield from (ast.AugAssign(target, other(), value) for other in OPERATORS[type(op)])
            yield ast.Pass()
        case ast.Expr() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign([ast.Name(name)], value):  # if nothing else gives the name its value, all would stop at once
            if any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value)):
                yield ast.Pass()
        case ast.Assign():
            yield ast.Pass()


def _changes_in_place(parent: ast.AST, name: str, node: ast.AST) -> Iterator[ast.AST]:
    """What may stand there because of the place."""
    if name == "test" and not isinstance(node, ast.Constant | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)


def _is_fixed(node: ast.AST) -> bool:
    """Whether nothing in it is to be changed: texts, imports, `raise`, `__repr__`, keyword arguments without effect."""
    match node:
        case ast.Expr(ast.Constant()) | ast.JoinedStr() | ast.Constant(str()) | ast.Raise() | ast.Assert():
            return True
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef("__repr__"):
            return True
        case ast.keyword(arg):
            return arg in WITHOUT_EFFECT
    return False


def _refuses(node: ast.AST) -> bool:
    """Whether it is a check, or says something.

    A function or class named so, a condition that ends in `raise` or in a check, a call of such a function, with its
    arguments, a statement that is nothing else, and the floating-point warnings that are not wanted.
    """
    match node:
        case ast.FunctionDef(name) | ast.ClassDef(name):
            return _says(name)
        case ast.If(_, [*_, ast.Raise()]) | ast.ExceptHandler(_, _, [*_, ast.Raise()]):
            return True
        case ast.If(_, [*_, ast.Expr(call)]) | ast.Expr(call) | ast.Assign(_, call):
            return isinstance(call, ast.Call) and _says(_called(call))
        case ast.Call():
            return _says(_called(node)) or _called(node) == "errstate"
    return False


def _says(name: str | None) -> bool:
    name = name or ""
    return name.strip("_").startswith(("check", "require", "warn")) or name in SAID


def _is_call(node: ast.AST, names: tuple[str, ...]) -> bool:
    return isinstance(node, ast.Call) and _called(node) in names


def _called(call: ast.Call) -> str | None:
    return getattr(call.func, "id", getattr(call.func, "attr", None))


def _renamed(func: ast.expr, name: str) -> ast.expr:
    return ast.Name(name, ast.Load()) if isinstance(func, ast.Name) else ast.Attribute(func.value, name, ast.Load())


def _with(items: list, i: int, new: list) -> list:
    return [*items[:i], *new, *items[i + 1 :]]


def _next(bound: ast.expr | None) -> ast.expr | None:
    """The bound plus 1; constants are changed as such."""
    return bound if bound is None or isinstance(bound, ast.Constant) else ast.BinOp(bound, ast.Add(), ast.Constant(1))


def _short(node: ast.AST) -> str:
    """The first line of its text."""
    text = "for .." if isinstance(node, ast.comprehension) else ast.unparse(node).partition("\n")[0]
    return text if text != "pass" else "removed"
