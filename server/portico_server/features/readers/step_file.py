"""The exchange structure of ISO 10303-21, in which STEP and IFC files are written: a header and a list of instances.

A file is read in one pass. Shapes are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.text import encoding_of

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of a file in bytes, because the whole file is in memory while it is read."""

MAX_INSTANCES: Final = 5_000_000
"""Maximum number of instances in a file, shapes included."""

MAX_KEPT_INSTANCES: Final = 500_000
"""Maximum number of instances that are kept: products, elements, properties and their relations."""

MAX_NESTED_LISTS: Final = 16
"""Maximum nesting of lists in an instance."""

MAX_HEADINGS: Final = 16
"""Maximum number of headings above a passage."""

MAX_NAMES: Final = 200
"""Maximum number of names in a list of names, and of properties in a set."""

GLOBAL_ID_CHARS: Final = 22
"""Length of an IFC identifier in characters."""


class InstanceNumber(int):
    """A reference to another instance."""


class TypedText(str):
    """The text of a typed value such as ``IFCLENGTHMEASURE(72.)``. ``kind`` is its type in capitals."""

    kind: str

    def __new__(cls, text: str, kind: str) -> TypedText:
        typed_text = super().__new__(cls, text)
        typed_text.kind = kind
        return typed_text


Value: TypeAlias = "str | InstanceNumber | list[Value] | None"
"""A value: numbers and enumerations are strings, and a typed value is a `TypedText`."""


@dataclass(frozen=True, slots=True)
class StepInstance:
    """One instance in the file: its type in capitals, its values, and the line in which it begins."""

    kind: str
    values: Sequence[Value]
    line: int

    @property
    def is_rooted(self) -> bool:
        """Return whether the instance has an IFC identifier, as elements, spaces, property sets and relations have."""
        return self.kind.startswith("IFC") and len(self.text(0)) == GLOBAL_ID_CHARS

    def text(self, number: int) -> str:
        """Return the value at position ``number`` if it is text, otherwise an empty string."""
        value = self.values[number] if number < len(self.values) else None
        return " ".join(value.split()) if isinstance(value, str) else ""

    def reference(self, number: int) -> int:
        """Return the number of the instance that the value at position ``number`` refers to, or 0."""
        value = self.values[number] if number < len(self.values) else None
        return value if isinstance(value, InstanceNumber) else 0

    def references(self, number: int) -> list[int]:
        """Return the numbers of the instances that the value at position ``number`` refers to: one reference or a
        list.
        """
        value = self.values[number] if number < len(self.values) else None
        items = value if isinstance(value, list) else [value]
        return [item for item in items if isinstance(item, InstanceNumber)]


@dataclass(slots=True)
class StepFile:
    """The header fields by name, and the kept instances of the data."""

    header: dict[str, StepInstance] = field(default_factory=dict)
    data: dict[int, StepInstance] = field(default_factory=dict)
    instances: int = 0

    def of(self, *kinds: str) -> Iterator[tuple[int, StepInstance]]:
        """Yield the instances of these types, with their numbers, in the order of the file."""
        return (
            (number, step_instance)
            for number, step_instance in self.data.items()
            if step_instance.kind in kinds
        )

    def get(self, number: int, *kinds: str) -> StepInstance | None:
        """Return the instance with this number, or ``None`` if it does not exist or has none of these types."""
        step_instance = self.data.get(number)
        return (
            step_instance
            if step_instance is not None and (not kinds or step_instance.kind in kinds)
            else None
        )


_COMMENT = re.compile(rb"'[^']*+(?:'|\Z)|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)")
_INSTANCE = re.compile(
    rb"(?:#(\d{1,18})\s{0,200}+=\s{0,200}+)?(?:([A-Za-z_][A-Za-z0-9_]{0,99}+)\s{0,200}+)?"
    rb"\(((?:[^;']++|'[^']*+(?:'|\Z))*+)(?:;|\Z)"
)
"""A match always includes the text after a parenthesis, so that each byte is examined only once."""

