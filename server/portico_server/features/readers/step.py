"""STEP and IFC: header, products and assemblies; for buildings, the storeys, elements and property sets.

Shapes are skipped. Both formats use the exchange structure of ISO 10303-21, which is read in one pass as a list of
instances.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import chain, islice
from typing import Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.csv import ROW_GROUP_CHARS, short_header
from portico_server.features.readers.section import MAX_TITLE_CHARS
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

MAX_TABLES_RATIO: Final = 32
"""Maximum size of the tables of properties as a multiple of the file, because elements can share property sets."""

MIN_TABLES_CHARS: Final = 4 * 1024 * 1024
"""Number of characters that the tables of properties can always have."""

MIN_SET_CHARS: Final = 128
"""Number of characters for which a property set of an element counts at least."""

GLOBAL_ID_CHARS: Final = 22
"""Length of an IFC identifier in characters."""


class InstanceNumber(int):
    """A reference to another instance."""


Value: TypeAlias = "str | InstanceNumber | list[Value] | None"
"""A value: numbers and enumerations are strings, and a typed value such as ``IFCLABEL('x')`` is its inner value."""


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


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield a description of the file, then the assemblies and products of STEP, or the spaces and elements of IFC."""
    file = parse(source)
    schema = _schema(file)
    writer = PartWriter()
    if schema.startswith("IFC"):
        model = _Building(file, max(MIN_TABLES_CHARS, MAX_TABLES_RATIO * source.size))
        yield writer.part("\n".join(_about(file, schema, model.units, model.count_lines)), line=1)
        yield from model.parts(writer)
    else:
        assembly = _Assembly(file)
        yield writer.part("\n".join(_about(file, schema, _units(file), assembly.count_lines)), line=1)
        yield from assembly.parts(writer)


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
    b"IFCQUANTITYVOLUME IFCQUANTITYCOUNT IFCQUANTITYWEIGHT IFCQUANTITYTIME IFCMATERIAL".split()
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
    typed_flags: list[bool] = []
    name = ""
    for match in _TOKEN.finditer(body):
        text, number, enumeration, figure, word, mark = match.groups()
        if mark == "(":
            if len(open_lists) > MAX_NESTED_LISTS:
                break
            inner: list[Value] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
            typed_flags.append(bool(name))
            name = ""
        elif mark == ")":
            if len(open_lists) == 1:
                break
            closed_list = open_lists.pop()
            if typed_flags.pop() and len(closed_list) == 1:
                open_lists[-1][-1] = closed_list[0]
        elif mark in ("$", "*"):
            open_lists[-1].append(None)
        elif number:
            open_lists[-1].append(InstanceNumber(number))
        elif word:
            name = word
        elif mark is None:
            value = _decode(text) if text is not None else enumeration or figure or ""
            open_lists[-1].append(value)
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


def _schema(file: StepFile) -> str:
    step_instance = file.header.get("FILE_SCHEMA")
    return ", ".join(_nonempty_texts(step_instance.values)).upper() if step_instance else ""


def _about(file: StepFile, schema: str, units: Sequence[str], counted_lines: Sequence[str]) -> Iterator[str]:
    """Yield lines about the file: information from the header, the units, and the numbers of contents."""
    yield f"{'Building model in IFC' if schema.startswith('IFC') else 'Model in STEP'} ({schema.partition(' ')[0]})"
    name, about = file.header.get("FILE_NAME"), file.header.get("FILE_DESCRIPTION")
    labelled_values = [("Description", _nonempty_texts(about.values[:1]) if about else [])]
    if name is not None:
        labels = ("Name", "Date", "Author", "Organisation", "Written by", "Exported from", "Authorised by")
        labelled_values += [
            (label, _nonempty_texts([value])) for label, value in zip(labels, name.values, strict=False)
        ]
    yield from (f"{label}: {', '.join(values)}" for label, values in labelled_values if values)
    if units:
        yield f"Units: {', '.join(units)}"
    yield from counted_lines


