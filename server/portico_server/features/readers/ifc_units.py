"""The units of values in an IFC file: the units assigned to the project, and those that a value has itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from portico_server.features.readers.step_file import MAX_NAMES, StepFile, StepInstance, nonempty_texts

_SI_SYMBOLS: Final = {
    "METRE": "m",
    "SQUARE_METRE": "m²",
    "CUBIC_METRE": "m³",
    "GRAM": "g",
    "SECOND": "s",
    "AMPERE": "A",
    "KELVIN": "K",
    "DEGREE_CELSIUS": "°C",
    "MOLE": "mol",
    "CANDELA": "cd",
    "RADIAN": "rad",
    "STERADIAN": "sr",
    "HERTZ": "Hz",
    "NEWTON": "N",
    "PASCAL": "Pa",
    "JOULE": "J",
    "WATT": "W",
    "COULOMB": "C",
    "VOLT": "V",
    "FARAD": "F",
    "OHM": "Ω",
    "SIEMENS": "S",
    "WEBER": "Wb",
    "TESLA": "T",
    "HENRY": "H",
    "LUMEN": "lm",
    "LUX": "lx",
}
_PREFIXES: Final = {
    "TERA": "T",
    "GIGA": "G",
    "MEGA": "M",
    "KILO": "k",
    "HECTO": "h",
    "DECA": "da",
    "DECI": "d",
    "CENTI": "c",
    "MILLI": "m",
    "MICRO": "µ",
    "NANO": "n",
    "PICO": "p",
}
_CONVERTED_SYMBOLS: Final = {
    "DEGREE": "°",
    "INCH": "in",
    "FOOT": "ft",
    "YARD": "yd",
    "SQUARE INCH": "in²",
    "SQUARE FOOT": "ft²",
    "CUBIC INCH": "in³",
    "CUBIC FOOT": "ft³",
    "POUND": "lb",
    "FAHRENHEIT": "°F",
}
_BASE_FORMS: Final = {
    "kg/(K·s³)": "W/(m²·K)",
    "kg·m/(K·s³)": "W/(m·K)",
    "kg/(m·s²)": "Pa",
    "kg·m/s²": "N",
    "kg·m²/s³": "W",
    "kg·m²/s²": "J",
}
"""Units that programs such as Revit write in base units, and their usual symbols."""

_QUANTITIES: Final = {
    "IFCQUANTITYLENGTH": "LENGTHUNIT",
    "IFCQUANTITYAREA": "AREAUNIT",
    "IFCQUANTITYVOLUME": "VOLUMEUNIT",
    "IFCQUANTITYWEIGHT": "MASSUNIT",
    "IFCQUANTITYTIME": "TIMEUNIT",
    "IFCMONETARYMEASURE": "MONETARYUNIT",
    "IFCTHERMALCONDUCTIVITYMEASURE": "THERMALCONDUCTANCEUNIT",
}
"""Types of units by the type of a quantity or measure, if the names differ."""

_MEASURE: Final = re.compile(r"IFC(?:POSITIVE|NONNEGATIVE)?(\w+)MEASURE")
_POWERS: Final = str.maketrans("23456789", "²³⁴⁵⁶⁷⁸⁹")
_MAX_DERIVED_UNITS: Final = 16
"""Maximum number of units in a derived unit."""


class ProjectUnits:
    """The symbols of the units in a file, by the types of values."""

    def __init__(self, file: StepFile) -> None:
        self._file = file
        self._assigned: dict[str, str] = {}
        self._symbols: dict[int, str] = {}
        """The symbols of units by the number of their instance, once they have been read."""
        self._names: dict[str, None] = {}
        for number, unit in self._project_units():
            unit_type = "MONETARYUNIT" if unit.kind == "IFCMONETARYUNIT" else unit.text(1).upper()
            self._assigned.setdefault(unit_type, self._symbol(number))
            words = [word.lower() for word in nonempty_texts(unit.values)]
            if unit.kind == "IFCSIUNIT" and len(words) >= 2:
                self._names[f"{words[0].removesuffix('unit')} in {''.join(words[1:])}"] = None
            elif unit.kind.startswith("IFCCONVERSIONBASEDUNIT") and len(words) >= 2:
                self._names[f"{words[0].removesuffix('unit')} in {words[1]}"] = None

    @property
    def names(self) -> list[str]:
        """The names of the project's units, such as ``length in millimetre``."""
        return list(self._names)[:MAX_NAMES]

    def with_unit(self, figure: str, kind: str, own_unit: int = 0) -> str:
        """Return a number with its unit, or only the number if it has none.

        ``kind`` is the type of the value, quantity or unit in capitals. ``own_unit`` is the number of the unit that the
        value has itself, or 0.
        """
        if kind.endswith("UNIT"):
            unit_type = kind
        else:
            measure = _MEASURE.fullmatch(kind)
            unit_type = _QUANTITIES.get(kind) or (f"{measure[1]}UNIT" if measure is not None else "")
        symbol = (self._symbol(own_unit) if own_unit else "") or self._assigned.get(unit_type, "")
        return f"{figure} {symbol}" if symbol else figure

    def _project_units(self) -> Iterator[tuple[int, StepInstance]]:
        """Yield the units that the project refers to; without a project, those of the first assignment, or all."""
        assignments = [
            assignment
            for _number, project in self._file.of("IFCPROJECT")
            if (assignment := self._file.get(project.reference(8), "IFCUNITASSIGNMENT")) is not None
        ] or [assignment for _number, assignment in self._file.of("IFCUNITASSIGNMENT")]
        if not assignments:
            yield from self._file.of("IFCSIUNIT", "IFCCONVERSIONBASEDUNIT")
            return
        for number in assignments[0].references(0):
            if (unit := self._file.get(number)) is not None:
                yield number, unit

    def _symbol(self, number: int, depth: int = 0) -> str:
        """Return the symbol of a unit, or an empty string if it is none."""
        if number not in self._symbols:
            unit = self._file.get(number)
            self._symbols[number] = self._read_symbol(unit, depth) if unit is not None else ""
        return self._symbols[number]

    def _read_symbol(self, unit: StepInstance, depth: int) -> str:
        match unit.kind:
            case "IFCSIUNIT":
                symbol = _SI_SYMBOLS.get(unit.text(3).upper(), unit.text(3).lower().replace("_", " "))
                return _PREFIXES.get(unit.text(2).upper(), "") + symbol
            case "IFCCONVERSIONBASEDUNIT" | "IFCCONVERSIONBASEDUNITWITHOFFSET" | "IFCCONTEXTDEPENDENTUNIT":
                name = unit.text(2)
                return _CONVERTED_SYMBOLS.get(name.upper().replace("_", " "), name.lower())
            case "IFCMONETARYUNIT":
                return unit.text(0)
            case "IFCDERIVEDUNIT" if depth == 0:
                return self._derived_symbol(unit)
        return ""

    def _derived_symbol(self, unit: StepInstance) -> str:
        """Return a product of units with exponents, such as ``W/(m²·K)``."""
        above: list[str] = []
        below: list[str] = []
        for number in unit.references(0)[:_MAX_DERIVED_UNITS]:
            element = self._file.get(number, "IFCDERIVEDUNITELEMENT")
            symbol = self._symbol(element.reference(0), depth=1) if element is not None else ""
            exponent = element.text(1) if element is not None else ""
            if not symbol or not re.fullmatch(r"-?[1-9]", exponent):
                return unit.text(2)
            power = exponent.removeprefix("-")
            (below if exponent.startswith("-") else above).append(
                symbol if power == "1" else symbol + power.translate(_POWERS)
            )
        numerator = "·".join(sorted(above, key=str.casefold)) or "1"
        denominator = "·".join(sorted(below, key=lambda symbol: (symbol[0] != "m", symbol.casefold())))
        symbol = (
            f"{numerator}/({denominator})"
            if len(below) > 1
            else "/".join(filter(None, (numerator, denominator)))
        )
        return _BASE_FORMS.get(symbol, symbol)
