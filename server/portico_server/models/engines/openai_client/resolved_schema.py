"""Schemas as engines turn them into grammars: references lead to definitions beside them, whatever is put around them.

A reference such as ``#/$defs/Query`` is resolved in the schema in which it is written. Its target becomes a definition
with a name of its own, so that schemas of several functions can stand in one schema.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from portico_server.models.engines.openai_client.grammar_keywords import RESTRICTING, unenforced_keywords
from portico_server.models.engines.openai_client.grammar_pattern import grammar_pattern
from portico_server.models.engines.openai_client.merged_schema import merge_schemas

_IDENTIFYING: Final = frozenset((*DEFINITION_KEYWORDS, "$schema", "$id", "$anchor"))
"""Keywords that a resolved schema does not need."""

MAX_MERGED: Final = 1_000
"""Maximum number of schemas that are read because schemas were merged."""

MAX_DEPTH: Final = 64
"""Maximum nesting of schemas in which schemas are merged."""

MAX_EXACT_FLOAT: Final = 2**53
"""Limit of the whole numbers that a floating-point number represents exactly."""


class SchemaResolver:
    """Resolves the references of schemas that stand in one schema. ``definitions`` are the targets, by their new names,
    which begin with ``prefix``.

    ``unenforced`` are the keywords that an answer may violate. With ``makes_grammars``, the engine is llama.cpp, which
    gets patterns in the syntax that it reads.
    """

    def __init__(self, prefix: str = "", *, makes_grammars: bool = False) -> None:
        self._prefix = prefix
        self.makes_grammars = makes_grammars
        self.definitions: dict[str, Any] = {}
        self.unenforced: set[str] = set()
        self.merged_count = 0
        """Number of schemas that were read because they were merged."""

    def with_prefix(self, prefix: str) -> SchemaResolver:
        """Return a resolver for a schema with its own definitions, which records in the same ``unenforced``."""
        resolver = SchemaResolver(prefix, makes_grammars=self.makes_grammars)
        resolver.unenforced = self.unenforced
        return resolver

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
        """References whose targets are being merged with other schemas."""
        self._merges = 0
        """Number of merged schemas around the schema that is being read."""
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
        self._resolver.merged_count += bool(self._merges)
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
        if isinstance(parts, list):
            siblings = {name: value for name, value in schema.items() if name != "allOf"}
            return self._join([*(part for part in parts if isinstance(part, Mapping)), siblings])
        for keyword in ("anyOf", "oneOf"):
            siblings = {name: value for name, value in schema.items() if name != keyword}
            if isinstance(schema.get(keyword), list) and _restricts(siblings):
                return self._branched(keyword, schema[keyword], siblings)
        return self._alone(schema)

    def _alone(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema whose keywords need not be merged with others."""
        read_schema = {
            name: self._keyword(name, value) for name, value in schema.items() if name not in _IDENTIFYING
        }
        if schema.get("items") is False and "prefixItems" not in schema:
            read_schema["maxItems"] = 0
        if "prefixItems" in schema or isinstance(schema.get("items"), bool):
            # A list of schemas means a list of exactly that length to engines.
            read_schema.pop("items", None)
        if self._resolver.makes_grammars:
            self._write_for_grammar(read_schema)
        return read_schema

    def _write_for_grammar(self, schema: dict[str, Any]) -> None:
        """Write what llama.cpp reads wrongly in another form, and record what it does not enforce."""
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            schema["pattern"] = grammar_pattern(pattern)
            if schema["pattern"] is None:
                del schema["pattern"]
                self._resolver.unenforced.add("pattern")
        if schema.get("type") == "integer":
            for name, round_inwards in (("minimum", math.ceil), ("maximum", math.floor)):
                if isinstance(schema.get(name), float) and abs(schema[name]) < MAX_EXACT_FLOAT:
                    schema[name] = round_inwards(schema[name])
        properties, required_names = schema.get("properties") or {}, schema.get("required")
        is_object = schema.get("type") == "object" or bool(properties)
        if is_object and isinstance(properties, Mapping) and isinstance(required_names, list):
            # Only required properties that are described are enforced.
            other_schema = schema.get("additionalProperties")
            described_schemas = {
                name: other_schema if isinstance(other_schema, Mapping) else {}
                for name in required_names
                if isinstance(name, str)
            }
            if not described_schemas.keys() <= properties.keys():
                schema["properties"] = {**described_schemas, **properties}
        self._resolver.unenforced |= unenforced_keywords(schema)

    def _join(self, schemas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return one schema that all of ``schemas`` restrict."""
        joined_schema: dict[str, Any] = {}
        if sum(map(_restricts, schemas)) < 2:
            for schema in schemas:
                joined_schema |= schema
            return self._read(joined_schema)
        refs: list[str] = []
        for schema in schemas:
            ref = schema.get("$ref")
            if isinstance(ref, str):
                schema = {name: value for name, value in schema.items() if name != "$ref"}
                target = self._target(ref) if self._may_merge and ref not in (*refs, *self._merging) else None
                if isinstance(target, Mapping):
                    refs.append(ref)
                    schema = merge_schemas(target, schema, self._resolver.unenforced)
                else:
                    self._resolver.unenforced.add("allOf")
            joined_schema = merge_schemas(joined_schema, schema, self._resolver.unenforced)
        with self._merge(*refs):
            return self._read(joined_schema)

    def _branched(self, keyword: str, branches: Sequence[Any], siblings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema with the ``siblings`` of ``anyOf`` or ``oneOf`` in each of its branches."""
        restrictions = {name: siblings[name] for name in siblings if name in RESTRICTING}
        read_branches = []
        for branch in branches:
            conditions = branch if isinstance(branch, Mapping) else {}
            if branch is False:
                continue
            if self._contains(conditions, restrictions):
                read_branches.append(self._read(conditions))
            elif self._may_merge:
                with self._merge():
                    merged_branch = merge_schemas(restrictions, conditions, self._resolver.unenforced)
                    read_branches.append(self._read(merged_branch))
            else:
                self._resolver.unenforced |= restrictions.keys()
                read_branches.append(self._read(conditions))
        notes = {name: siblings[name] for name in siblings if name not in (*restrictions, *_IDENTIFYING)}
        return {**notes, keyword: read_branches}

    def _contains(self, schema: Mapping[str, Any], restrictions: Mapping[str, Any]) -> bool:
        """Return whether a schema, or the target of its reference, has all of ``restrictions`` already."""
        ref = schema.get("$ref")
        target = self._target(ref) if isinstance(ref, str) else schema
        return isinstance(target, Mapping) and all(
            name in target and target[name] == value for name, value in restrictions.items()
        )

    @property
    def _may_merge(self) -> bool:
        return self._depth < MAX_DEPTH and self._resolver.merged_count < MAX_MERGED

    @contextmanager
    def _merge(self, *refs: str) -> Iterator[None]:
        """Count the schemas that are read because they were merged, and do not merge ``refs`` within their targets."""
        self._merging.extend(refs)
        self._merges += 1
        try:
            yield
        finally:
            self._merges -= 1
            del self._merging[len(self._merging) - len(refs) :]

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
        if _restricts(siblings):
            if self._may_merge and ref not in self._merging:
                target = self._target(ref)
                with self._merge(ref):
                    if not isinstance(target, Mapping):
                        return self._read(siblings)
                    return self._read(merge_schemas(target, siblings, self._resolver.unenforced))
            self._resolver.unenforced |= siblings.keys() & RESTRICTING
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
            if _restricts({name: target[name] for name in target if name != "$ref"}):
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


def _restricts(schema: Mapping[str, Any]) -> bool:
    return not RESTRICTING.isdisjoint(schema)
