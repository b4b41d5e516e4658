"""Mutants of a Triton kernel's source: what its author could get wrong in masks, indices and stores."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

from lisa_kernels.testing.mutation.mutant import Mutant


def triton_mutants(source: str, function: str) -> list[Mutant]:
    """Return every mutant of one kernel.

    Args:
        source: Text of the module that holds it; a mutant's text is the whole module, to be imported from a file, since
            Triton reads a kernel's source there.
        function: Name of the ``@triton.jit`` function to change.

    Raises:
        ValueError: The source has no such function.
    """
    tree = ast.parse(source)
    if _find(tree, function) is None:
        raise ValueError(f"triton_mutants: function is {function!r}; the source has no function of that name.")
    mutants = []
    nodes = list(ast.walk(_find(tree, function)))
    for place, node in enumerate(nodes):
        for kind, edit in _edits(node):
            changed = copy.deepcopy(tree)
            twin = list(ast.walk(_find(changed, function)))[place]
            before = ast.unparse(twin)
            after = edit(twin, changed)
            mutants.append(Mutant(kind, node.lineno, before, after, ast.unparse(changed) + "\n"))
    return mutants


def _find(tree: ast.Module, function: str) -> ast.FunctionDef | None:
    return next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function), None)


def _edits(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Yield (kind, edit); an edit changes a node of a copied tree and returns its new text."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if any(keyword.arg == "mask" for keyword in node.keywords):
            yield "mask", _drop_mask
        if name == "tl.where":
            yield "mask", _take_first
        if name == "tl.program_id":
            yield "index", _other_axis
        if name == "tl.arange":
            yield "index", _shift
        if name == "tl.store":
            yield "store", _store_twice
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        yield "mask", lambda twin, tree: _replace(tree, twin, twin.left)
        yield "mask", lambda twin, tree: _replace(tree, twin, twin.right)
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt):
        yield "mask", _loosen


def _drop_mask(call: ast.Call, tree: ast.Module) -> str:
    call.keywords = [keyword for keyword in call.keywords if keyword.arg not in ("mask", "other")]
    return ast.unparse(call)


def _take_first(call: ast.Call, tree: ast.Module) -> str:
    return _replace(tree, call, call.args[1])


def _other_axis(call: ast.Call, tree: ast.Module) -> str:
    call.args = [ast.Constant(1 - call.args[0].value)]
    return ast.unparse(call)


def _shift(call: ast.Call, tree: ast.Module) -> str:
    return _replace(tree, call, ast.BinOp(copy.deepcopy(call), ast.Add(), ast.Constant(1)))


def _store_twice(call: ast.Call, tree: ast.Module) -> str:
    """Store to the next element as well; the statement before keeps the right store."""
    again = copy.deepcopy(call)
    again.args[0] = ast.BinOp(again.args[0], ast.Add(), ast.Constant(1))
    for parent in ast.walk(tree):
        body = getattr(parent, "body", None)
        if not isinstance(body, list):
            continue
        for i, statement in enumerate(body):
            if isinstance(statement, ast.Expr) and statement.value is call:
                body.insert(i + 1, ast.fix_missing_locations(ast.copy_location(ast.Expr(again), statement)))
                return f"{ast.unparse(call)}; {ast.unparse(again)}"
    raise ValueError(f"triton_mutants: line {call.lineno}: tl.store inside an expression is not understood.")


def _loosen(compare: ast.Compare, tree: ast.Module) -> str:
    compare.ops = [ast.LtE(), *compare.ops[1:]]
    return ast.unparse(compare)


def _replace(tree: ast.Module, old: ast.expr, new: ast.expr) -> str:
    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(new, node) if node is old else self.generic_visit(node)

    Replace().visit(tree)
    ast.fix_missing_locations(tree)
    return ast.unparse(new)