_TOKEN = re.compile(
    r"'((?:[^']++|'')*+)'|#(\d{1,18})|\.([A-Za-z0-9_]++)\.|([-+]?[0-9][-+0-9.eE]*+)|\"[0-9A-Fa-f]*+\"|([A-Za-z_][\w]*+)"
    r"|([(),$*])"
)
_ROOT = re.compile(rb"\(\s*+'[0-9A-Za-z_$]{22}'")
_BEGIN, _END = b"ISO-10303-21", b"END-ISO-10303-21"
_HEADER_BYTES: Final = 4_096
"""Number of bytes at the beginning and at the end of a file that are searched for its start and end markers."""

_KEPT: Final = frozenset(
    b"PRODUCT PRODUCT_DEFINITION PRODUCT_DEFINITION_FORMATION PRODUCT_DEFINITION_FORMATION_WITH_SPECIFIED_SOURCE "
    b"NEXT_ASSEMBLY_USAGE_OCCURRENCE CONVERSION_BASED_UNIT IFCSIUNIT IFCCONVERSIONBASEDUNIT IFCPROPERTYSINGLEVALUE "
    b"IFCPROPERTYENUMERATEDVALUE IFCPROPERTYLISTVALUE IFCPROPERTYBOUNDEDVALUE IFCQUANTITYLENGTH IFCQUANTITYAREA "
    b"IFCQUANTITYVOLUME IFCQUANTITYCOUNT IFCQUANTITYWEIGHT IFCQUANTITYTIME IFCPHYSICALCOMPLEXQUANTITY "
    b"IFCCOMPLEXPROPERTY IFCPROPERTYTABLEVALUE IFCMATERIAL IFCMATERIALLAYERSETUSAGE IFCMATERIALLAYERSET "
    b"IFCMATERIALLAYER IFCMATERIALLIST IFCMATERIALCONSTITUENTSET IFCMATERIALCONSTITUENT "
    b"IFCCLASSIFICATION IFCCLASSIFICATIONREFERENCE "
    b"IFCUNITASSIGNMENT IFCCONVERSIONBASEDUNITWITHOFFSET IFCCONTEXTDEPENDENTUNIT IFCDERIVEDUNIT "
    b"IFCDERIVEDUNITELEMENT IFCMONETARYUNIT".split()
)
"""Instance types that are kept, in addition to those with an IFC identifier."""


def parse(source: SourceDocument) -> StepFile:
    """Parse a file. Raise `Unreadable` if it is not STEP, truncated, or too large."""
    if source.size > MAX_FILE_BYTES:
        raise Unreadable(f"has more than {MAX_FILE_BYTES >> 20} MB, the limit for STEP and IFC files.")
    data = source.read()
    if _BEGIN not in data[:_HEADER_BYTES].upper():
        raise Unreadable(
            "is not a STEP file (ISO 10303-21), although its name says so. Save it again and add the new "
            "file."
        )
    if _END not in data[-_HEADER_BYTES:].upper():
        raise Unreadable("is truncated: its end marker is missing. Add the complete file.")
    if b"/*" in data:
        data = _COMMENT.sub(_without_comment, data)
    encoding = encoding_of(source)
    step_file = StepFile()
    in_header, line, counted_offset = True, 1, 0
    position = data[:_HEADER_BYTES].upper().find(b"HEADER")
    for match in _INSTANCE.finditer(data, max(0, position)):
        line += data.count(b"\n", counted_offset, match.start())
        counted_offset = match.start()
        kind = (match[2] or b"").upper()
        if match[1] is None:
            if in_header and kind.startswith(b"FILE_"):
                name = kind.decode()
                step_file.header.setdefault(
                    name, StepInstance(name, _values(match[3].decode(encoding, "replace")), line)
                )
            continue
        in_header = False
        step_file.instances += 1
        if step_file.instances > MAX_INSTANCES:
            raise Unreadable(f"has more than {MAX_INSTANCES:,} instances, which is the limit.")
        body = match[3]
        is_unit = not kind and b"_UNIT" in body[:500]
        if kind in _KEPT or is_unit or (kind.startswith(b"IFC") and _ROOT.match(data, match.start(3) - 1)):
            if len(step_file.data) >= MAX_KEPT_INSTANCES:
                raise Unreadable(f"has more than {MAX_KEPT_INSTANCES:,} products, elements and properties.")
            values = _values(body.decode(encoding, "replace"))
            step_file.data[int(match[1])] = StepInstance(kind.decode("ascii"), values, line)
    if not step_file.instances:
        raise Unreadable("has no data to describe.")
    return step_file


