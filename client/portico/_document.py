"""Loading of hand-written YAML files, for the client and the daemon: keys are text, and values can use variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_VALUES = 1_000_000
"""Maximum number of values in a document after its aliases are expanded: a few lines of aliases can expand to
gigabytes.
"""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class UnsetError(LookupError):
    """An environment variable used in a file is not set; the error message names the variable."""


def load(text: str) -> Any:
    """Parse a YAML document and return its value.

    Raise `yaml.YAMLError` for invalid YAML, more than `MAX_VALUES` values, or a repeated key. YAML 1.1 reads the bare
    key ``on``, as used for a switch, as true; this loader keeps the key as text.
    """
    import yaml  # import the parser only where YAML is used

    class Loader(yaml.SafeLoader):
        """A loader that keeps keys as text even if they look like booleans."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            for key, _value in node.value:
                if key.tag == "tag:yaml.org,2002:bool":
                    key.tag = "tag:yaml.org,2002:str"
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except ValueError as error:
        raise yaml.YAMLError(
            f"it contains a number or a date that does not exist ({error}); put texts in quotes"
        ) from error
    finally:
        loader.dispose()


def _count_values(node: Any, known_counts: dict[int, int]) -> int:
    """Return the number of values that a node expands to; ``known_counts`` caches the counts of earlier nodes. Raises
    `yaml.YAMLError`.
    """
    import yaml

    if not isinstance(node, yaml.CollectionNode):
        return 1
    count = known_counts.get(id(node))
    if count is None:
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
        known_counts[id(node)] = MAX_VALUES + 1  # if it contains itself
        inner = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [child for pair in node.value for child in pair]
        )
        count = known_counts[id(node)] = 1 + sum(_count_values(child, known_counts) for child in inner)
    if count > MAX_VALUES:
        raise yaml.YAMLError(f"its aliases expand to more than {MAX_VALUES:,} values, or to themselves")
    return count


def _refuse_repeated_keys(mapping: Any) -> None:
    import yaml

    lines: dict[tuple[str, str], int] = {}
    for key, _value in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in lines:
            first = lines[key.tag, key.value] + 1
            raise yaml.MarkedYAMLError(
                problem=f"the key '{key.value}' is already used in line {first}. Keep only one of them",
                problem_mark=key.start_mark,
            )
        lines[key.tag, key.value] = key.start_mark.line


_PROBLEMS = (
    (r"found character '\\t' that cannot start", "a tab indents this line; expected spaces"),
    (
        r"found character '(.)' that cannot start",
        "a value cannot begin with {0}; expected the whole value in quotes",
    ),
    (
        r"mapping values are not allowed",
        "this ':' begins a value where none is allowed; expected a text with ': ' in quotes, and keys "
        "indented like their neighbours",
    ),
    (r"could not find expected ':'", "expected ':' and a space after this key"),
    (r"unexpected end of stream", "the quote that opens here is not closed; expected {quote} that closes it"),
    (r"expected ',' or '([}\]])'", "the '{open}' that opens here is not closed; expected ',' or '{0}'"),
    (r"expected the node content", "expected a value, or the bracket that closes the list or object"),
    (
        r"expected <block end>, but found '-'|expected <block end>, but found '<block sequence start>'",
        "expected a key with a value, not '-'. The keys of this block begin in column {column}",
    ),
    (
        r"expected <block end>",
        "expected the end of the value, or the next {part} in column {column}, where the block of line {line} begins",
    ),
    (
        r"undefined alias '(.*)'",
        "'*{0}' has no '&{0}' above it; expected a text that begins with '*' in quotes",
    ),
    (
        r"unknown escape character '(.*)'",
        "'\\{0}' has no meaning between double quotes; expected single quotes, or '\\\\' for a backslash",
    ),
    (r"constructor for the tag '(.*)'", "the tag '{0}' is not supported; expected a plain value"),
    (r"unhashable key", "a key cannot be a list or an object; expected a value with {{ or [ in quotes"),
    (r"expected '<document start>'", "expected a key, or the end of the file"),
    (
        r"found another document",
        "a second document begins here with '---'; expected one document in the file",
    ),
    (r"expected alphabetic or numeric", "expected a name after '*' or '&', or the whole value in quotes"),
    (
        r"block entries|sequence entries are not allowed",
        "a list cannot begin here; expected '- ' on its own line",
    ),
)
"""Patterns of the parser's messages, and what to show instead. ``column`` and ``line`` are those where the enclosing
block begins.
"""

_AT_CONTEXT = ("could not find expected ':'", "unexpected end of stream", "expected ',' or")
"""Problems that the parser detects long after their cause. For these, show the start of the enclosing block instead."""


def explain(error: Exception) -> str:
    """Describe the error in a YAML document: its line and column, and the input that was expected."""
    problem = str(getattr(error, "problem", None) or "")
    mark = getattr(error, "problem_mark", None)
    if not problem or mark is None:
        character = getattr(error, "character", None)
        if character is None:
            return str(error)
        return f"the character U+{character:04X} is not allowed in YAML; remove it"
    context = getattr(error, "context_mark", None)
    if context is not None and any(words in problem for words in _AT_CONTEXT):
        mark = context
    outer = context or mark
    for pattern, words in _PROBLEMS:
        if match := re.search(pattern, problem):
            problem = words.format(
                *match.groups(),
                open="{" if match.groups() == ("}",) else "[",
                quote="another one",
                column=outer.column + 1,
                line=outer.line + 1,
                part="'-'" if "collection" in str(getattr(error, "context", "")) else "key",
            )
            break
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def expand(value: Any, environment: Mapping[str, str]) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every text of a value, and return the result. Raises
    `UnsetError`.
    """
    if isinstance(value, dict):
        return {str(key): expand(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name, default = match.groups()
        variable_value = environment.get(name, default)
        if variable_value is None:
            raise UnsetError(f"the environment variable {name} is not set.")
        return variable_value

    return _VARIABLE.sub(variable, value)