def _nonempty_texts(values: Sequence[Value]) -> list[str]:
    """Return the non-empty texts among values."""
    texts: list[str] = []
    for value in values:
        if isinstance(value, list):
            texts += _nonempty_texts(value)
        elif isinstance(value, str) and value.strip():
            texts.append(" ".join(value.split()))
    return texts


def _units(file: StepFile) -> list[str]:
    """Return the names of the units of lengths, angles and masses in a STEP or IFC file."""
    units: dict[str, None] = {}
    for step_instance in file.data.values():
        unit_words = [unit_word.lower() for unit_word in _nonempty_texts(step_instance.values)]
        if step_instance.kind == "IFCSIUNIT" and len(unit_words) >= 2:
            units[f"{unit_words[0].removesuffix('unit')} in {''.join(unit_words[1:])}"] = None
        elif step_instance.kind == "IFCCONVERSIONBASEDUNIT" and len(unit_words) >= 2:
            units[f"{unit_words[0].removesuffix('unit')} in {unit_words[1]}"] = None
        elif not step_instance.kind and unit_words and (unit_words[-1] in _SI or unit_words[0] in _CONVERTED):
            units["".join(unit_words) if unit_words[-1] in _SI else unit_words[0]] = None
    return list(islice(units, MAX_NAMES))


_SI: Final = ("metre", "radian", "steradian", "gram", "second", "kelvin", "degree_celsius")
_CONVERTED: Final = ("inch", "foot", "degree", "pound", "mile", "yard")


def _runs(head: str, lines: Sequence[str]) -> Iterator[str]:
    """Join lines into groups of at most the length of a passage, each group below ``head``."""
    pending_lines: list[str] = []
    width = 0
    for line in lines:
        if pending_lines and width + len(line) > ROW_GROUP_CHARS:
            yield "\n".join([head, *pending_lines])
            pending_lines, width = [], 0
            head = head if len(head) <= ROW_GROUP_CHARS else short_header(head)
        pending_lines.append(line)
        width += len(line)
    if pending_lines:
        yield "\n".join([head, *pending_lines])


class _Assembly:
    """The products of a STEP file and the assemblies they belong to."""

    def __init__(self, file: StepFile) -> None:
        self._file = file
        self._products: dict[int, StepInstance] = {}
        """Products, by the number of their definition."""
        for number, step_instance in file.of("PRODUCT_DEFINITION"):
            formation = file.get(step_instance.reference(2))
            product = file.get(formation.reference(2), "PRODUCT") if formation is not None else None
            if product is not None:
                self._products[number] = product
        self._parts: dict[int, Counter[int]] = defaultdict(Counter)
        self._wholes: dict[int, Counter[int]] = defaultdict(Counter)
        for _number, step_instance in file.of("NEXT_ASSEMBLY_USAGE_OCCURRENCE"):
            assembly, part = step_instance.reference(3), step_instance.reference(4)
            if assembly in self._products and part in self._products:
                self._parts[assembly][part] += 1
                self._wholes[part][assembly] += 1

    @property
    def count_lines(self) -> list[str]:
        tops = [
            self._name(product)
            for product in self._products
            if product in self._parts and product not in self._wholes
        ]
        lines = [f"Products: {sum(1 for _each in self._file.of('PRODUCT'))}"]
        if tops:
            lines.append(f"Assemblies: {len(self._parts)}")
            lines.append(f"Uppermost: {', '.join(tops[:MAX_NAMES])}")
        return lines

    def parts(self, writer: PartWriter) -> Iterator[Part]:
        """Yield each assembly with its components, then the products that belong to no assembly."""
        for assembly, parts in self._parts.items():
            lines = [f"{times} × {self._name(part)}" for part, times in parts.items()]
            place = self._above(assembly)
            parent_names = [
                self._name(parent) for parent in islice(self._wholes.get(assembly, ()), MAX_NAMES)
            ]
            head = f"Assembly {self._name(assembly)}" + (
                f", part of {', '.join(parent_names)}" if parent_names else ""
            )
            for run in _runs(f"{head}, consists of:", lines):
                yield writer.part(run, line=self._products[assembly].line, heading=place)
        step_instances = {
            id(product): product
            for number, product in self._products.items()
            if number not in self._parts and number not in self._wholes
        }
        lines = [_product(product) for product in step_instances.values()]
        first = next(iter(step_instances.values()), None)
        for run in _runs("Products:", lines):
            yield writer.part(run, line=first.line if first else None)

    def _name(self, definition: int) -> str:
        return _product(self._products[definition])[:ROW_GROUP_CHARS]

    def _above(self, definition: int) -> tuple[str, ...]:
        """Return the names of the enclosing assemblies, outermost first, and of the product. A cycle is followed only
        once.
        """
        path, seen_parts = [definition], {definition}
        while len(path) < MAX_HEADINGS:
            above = next((parent for parent in self._wholes.get(path[-1], ()) if parent not in seen_parts), 0)
            if not above:
                break
            path.append(above)
            seen_parts.add(above)
        return tuple(self._products[part].text(1) or self._products[part].text(0) for part in reversed(path))