def _without_comment(match: re.Match[bytes]) -> bytes:
    """Return a string unchanged, and only the line breaks of a comment."""
    matched_text = match[0]
    return matched_text if matched_text.startswith(b"'") else b" " + b"\n" * matched_text.count(b"\n")


def _values(body: str) -> list[Value]:
    """Parse the values of an instance. ``body`` begins after the opening parenthesis."""
    top: list[Value] = []
    open_lists: list[list[Value]] = [top]
    list_types: list[str] = []
    name = ""
    for match in _TOKEN.finditer(body):
        text, number, enumeration, figure, word, mark = match.groups()
        if mark == "(":
            if len(open_lists) > MAX_NESTED_LISTS:
                break
            inner: list[Value] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
            list_types.append(name)
            name = ""
        elif mark == ")":
            if len(open_lists) == 1:
                break
            closed_list, kind = open_lists.pop(), list_types.pop()
            if kind and len(closed_list) == 1:
                value = closed_list[0]
                open_lists[-1][-1] = TypedText(value, kind.upper()) if isinstance(value, str) else value
        elif mark in ("$", "*"):
            open_lists[-1].append(None)
        elif number:
            open_lists[-1].append(InstanceNumber(number))
        elif word:
            name = word
        elif mark is None:
            open_lists[-1].append(_decode(text) if text is not None else enumeration or figure or "")
    return top


_ESCAPE = re.compile(
    r"\\X2\\((?:[0-9A-Fa-f]{4})*+)\\X0\\|\\X4\\((?:[0-9A-Fa-f]{8})*+)\\X0\\|\\X\\([0-9A-Fa-f]{2})|\\S\\(.)|\\P[A-I]\\"
    r"|\\N\\|\\T\\|(\\\\)|('')"
)


def _decode(text: str) -> str:
    """Decode the escapes of the exchange structure (ISO 10303-21, 6.4.3)."""
    return _ESCAPE.sub(_character, text) if "\\" in text or "'" in text else text


def _character(match: re.Match[str]) -> str:
    wide, wider, byte, shifted_char, backslash, quote = match.groups()
    if wide is not None:
        return bytes.fromhex(wide).decode("utf-16-be", "replace")
    if wider is not None:
        return bytes.fromhex(wider).decode("utf-32-be", "replace")
    if byte:
        return chr(int(byte, 16))
    if shifted_char:
        return chr((ord(shifted_char) + 128) % 256)
    return "\\" if backslash else "'" if quote else " "


def schema_of(file: StepFile) -> str:
    """Return the names of the file's schemas in capitals."""
    step_instance = file.header.get("FILE_SCHEMA")
    return ", ".join(nonempty_texts(step_instance.values)).upper() if step_instance else ""


def nonempty_texts(values: Sequence[Value]) -> list[str]:
    """Return the non-empty texts among values."""
    texts: list[str] = []
    for value in values:
        if isinstance(value, list):
            texts += nonempty_texts(value)
        elif isinstance(value, str) and value.strip():
            texts.append(" ".join(value.split()))
    return texts
