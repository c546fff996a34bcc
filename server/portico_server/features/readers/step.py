"""STEP and IFC: header, products and assemblies; for buildings, the storeys, elements and property sets.

Shapes are skipped. Both formats use the exchange structure that `step_file` reads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument
from portico_server.features.readers.building import IfcBuilding
from portico_server.features.readers.csv import ROW_GROUP_CHARS, groups_below
from portico_server.features.readers.step_file import (
    MAX_HEADINGS,
    MAX_NAMES,
    StepFile,
    StepInstance,
    nonempty_texts,
    parse,
    schema_of,
)


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield a description of the file, then the assemblies and products of STEP, or the spaces and elements of IFC."""
    file = parse(source)
    schema = schema_of(file)
    writer = PartWriter()
    if schema.startswith("IFC"):
        model = IfcBuilding(file, source.size)
        yield writer.part("\n".join(_about(file, schema, model.units, model.count_lines)), line=1)
        yield from model.parts(writer)
    else:
        assembly = _Assembly(file)
        yield writer.part("\n".join(_about(file, schema, _units(file), assembly.count_lines)), line=1)
        yield from assembly.parts(writer)


def _about(file: StepFile, schema: str, units: Sequence[str], counted_lines: Sequence[str]) -> Iterator[str]:
    """Yield lines about the file: information from the header, the units, and the numbers of contents."""
    yield f"{'Building model in IFC' if schema.startswith('IFC') else 'Model in STEP'} ({schema.partition(' ')[0]})"
    name, about = file.header.get("FILE_NAME"), file.header.get("FILE_DESCRIPTION")
    labelled_values = [("Description", nonempty_texts(about.values[:1]) if about else [])]
    if name is not None:
        labels = ("Name", "Date", "Author", "Organisation", "Written by", "Exported from", "Authorised by")
        labelled_values += [
            (label, nonempty_texts([value])) for label, value in zip(labels, name.values, strict=False)
        ]
    yield from (f"{label}: {', '.join(values)}" for label, values in labelled_values if values)
    if units:
        yield f"Units: {', '.join(units)}"
    yield from counted_lines


def _units(file: StepFile) -> list[str]:
    """Return the names of the units of lengths, angles and masses in a STEP file."""
    units: dict[str, None] = {}
    for step_instance in file.data.values():
        unit_words = [unit_word.lower() for unit_word in nonempty_texts(step_instance.values)]
        if not step_instance.kind and unit_words and (unit_words[-1] in _SI or unit_words[0] in _CONVERTED):
            units["".join(unit_words) if unit_words[-1] in _SI else unit_words[0]] = None
    return list(islice(units, MAX_NAMES))


_SI: Final = ("metre", "radian", "steradian", "gram", "second", "kelvin", "degree_celsius")
_CONVERTED: Final = ("inch", "foot", "degree", "pound", "mile", "yard")


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
            for run in groups_below(f"{head}, consists of:", lines):
                yield writer.part(run, line=self._products[assembly].line, heading=place)
        step_instances = {
            id(product): product
            for number, product in self._products.items()
            if number not in self._parts and number not in self._wholes
        }
        lines = [_product(product) for product in step_instances.values()]
        first = next(iter(step_instances.values()), None)
        for run in groups_below("Products:", lines):
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