def _product(product: StepInstance) -> str:
    """Return the name of a product, followed by its number and description if they differ from the name."""
    number, name, about = product.text(0), product.text(1), product.text(2)
    product_name = name or number or "(without a name)"
    if number and number != product_name:
        product_name += f" ({number})"
    return f"{product_name}: {about}" if about and about not in (name, number) else product_name


_SPACES: Final = {
    "IFCPROJECT": "Project",
    "IFCSITE": "Site",
    "IFCBUILDING": "Building",
    "IFCBUILDINGSTOREY": "Storey",
    "IFCSPACE": "Space",
}
_NO_ELEMENT = re.compile(
    r"IFC(?:REL|PROPERTYSET|ELEMENTQUANTITY|OWNERHISTORY)|.*(?:TYPE|STYLE|TEMPLATE)$|IFC\w*PROPERTIES$"
)


class _Building:
    """The spaces of a building, the elements in each space, and the property sets of the elements.

    ``max_table_chars`` limits the tables of properties of all elements together.
    """

    def __init__(self, file: StepFile, max_table_chars: int) -> None:
        self._file = file
        self._above: dict[int, int] = {}
        self._sets: dict[int, list[list[int]]] = defaultdict(list)
        """Lists of property sets by element. Elements share the lists, which may be as long as the file."""
        self._values: dict[int, dict[str, str]] = {}
        """The values of property sets that have been read."""
        self._unread_properties = Counter[str]()
        """The number of properties beyond `MAX_NAMES` by the name of their property set."""
        self._remaining_table_chars = max_table_chars
        self._types: dict[int, int] = {}
        self._materials: dict[int, list[str]] = defaultdict(list)
        for _number, step_instance in file.of("IFCRELAGGREGATES", "IFCRELNESTS"):
            self._above.update(dict.fromkeys(step_instance.references(5), step_instance.reference(4)))
        for _number, step_instance in file.of("IFCRELCONTAINEDINSPATIALSTRUCTURE"):
            self._above.update(dict.fromkeys(step_instance.references(4), step_instance.reference(5)))
        for _number, step_instance in file.of("IFCRELDEFINESBYPROPERTIES"):
            set_numbers = step_instance.references(5)
            for element in step_instance.references(4):
                self._sets[element].append(set_numbers)
        for _number, step_instance in file.of("IFCRELDEFINESBYTYPE"):
            self._types.update(dict.fromkeys(step_instance.references(4), step_instance.reference(5)))
        for _number, step_instance in file.of("IFCRELASSOCIATESMATERIAL"):
            if (material := file.get(step_instance.reference(5), "IFCMATERIAL")) is not None:
                for element in step_instance.references(4):
                    self._materials[element].append(material.text(0))
        self._elements: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        """The numbers of elements, by the space that contains them and by their type."""
        for number, step_instance in file.data.items():
            if (
                step_instance.kind not in _SPACES
                and step_instance.is_rooted
                and not _NO_ELEMENT.match(step_instance.kind)
            ):
                self._elements[self._space(number)][step_instance.kind].append(number)

    @property
    def units(self) -> list[str]:
        return _units(self._file)

    @property
    def count_lines(self) -> list[str]:
        spaces = Counter(
            _SPACES[step_instance.kind]
            for step_instance in self._file.data.values()
            if step_instance.kind in _SPACES
        )
        kinds = Counter[str]()
        for elements in self._elements.values():
            kinds.update({kind: len(numbers) for kind, numbers in elements.items()})
        lines = [f"{space_kind}s: {times}" for space_kind, times in spaces.items() if space_kind != "Project"]
        if kinds:
            element_counts = [f"{_kind(kind)} ({times})" for kind, times in kinds.most_common(MAX_NAMES)]
            lines.append(f"Elements: {', '.join(element_counts)}")
        return lines

    def parts(self, writer: PartWriter) -> Iterator[Part]:
        """Yield each space with its contents, followed by its elements grouped by type, with each property set as a
        table. A last part names the property sets that were read only in part.
        """
        for number, space in self._file.of(*_SPACES):
            path = self._path(number)
            elements = self._elements.get(number, {})
            lines = [
                f"{_kind(kind)} ({len(numbers)}): {', '.join(self._count_names(numbers))}"
                for kind, numbers in elements.items()
            ]
            about = (3, 5, 6) if space.kind == "IFCPROJECT" else (3, 7)
            extra_texts = [text for at in about if (text := space.text(at)) and text != space.text(2)]
            elevation = space.text(9) if space.kind == "IFCBUILDINGSTOREY" else ""
            head = f"{_SPACES[space.kind]} {space.text(2) or '(without a name)'}"
            head += f": {', '.join(extra_texts)}" if extra_texts else ""
            head += f", elevation {_figure(elevation)}" if elevation else ""
            yield from (
                writer.part(run, line=space.line, heading=path) for run in (*_runs(head, lines),) or (head,)
            )
            yield from self._tables(writer, [number], path)
            for kind, numbers in elements.items():
                yield from self._tables(writer, numbers, (*path, _kind(kind)))
        for kind, numbers in self._elements.get(0, {}).items():
            names = self._count_names(numbers)
            head = f"{_kind(kind)} ({len(numbers)})"
            yield writer.part(
                f"{head}: {', '.join(names)}", line=self._line(numbers[0]), heading=(_kind(kind),)
            )
            yield from self._tables(writer, numbers, (_kind(kind),))
        if self._unread_properties:
            lines = [
                f"{name}: the properties after the first {MAX_NAMES} ({count:,})"
                for name, count in self._unread_properties.most_common(MAX_NAMES)
            ]
            yield from (writer.part(run) for run in _runs("Not read:", lines))

    def _tables(self, writer: PartWriter, numbers: Sequence[int], path: tuple[str, ...]) -> Iterator[Part]:
        tables: dict[str, dict[int, dict[str, str]]] = defaultdict(dict)
        for number in numbers:
            for name, values in self._properties(number):
                tables[name].setdefault(number, {}).update(values)
        for name, rows in tables.items():
            names = list(dict.fromkeys(column for values in rows.values() for column in values))
            columns = names[:MAX_NAMES]
            if len(names) > MAX_NAMES:
                self._unread_properties[name] += len(names) - MAX_NAMES
            lines = [
                " | ".join([self._title(number), *(values.get(column, "") for column in columns)])
                for number, values in rows.items()
            ]
            place = self._line(next(iter(rows)))
            for run in _runs(" | ".join(["Name", *columns]), lines):
                yield writer.part(run, line=place, heading=(*path, name)[:MAX_HEADINGS])

    def _properties(self, number: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the property sets that apply to an element: those of the element's type first, because the element's
        own sets override them.
        """
        kind = self._file.get(self._types.get(number, 0))
        if kind is not None and kind.text(2):
            yield "Type", {"Type": kind.text(2)}
        if number in self._materials:
            yield "Material", {"Material": ", ".join(self._materials[number])}
        own_sets = chain.from_iterable(self._sets.get(number, ()))
        for set_number in chain(kind.references(5) if kind is not None else (), own_sets):
            values = self._values.get(set_number)
            if values is None:
                values = self._values[set_number] = self._read_values(set_number)
            self._remaining_table_chars -= max(MIN_SET_CHARS, sum(map(len, values.values())))
            if self._remaining_table_chars < 0:
                raise Unreadable(
                    f"has tables of properties of more than {MAX_TABLES_RATIO} times its size, because many "
                    "elements share many property sets. Split the file."
                )
            if values:
                yield self._set_name(set_number), values

    def _read_values(self, set_number: int) -> dict[str, str]:
        """Return the values of a property set by the names of the properties."""
        group = self._file.get(set_number, "IFCPROPERTYSET", "IFCELEMENTQUANTITY")
        if group is None:
            return {}
        numbers = group.references(4 if group.kind == "IFCPROPERTYSET" else 5)
        instances = [instance for instance in map(self._file.get, numbers) if instance and instance.text(0)]
        if len(instances) > MAX_NAMES:
            self._unread_properties[self._set_name(set_number)] += len(instances) - MAX_NAMES
        return {instance.text(0): _value(instance) for instance in instances[:MAX_NAMES]}

    def _set_name(self, number: int) -> str:
        return self._file.data[number].text(2)[:MAX_TITLE_CHARS] or "Properties"

    def _space(self, number: int) -> int:
        """Return the number of the space that contains an element, directly or as part of another element; 0 if there
        is none.
        """
        for _level in range(MAX_HEADINGS):
            number = self._above.get(number, 0)
            if not number:
                break
            if self._file.get(number, *_SPACES) is not None:
                return number
        return 0

    def _path(self, number: int) -> tuple[str, ...]:
        path: list[int] = []
        while number and number not in path and len(path) < MAX_HEADINGS - 2:
            path.append(number)
            number = self._above.get(number, 0)
        return tuple(self._title(step) for step in reversed(path) if step in self._file.data)

    def _count_names(self, numbers: Sequence[int]) -> list[str]:
        """Return the distinct names of elements, each with its count."""
        counts = Counter(self._title(number) for number in numbers)
        shown_names = [
            f"{times} × {name}" if times > 1 else name for name, times in islice(counts.items(), MAX_NAMES)
        ]
        return (
            [*shown_names, f"and {len(counts) - MAX_NAMES} more"] if len(counts) > MAX_NAMES else shown_names
        )

    def _title(self, number: int) -> str:
        step_instance = self._file.data[number]
        return step_instance.text(2)[:MAX_TITLE_CHARS] or f"{_kind(step_instance.kind)} #{number}"

    def _line(self, number: int) -> int:
        return self._file.data[number].line


def _kind(kind: str) -> str:
    """Return a readable name for a type, such as ``Wall`` for ``IFCWALLSTANDARDCASE``. IFC files contain type names
    only in capitals.
    """
    return kind.removeprefix("IFC").removesuffix("STANDARDCASE").capitalize()


def _value(instance: StepInstance) -> str:
    """Return the value of a property or quantity."""
    at = {"IFCPROPERTYSINGLEVALUE": 2}.get(instance.kind, 3 if instance.kind.startswith("IFCQUANTITY") else 2)
    figures = [_figure(value) for value in _nonempty_texts(instance.values[at : at + 1])]
    if instance.kind == "IFCPROPERTYBOUNDEDVALUE":
        figures = [_figure(value) for value in reversed(_nonempty_texts(instance.values[2:4]))]
        return " to ".join(figures)
    return ", ".join({"T": "yes", "F": "no", "U": "unknown"}.get(figure, figure) for figure in figures)


def _figure(text: str) -> str:
    """Return a number without trailing zeros: ``2.5`` for ``2.500``, ``3`` for ``3.``."""
    return text.rstrip("0").rstrip(".") if re.fullmatch(r"-?\d+\.\d*", text) else text
