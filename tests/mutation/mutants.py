"""Makes mutants of a module: each is the module's source with one small defect planted."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
}
_METHODS = {"add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply"}
_FUNCTIONS = {"min": "max", "max": "min", "all": "any", "any": "all"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted defect: where it is, what was done, and the source that has it."""

    module: str
    line: int
    what: str
    source: str

    @property
    def key(self) -> str:
        """Name the mutant by its module and what was changed, so that the name survives moved lines."""
        return f"{self.module}: {self.what}"


def _skipped(tree: ast.Module) -> set[int]:
    """Ids of nodes whose mutation would change a text, a type or a decorator only."""
    skipped: set[int] = set()

    def skip(node: ast.AST | None) -> None:
        if node is not None:
            skipped.update(id(child) for child in ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
            skip(node)
        elif isinstance(node, ast.AnnAssign | ast.arg):
            skip(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                skip(decorator)
            if isinstance(node, ast.FunctionDef):
                skip(node.returns)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skip(node)
    return skipped


def _is_numeral(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _is_droppable(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield (what, replacement) for one node."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            other = copy.deepcopy(node)
            other.ops[index] = _COMPARISONS[type(operator)]()
            yield "compare", other
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        other_binary = copy.deepcopy(node)
        other_binary.op = _OPERATORS[type(node.op)]()
        yield "arithmetic", other_binary
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        other_assignment = copy.deepcopy(node)
        other_assignment.op = _OPERATORS[type(node.op)]()
        yield "arithmetic", other_assignment
        yield "drop", ast.Pass()
    elif isinstance(node, ast.BoolOp):
        other_bool = copy.deepcopy(node)
        other_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", other_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "drop sign or not", copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "constant", ast.Constant(not node.value)
        elif isinstance(node.value, int | float):
            yield "constant", ast.Constant(node.value + 1)
        elif isinstance(node.value, str) and _is_numeral(node.value):
            yield "constant", ast.Constant(str(Decimal(node.value) + 1))
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            other_call = copy.deepcopy(node)
            assert isinstance(other_call.func, ast.Attribute)
            other_call.func.attr = _METHODS[node.func.attr]
            yield "method", other_call
        elif isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            other_call = copy.deepcopy(node)
            assert isinstance(other_call.func, ast.Name)
            other_call.func.id = _FUNCTIONS[node.func.id]
            yield "function", other_call
    elif _is_droppable(node):
        yield "drop", ast.Pass()
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        other_if = copy.deepcopy(node)
        other_if.test = ast.UnaryOp(ast.Not(), other_if.test)
        yield "negate", other_if


def _replace(tree: ast.Module, target: ast.AST, replacement: ast.AST) -> str:
    """Return the source with one node swapped, leaving the tree as it was."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, name, replacement)
                source = ast.unparse(ast.fix_missing_locations(tree))
                setattr(parent, name, target)
                return source
            if isinstance(value, list):
                for index, entry in enumerate(value):
                    if entry is target:
                        value[index] = replacement
                        source = ast.unparse(ast.fix_missing_locations(tree))
                        value[index] = target
                        return source
    raise LookupError("the node is not in the tree")


def _innermost_statements(tree: ast.Module) -> dict[int, ast.stmt]:
    """Map each node's id to the smallest statement around it; walking goes from the outside in."""
    around: dict[int, ast.stmt] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            around.update((id(child), node) for child in ast.walk(node))
    return around


def _statement_text(node: ast.AST, statements: dict[int, ast.stmt]) -> str:
    first_line = ast.unparse(statements[id(node)]).splitlines()[0]
    return first_line if len(first_line) <= 100 else f"{first_line[:97]}..."


def make_mutants(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    skipped = _skipped(tree)
    statements = _innermost_statements(tree)
    mutants: list[Mutant] = []
    for node in list(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for what, replacement in _changes(node):
            line = getattr(node, "lineno", 0)
            before = " ".join(ast.unparse(node).split())
            after = " ".join(ast.unparse(ast.fix_missing_locations(replacement)).split())
            if isinstance(node, ast.Constant):
                after = f"{after}  in  {_statement_text(node, statements)}"
            if isinstance(node, ast.If):
                before, after = f"if {ast.unparse(node.test)}", f"if not {ast.unparse(node.test)}"
            mutants.append(Mutant(module, line, f"{what}: {before}  ->  {after}", _replace(tree, node, replacement)))
    return sorted(mutants, key=lambda mutant: mutant.line)
