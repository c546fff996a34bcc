"""Properties of a program's source: its lines, and the framework concepts that a reader must know."""

from __future__ import annotations

import ast
import io
import sys
import tokenize

_SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_DATA = {"answer", "source", "asked", "billing", "repair", "chat"}
"""Keys in the tasks' own data."""
_PLAIN = {name for kind in (str, bytes, list, dict, set, tuple, io.TextIOWrapper) for name in dir(kind)}


def count_lines(source: str) -> int:
    """Return the number of lines of code, without blank lines, comments and the module docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    first = ast.parse(source).body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def concepts(source: str) -> list[str]:
    """Return the distinct names of the framework in a program, in alphabetical order.

    These are the names that it imports from packages outside the standard library, and the attributes, keyword
    arguments and keys of literal mappings that it uses, except names of the standard library, of strings, lists and
    mappings, and of the program's own functions, classes and data.
    """
    tree = ast.parse(source)
    foreign: set[str] = set()
    standard: set[str] = set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            theirs = (node.module or "").partition(".")[0] not in sys.stdlib_module_names
            (found if theirs else standard).update(one.name for one in node.names)
        elif isinstance(node, ast.Import):
            for one in node.names:
                theirs = one.name.partition(".")[0] not in sys.stdlib_module_names
                (foreign if theirs else standard).add(one.asname or one.name.partition(".")[0])
    own = _own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not _is_plain(node, standard, own):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and not _is_known(node.func, standard, own):
            found.update(one.arg for one in node.keywords if one.arg and one.arg not in own)
        elif isinstance(node, ast.Dict):
            keys = {
                key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
            found.update(keys - own - _DATA)
    return sorted(found)


def _own_names(tree: ast.Module) -> set[str]:
    """Return the functions, classes, fields and arguments that the program defines itself."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_plain(node: ast.Attribute, standard: set[str], own: set[str]) -> bool:
    paths = {"read_text", "write_text", "glob", "exists", "open", "resolve", "cwd", "parent", "name"}
    return _root(node) in standard or node.attr in _PLAIN | own | paths


def _is_known(function: ast.expr, standard: set[str], own: set[str]) -> bool:
    """Return whether a call is of the standard library, of a builtin or of the program itself."""
    import builtins

    root = _root(function)
    return root in standard or (isinstance(function, ast.Name) and (hasattr(builtins, root) or root in own))
