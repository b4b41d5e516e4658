"""The repository's sources as syntax trees."""

import ast
import functools
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lisa_kernels"


def python_files(*folders: str) -> list[pathlib.Path]:
    """Return the Python files below the folders (or the files themselves), relative to the root."""
    files = []
    for folder in folders:
        path = ROOT / folder
        files += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [path.relative_to(ROOT) for path in files]


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def imports(module: ast.AST) -> Iterator[str]:
    """Yield the full name of everything a module imports: ``a.b`` for ``import a.b`` and for ``from a import b``."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, *prefixes: str) -> bool:
    """Return whether a dotted name is one of the prefixes or lies below one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def names_used(module: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of every name and attribute."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names)
