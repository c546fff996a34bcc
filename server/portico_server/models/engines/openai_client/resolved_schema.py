"""Schemas as engines turn them into grammars: references lead to definitions beside them, whatever is put around them.

A reference such as ``#/$defs/Query`` is resolved in the schema in which it is written. Its target becomes a definition
with a name of its own, so that schemas of several functions can stand in one schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_pointer import follow, pointer_keys
from portico_server.core.schema_keywords import (
    DEFINITION_KEYWORDS,
    LIST_KEYWORDS,
    NAMED_KEYWORDS,
    SCHEMA_KEYWORDS,
)

_ANNOTATIONS: Final = frozenset(
    ("$comment", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly")
)
"""Keywords that restrict no value."""

_IDENTIFYING: Final = frozenset((*DEFINITION_KEYWORDS, "$schema", "$id", "$anchor"))
"""Keywords that a resolved schema does not need."""

MAX_MERGED: Final = 1_000
"""Maximum number of schemas that are read because the keywords beside a reference are merged with its target."""

MAX_DEPTH: Final = 64
"""Maximum nesting of schemas in which the keywords beside a reference are merged with its target."""


class SchemaResolver:
    """Resolves the references of schemas that stand in one schema. ``definitions`` are the targets, by their new names,
    which begin with ``prefix``.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.definitions: dict[str, Any] = {}
        self.merged_count = 0
        """Number of schemas that were read because they were merged."""

    def resolve(self, schema: Mapping[str, Any], owner: str, param: str) -> dict[str, Any]:
        """Return a schema whose references lead to `definitions`, without definitions of its own.

        Raise `InvalidRequest` for ``param`` if a reference leads nowhere, or only to itself. The error names ``owner``.
        """
        return _ReferenceReader(self, schema, owner, param).read_all()

    def complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema that contains resolved schemas, with the definitions to which their references lead."""
        return {**schema, "$defs": self.definitions} if self.definitions else schema

    def new_name(self) -> str:
        """Return the name of a new definition."""
        name = f"{self._prefix}d{len(self.definitions) + 1}"
        self.definitions[name] = {}
        return name


def resolved_schema(schema: Mapping[str, Any], owner: str, param: str, prefix: str = "") -> dict[str, Any]:
    """Return a schema with its references resolved, and with its own definitions. See `SchemaResolver`."""
    resolver = SchemaResolver(prefix)
    return resolver.complete(resolver.resolve(schema, owner, param))


class _ReferenceReader:
    """Reads one schema, the ``root`` of its references."""

    def __init__(self, resolver: SchemaResolver, root: Mapping[str, Any], owner: str, param: str) -> None:
        self._resolver = resolver
        self._root = root
        self._owner = owner
        self._param = param
        self._names: dict[str, str] = {}
        """The name of the definition that each reference leads to."""
        self._merging: list[str] = []
        """References whose targets are being merged with the keywords beside them."""
        self._depth = 0
        self._unread: list[str] = []
        """References whose definitions have a name, but no content yet."""

    def read_all(self) -> dict[str, Any]:
        """Return the root with its references resolved, and add the definitions that they lead to."""
        schema = self._read(self._root)
        while self._unread:
            ref = self._unread.pop()
            self._resolver.definitions[self._names[ref]] = self._inner(self._target(ref))
        return schema

    def _read(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema with its references resolved."""
        self._resolver.merged_count += bool(self._merging)
        self._depth += 1
        try:
            return self._resolved(schema)
        finally:
            self._depth -= 1

    def _resolved(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        ref = schema.get("$ref")
        if isinstance(ref, str):
            return self._referred(ref, {name: value for name, value in schema.items() if name != "$ref"})
        parts = schema.get("allOf")
        if isinstance(parts, Sequence) and len(parts) == 1 and isinstance(parts[0], Mapping):
            siblings = {name: value for name, value in schema.items() if name != "allOf"}
            return self._read(_merge(parts[0], siblings))
        read_schema = {
            name: self._keyword(name, value) for name, value in schema.items() if name not in _IDENTIFYING
        }
        if schema.get("items") is False and "prefixItems" not in schema:
            read_schema["maxItems"] = 0
        if "prefixItems" in schema or isinstance(schema.get("items"), bool):
            # A list of schemas means a list of exactly that length to engines.
            read_schema.pop("items", None)
        return read_schema

    def _keyword(self, name: str, value: Any) -> Any:
        if name in NAMED_KEYWORDS and isinstance(value, Mapping):
            # A property without any valid value is not offered.
            return {key: self._inner(item) for key, item in value.items() if item not in (False, {"not": {}})}
        if name in LIST_KEYWORDS and isinstance(value, Sequence):
            return [self._inner(item) for item in value if item is not False or name == "prefixItems"]
        if name == "items" and isinstance(value, Sequence) and not isinstance(value, str):
            return [self._inner(item) for item in value]
        return self._inner(value) if name in SCHEMA_KEYWORDS and isinstance(value, Mapping) else value

    def _inner(self, schema: Any) -> Any:
        if isinstance(schema, Mapping):
            return self._read(schema)
        return {} if schema is True else schema

    def _referred(self, ref: str, siblings: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of a reference with the keywords ``siblings`` beside it."""
        may_merge = self._depth < MAX_DEPTH and self._resolver.merged_count < MAX_MERGED
        restricts = not _ANNOTATIONS.issuperset(siblings.keys() - _IDENTIFYING)
        if restricts and may_merge and ref not in self._merging:
            self._merging.append(ref)
            try:
                target = self._target(ref)
                return self._read(_merge(target, siblings) if isinstance(target, Mapping) else siblings)
            finally:
                self._merging.pop()
        if ref not in self._names:
            self._names[ref] = self._resolver.new_name()
            self._unread.append(ref)
        return {"$ref": f"#/$defs/{self._names[ref]}"}

    def _target(self, ref: str) -> Any:
        """Return what a reference leads to, through further references that stand alone."""
        seen_refs: set[str] = set()
        while True:
            if ref in seen_refs:
                raise self._refusal(f"the reference '{ref[:100]}' leads only to itself")
            seen_refs.add(ref)
            target = self._find(ref)
            if not (isinstance(target, Mapping) and isinstance(target.get("$ref"), str)):
                return target
            if not _ANNOTATIONS.issuperset(target.keys() - {"$ref"}):
                return target
            ref = target["$ref"]

    def _find(self, ref: str) -> Any:
        if ref != "#" and not ref.startswith("#/"):
            raise self._refusal(
                f"the reference '{ref[:100]}' leads out of the schema; write '#/$defs/NAME' and define NAME in it"
            )
        root: Mapping[str, Any] = self._root
        keys = pointer_keys(ref)
        if len(keys) > 1 and keys[0] in DEFINITION_KEYWORDS and keys[1] not in (root.get(keys[0]) or ()):
            # Some generators leave the definitions of a property inside it.
            root, keys = self._inner_definitions, keys[1:]
        try:
            value = follow(root, keys)
        except KeyError as error:
            raise self._refusal(
                f"the reference '{ref[:100]}' leads to nothing: '{error.args[0][:40]}' is not there"
            ) from error
        if not isinstance(value, Mapping | bool):
            raise self._refusal(f"the reference '{ref[:100]}' leads to something that is not a schema")
        return value

    @cached_property
    def _inner_definitions(self) -> Mapping[str, Any]:
        """The definitions inside the parts of the schema. Of two with one name, the outer one counts."""
        definitions: dict[str, Any] = {}
        values: list[Any] = [self._root]
        for value in values:
            if isinstance(value, Mapping):
                for keyword in DEFINITION_KEYWORDS:
                    if isinstance(named_schemas := value.get(keyword), Mapping):
                        definitions = {**named_schemas, **definitions}
                values += value.values()
            elif isinstance(value, list):
                values += value
        return definitions

    def _refusal(self, reason: str) -> InvalidRequest:
        return InvalidRequest(
            f"The schema of {self._owner} cannot be used: {reason}.", code="invalid_schema", param=self._param
        )


def _merge(schema: Mapping[str, Any], siblings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that both schemas restrict. Of a keyword that both have, the second counts, except that
    properties and required names are joined.
    """
    merged = {**schema, **siblings}
    for name in ("properties", *DEFINITION_KEYWORDS):
        if isinstance(schema.get(name), Mapping) and isinstance(siblings.get(name), Mapping):
            merged[name] = {**schema[name], **siblings[name]}
    if isinstance(schema.get("required"), list) and isinstance(siblings.get("required"), list):
        merged["required"] = list(dict.fromkeys([*schema["required"], *siblings["required"]]))
    return merged
