"""Rules over the server's code: what comes from outside goes through the bounded ways alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SERVER = Path(__file__).parents[2] / "server" / "portico_server"

SEARCHES = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}

PATTERNS_OF_OUR_OWN = {
    "core/pattern.py": "checks a pattern that the sandbox will search for; it searches for nothing",
    "runs/redaction.py": "the operator's setting redact_pattern, and escaped texts",
    "knowledge/chunk/markdown.py": "the marks of a fence, escaped, and their number",
    "tools/added/worker.py": "the name of a Python parameter, in the process of the operator's function",
    "engines/fake/script.py": "the script of a fake model, which only the operator writes",
}
"""Files whose patterns are not constants, and why this is safe."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call):
                yield path.relative_to(SERVER).as_posix(), node


def is_constant(node: ast.expr) -> bool:
    """A literal, the name of a constant, or made of such."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.isupper()
        case ast.JoinedStr(values=parts):
            return all(
                is_constant(part.value if isinstance(part, ast.FormattedValue) else part) for part in parts
            )
        case ast.Call(func=ast.Attribute(attr="escape")):
            return True
        case ast.BinOp(left=left, right=right):
            return is_constant(left) and is_constant(right)
    return False


def test_no_pattern_from_outside_is_given_to_pythons_engine() -> None:
    """Python's `re` backtracks: a pattern of 27 characters can search for hours. Use `core.pattern` or the sandbox."""
    found = {
        file
        for file, call in calls()
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in ("re", "regex")
        and call.func.attr in SEARCHES
        and not is_constant(call.args[0])
    }
    assert found == set(PATTERNS_OF_OUR_OWN)


def test_nothing_takes_the_functions_of_re_by_another_name() -> None:
    for path in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module == "re":
                raise AssertionError(f"{path.relative_to(SERVER)} imports from re; write re.search(…)")
            if isinstance(node, ast.Import):
                assert not [one for one in node.names if one.name == "re" and one.asname], path


def test_schemas_are_checked_by_one_module() -> None:
    """`core.shape` bounds a check; jsonschema by itself does not."""
    users = {
        path.relative_to(SERVER).as_posix()
        for path in SERVER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jsonschema")
        or (
            isinstance(node, ast.Import) and any(one.name.split(".")[0] == "jsonschema" for one in node.names)
        )
    }
    assert users == {"core/shape.py"}
