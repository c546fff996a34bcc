"""Buildings (IFC): the project, site, building, storeys and spaces, their elements, and what is stated about these.

An element has attributes such as its identifier and description, a type, materials, classifications and property sets.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from portico_server.features.chunkers.document import Part, PartWriter, Unreadable
from portico_server.features.readers.csv import groups_below
from portico_server.features.readers.ifc_units import ProjectUnits
from portico_server.features.readers.section import MAX_TITLE_CHARS
from portico_server.features.readers.step_file import (
    MAX_HEADINGS,
    MAX_NAMES,
    StepFile,
    StepInstance,
    TypedText,
    Value,
)

MAX_TABLES_RATIO: Final = 32
"""Maximum size of the tables of properties as a multiple of the file, because elements can share property sets."""

MIN_TABLES_CHARS: Final = 4 * 1024 * 1024
"""Number of characters that the tables of properties can always have."""

MIN_SET_CHARS: Final = 128
"""Number of characters for which a property set of an element counts at least."""

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


_ATTRIBUTES: Final = (("GlobalId", 0), ("Description", 3), ("Object type", 4), ("Tag", 7))
"""Attributes of elements by their position."""

_SIZES: Final = (("Height", 8), ("Width", 9))
"""Sizes of doors and windows by their position."""

_GROUPS: Final = ("IFCCOMPLEXPROPERTY", "IFCPHYSICALCOMPLEXQUANTITY")
"""Types of properties and quantities that consist of others."""

_MAX_GROUP_DEPTH: Final = 4
"""Maximum nesting of properties that consist of others."""


class IfcBuilding:
    """The spaces of a building, the elements in each space, and what is stated about the elements.

    ``size`` is the size of the file in bytes, which limits the tables of all elements together.
    """

    def __init__(self, file: StepFile, size: int) -> None:
        self._file = file
        self._units = ProjectUnits(file)
        self._above: dict[int, int] = {}
        self._sets: dict[int, list[list[int]]] = defaultdict(list)
        """Lists of property sets by element. Elements share the lists, which may be as long as the file."""
        self._values: dict[int, dict[str, str]] = {}
        """The values of property sets that have been read."""
        self._group_texts: dict[int, list[tuple[str, str]]] = {}
        """The properties with their values in groups that have been read, by the identity of the group's instance."""
        self._unread_properties = Counter[str]()
        """The number of properties beyond `MAX_NAMES` by the name of their property set."""
        self._remaining_table_chars = max(MIN_TABLES_CHARS, MAX_TABLES_RATIO * size)
        self._types: dict[int, int] = {}
        self._materials: dict[int, list[int]] = defaultdict(list)
        self._material_texts: dict[int, str] = {}
        """The names of materials and layers that have been read, because many elements share them."""
        self._classes: dict[int, list[int]] = defaultdict(list)
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
        associations = (
            ("IFCRELASSOCIATESMATERIAL", self._materials),
            ("IFCRELASSOCIATESCLASSIFICATION", self._classes),
        )
        for kind, numbers_by_element in associations:
            for _number, step_instance in file.of(kind):
                for element in step_instance.references(4):
                    numbers_by_element[element].append(step_instance.reference(5))
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
        return self._units.names

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
            head = self._head(space)
            yield from (
                writer.part(run, line=space.line, heading=path)
                for run in (*groups_below(head, lines),) or (head,)
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
            yield from (writer.part(run) for run in groups_below("Not read:", lines))

    def _head(self, space: StepInstance) -> str:
        """Return the kind, name, description, elevation and identifier of a space in one line."""
        about = (3, 5, 6) if space.kind == "IFCPROJECT" else (3, 7)
        extra_texts = [text for at in about if (text := space.text(at)) and text != space.text(2)]
        head = f"{_SPACES[space.kind]} {space.text(2) or '(without a name)'}"
        head += f": {', '.join(extra_texts)}" if extra_texts else ""
        if space.kind == "IFCBUILDINGSTOREY" and space.text(9):
            head += f", elevation {self._length(space.text(9))}"
        return f"{head}, GlobalId {space.text(0)}"

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
            for run in groups_below(" | ".join(["Name", *columns]), lines):
                yield writer.part(run, line=place, heading=(*path, name)[:MAX_HEADINGS])

    def _properties(self, number: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the tables in which an element has a row, each with the element's values by column."""
        for name, values in self._unlimited_properties(number):
            self._remaining_table_chars -= max(MIN_SET_CHARS, sum(map(len, values.values())))
            if self._remaining_table_chars < 0:
                raise Unreadable(
                    f"has tables of properties of more than {MAX_TABLES_RATIO} times its size, because many "
                    "elements share many property sets. Split the file."
                )
            if values:
                yield name, values

    def _unlimited_properties(self, number: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield what is stated about an element's type before what is stated about the element, which overrides it."""
        element, type_number = self._file.data[number], self._types.get(number, 0)
        kind = self._file.get(type_number)
        if element.kind not in _SPACES:
            yield "Attributes", self._attributes(element)
        if kind is not None and kind.text(2):
            yield "Type", {"Type": kind.text(2)}
        materials = self._materials.get(number) or self._materials.get(type_number, [])
        names = ", ".join(filter(None, map(self._material, materials[:MAX_NAMES])))
        yield "Material", {"Material": names} if names else {}
        yield "Classification", self._classifications(number, type_number)
        own_sets = chain.from_iterable(self._sets.get(number, ()))
        for set_number in chain(kind.references(5) if kind is not None else (), own_sets):
            values = self._values.get(set_number)
            if values is None:
                values = self._values[set_number] = self._read_values(set_number)
            yield self._set_name(set_number), values

    def _attributes(self, element: StepInstance) -> dict[str, str]:
        attributes = {name: text for name, at in _ATTRIBUTES if (text := element.text(at))}
        if element.kind.startswith(("IFCDOOR", "IFCWINDOW")):
            attributes |= {name: self._length(text) for name, at in _SIZES if (text := element.text(at))}
        return attributes

    def _length(self, text: str) -> str:
        return self._units.with_unit(_figure(text), "LENGTHUNIT")

    def _material(self, number: int) -> str:
        if number not in self._material_texts:
            self._material_texts[number] = ", ".join(self._material_names(number))
        return self._material_texts[number]

    def _material_names(self, number: int) -> Iterator[str]:
        """Yield the names of a material, or of the layers or constituents that it consists of."""
        material = self._file.get(number)
        if material is not None and material.kind == "IFCMATERIALLAYERSETUSAGE":
            material = self._file.get(material.reference(0), "IFCMATERIALLAYERSET")
        if material is None:
            return
        if material.kind == "IFCMATERIAL":
            yield material.text(0)
        at = {"IFCMATERIALLAYERSET": 0, "IFCMATERIALLIST": 0, "IFCMATERIALCONSTITUENTSET": 2}.get(
            material.kind
        )
        for layer_number in material.references(at)[:MAX_NAMES] if at is not None else ():
            layer = self._file.get(layer_number)
            if layer is None:
                continue
            base = {"IFCMATERIALLAYER": 0, "IFCMATERIALCONSTITUENT": 2}.get(layer.kind)
            substance = layer if base is None else self._file.get(layer.reference(base), "IFCMATERIAL")
            name = substance.text(0) if substance is not None and substance.kind == "IFCMATERIAL" else ""
            thickness = self._length(layer.text(1)) if layer.kind == "IFCMATERIALLAYER" else ""
            if text := " ".join(filter(None, (name, thickness))):
                yield text

    def _classifications(self, number: int, type_number: int) -> dict[str, str]:
        """Return the codes and names of an element and of its type by the classification system."""
        codes: dict[str, list[str]] = defaultdict(list)
        class_numbers = chain(self._classes.get(number, ()), self._classes.get(type_number, ()))
        for class_number in islice(class_numbers, MAX_NAMES):
            item = self._file.get(class_number, "IFCCLASSIFICATIONREFERENCE")
            text = ": ".join(filter(None, (item.text(1), item.text(2)))) if item is not None else ""
            if text and text not in codes[system := self._classification_system(class_number)]:
                codes[system].append(text)
        return {system: ", ".join(texts) for system, texts in codes.items() if texts}

    def _classification_system(self, number: int) -> str:
        for _level in range(MAX_HEADINGS):
            item = self._file.get(number, "IFCCLASSIFICATIONREFERENCE", "IFCCLASSIFICATION")
            if item is None:
                break
            if item.kind == "IFCCLASSIFICATION":
                return item.text(3) or "Classification"
            number = item.reference(3)
        return "Classification"

    def _read_values(self, set_number: int) -> dict[str, str]:
        """Return the values of a property set by the names of the properties."""
        group = self._file.get(set_number, "IFCPROPERTYSET", "IFCELEMENTQUANTITY")
        if group is None:
            return {}
        numbers = group.references(4 if group.kind == "IFCPROPERTYSET" else 5)
        named_values, unread_count = self._named_values(numbers)
        if unread_count:
            self._unread_properties[self._set_name(set_number)] += unread_count
        return dict(named_values)

    def _named_values(self, numbers: Sequence[int], depth: int = 0) -> tuple[list[tuple[str, str]], int]:
        """Return the first properties with their values, and the number of further ones.

        A property in a group has the names of both. Each group is read once, because many sets can share it.
        """
        named_values: list[tuple[str, str]] = []
        instances = [instance for instance in map(self._file.get, numbers) if instance and instance.text(0)]
        for position, instance in enumerate(instances):
            if len(named_values) >= MAX_NAMES:
                return named_values[:MAX_NAMES], len(instances) - position
            if instance.kind in _GROUPS:
                named_values += self._group_values(instance, depth)
            else:
                named_values.append((_with_words(instance.text(0)), self._value(instance)))
        return named_values[:MAX_NAMES], 0

    def _group_values(self, group: StepInstance, depth: int) -> list[tuple[str, str]]:
        if depth >= _MAX_GROUP_DEPTH:
            return []
        if id(group) not in self._group_texts:
            self._group_texts[id(group)] = []  # ends the reading of a group that contains itself
            numbers = group.references(3 if group.kind == "IFCCOMPLEXPROPERTY" else 2)
            name = group.text(0)[:MAX_TITLE_CHARS]
            inner_values, unread_count = self._named_values(numbers, depth + 1)
            if unread_count:
                self._unread_properties[name] += unread_count
            self._group_texts[id(group)] = [(f"{name}: {inner}", value) for inner, value in inner_values]
        return self._group_texts[id(group)]

    def _value(self, instance: StepInstance) -> str:
        """Return the value of a property or quantity with its unit."""
        if instance.kind.startswith("IFCQUANTITY"):
            return self._units.with_unit(_figure(instance.text(3)), instance.kind, instance.reference(2))
        if instance.kind == "IFCPROPERTYBOUNDEDVALUE":
            bounds = self._figures(instance.values[3:1:-1], instance.reference(4))
            return " to ".join(bounds)
        if instance.kind == "IFCPROPERTYTABLEVALUE":
            defining = self._figures(instance.values[2:3], instance.reference(5))
            defined = self._figures(instance.values[3:4], instance.reference(6))
            return ", ".join(map(": ".join, zip(defining, defined, strict=False)))
        return ", ".join(self._figures(instance.values[2:3], instance.reference(3)))

    def _figures(self, values: Sequence[Value], own_unit: int) -> list[str]:
        """Return the texts among values, numbers with their unit, and truth values in words."""
        figures: list[str] = []
        for value in values:
            if isinstance(value, list):
                figures += self._figures(value, own_unit)
            elif isinstance(value, str) and (text := " ".join(value.split())):
                kind = value.kind if isinstance(value, TypedText) else ""
                if kind in ("IFCBOOLEAN", "IFCLOGICAL"):
                    text = _TRUTH_VALUES.get(text, text)
                elif _NUMBER.fullmatch(text):
                    text = self._units.with_unit(_figure(text), kind, own_unit)
                figures.append(text)
        return figures

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


_TRUTH_VALUES: Final = {"T": "yes", "F": "no", "U": "unknown"}
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,30}(?:\.[0-9]{0,30}(?:[eE][-+]?[0-9]{1,3})?)?")
_MAX_FIGURE_LENGTH: Final = 10
"""Number of digits of a number that are shown. Programs write 2133.6000000000004 for 2133.6."""


def _figure(text: str) -> str:
    """Return a number without trailing zeros and errors of rounding: ``2.5`` for ``2.500``, ``3`` for ``3.``."""
    if "." not in text or not _NUMBER.fullmatch(text):
        return text
    figure = f"{float(text):.{_MAX_FIGURE_LENGTH}g}"
    return figure if "e" not in figure else text.removesuffix(".")


_WORD_BEGIN: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _with_words(name: str) -> str:
    """Return a name and its words, which a search finds: ``FireRating (fire rating)``."""
    words = _WORD_BEGIN.sub(" ", name[:MAX_TITLE_CHARS]).replace("_", " ").split()
    if " ".join(words) == name or len(words) == 1:
        return name
    return (
        f"{name} ({' '.join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)})"
    )
