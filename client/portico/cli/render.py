"""Output of commands: tables and colours on a terminal, plain lines elsewhere, and one JSON document with
``--json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, characters that change the writing direction, and lone surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNESCAPED = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile("[\t\n\u2028\u2029]")

_UNITS = ("B", "kB", "MB", "GB", "TB")


def console(*, error: bool = False) -> Console:
    """Return a rich console on standard output or standard error.

    The console uses colours only on a terminal, and prints every text unchanged, without interpreting markup.
    """
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print a JSON document on standard output."""
    print(json_text(value, indent=2 if sys.stdout.isatty() else None))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON that cannot control the terminal: JSON itself escapes only some control characters."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=indent)
    return _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain(value: Any) -> Any:
    """Convert dataclasses to JSON objects, recursively."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a table on a terminal. Elsewhere, print a line of headings and a line per row, with cells
    separated by tabs.

    If ``columns`` is empty, no headings are printed.
    """
    columns = [one_line(name) for name in columns]
    texts = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in ([columns] if columns else []) + texts:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, markup=False, emoji=False).print(table)


def print_fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair per line. Pairs with an empty value are skipped."""
    visible_pairs = [(name, one_line(value)) for name, value in pairs if value not in (None, "", (), [])]
    width = max((len(name) for name, _ in visible_pairs), default=0)
    for name, value in visible_pairs:
        typer.echo(f"{typer.style(f'{name:<{width}}', dim=True)}  {value}")


def one_line(value: Any) -> str:
    """Convert a value to text that cannot break the line or control the terminal: control characters become spaces."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(one_line(item) for item in value)
    return _BREAKS.sub(" ", safe(str(value)))


def shorten(text: str, width: int) -> str:
    """Return the beginning of a text as one line of at most ``width`` characters."""
    line = " ".join(one_line(text).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def count_reasons(reasons: Mapping[str, int], other_count: int) -> str:
    """Describe how many files were skipped and why: ``3 of 9 files: 2 of an unknown kind, 1 empty``. ``other_count``
    is the number of files that were not skipped. Return an empty text if none were skipped.
    """
    if not reasons:
        return ""
    sorted_reasons = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    left_out = sum(reasons.values())
    total = left_out + other_count
    reasons_text = ", ".join(f"{count} {one_line(reason)}" for reason, count in sorted_reasons)
    return f"{left_out} of {total} file{'' if total == 1 else 's'}: {reasons_text}"


def amount(size: float | None) -> str:
    """Format a size in bytes, such as ``98.3 MB``."""
    if size is None:
        return ""
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size /= 1000
        power += 1
    return f"{size:.0f} {_UNITS[power]}" if power == 0 else f"{size:.1f} {_UNITS[power]}"


def dollars(cost: float) -> str:
    """Format an amount in dollars: to the cent, or with three significant digits if it is less than a dollar."""
    return f"${cost:.2f}" if cost >= 1 or not cost else f"${cost:.3g}"


def moment(seconds: float | None) -> str:
    """Format a time as local time, to the second."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def safe(text: str) -> str:
    """Make text from a model or a document safe for the terminal: keep line ends and tabs, replace other control
    characters.
    """
    return _CONTROLS.sub(" ", text)
