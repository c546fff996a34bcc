"""The table of every screen: filtered while typing, sorted by any column, and as fast with ten thousand rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from textual import events
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.pilot import Pilot
from textual.widgets import Input

from portico_tui.widgets.table import FilterLine, Table
from portico_tui.widgets.table_rows import TableColumn


@dataclass(frozen=True)
class Ship:
    name: str
    tons: int | None


COLUMNS = (
    TableColumn[Ship]("SHIP", lambda ship: ship.name, "bold", 20),
    TableColumn[Ship](
        "TONS", lambda ship: "" if ship.tons is None else f"{ship.tons} t", sort=lambda ship: ship.tons
    ),
)

FLEET = {
    name: Ship(name, tons) for name, tons in (("Petrel", 90), ("Auk", 1000), ("Gannet", None), ("[b]Tern", 7))
}


class Harbour(App[None]):
    """An app with one table."""

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Table[Ship](*COLUMNS, id="ships")


@asynccontextmanager
async def harbour(rows: dict[str, Ship]) -> AsyncIterator[tuple[Table[Ship], Pilot[None]]]:
    app = Harbour()
    async with app.run_test(size=(40, 12)) as pilot:
        table = app.query_one(Table)
        table.put(rows)
        table.focus()
        await pilot.pause()
        yield table, pilot


def names(table: Table[Ship]) -> list[str]:
    return [row[0] for row in table.cells]


def lines(table: Table[Ship]) -> list[str]:
    """Return the drawn lines."""
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


async def test_rows_are_filtered_by_words_while_one_types() -> None:
    async with harbour(FLEET) as (table, pilot):
        await pilot.press("slash", *"a")
        assert names(table) == ["Auk", "Gannet"]
        await pilot.press(*"uk 1000")
        assert names(table) == ["Auk"]
        assert "1 of 4" in lines(table)[0]
        await pilot.press("enter")
        assert table.has_focus and table.current == "Auk"
        await pilot.press("escape")
        assert len(names(table)) == 4 and table.current == "Auk"
        assert not table.app.query_one(FilterLine).display


async def test_keys_typed_ahead_are_handled_in_order_by_filter_and_table() -> None:
    async with harbour(FLEET) as (table, pilot):

        async def at_once(*keys: str) -> None:
            """Press all keys before the app processes the first."""
            for key in keys:
                pilot.app.post_message(events.Key(key, key if len(key) == 1 else None))
            await pilot.pause()

        await at_once("slash", *"gannet", "enter", "O")
        assert names(table) == ["Gannet"] and table.has_focus
        assert "▼" in lines(table)[0], "the key behind Enter is the table's"
        await at_once("slash", *"zz", "escape", "down", "slash", *"o")
        assert names(table) == [] and table.app.query_one(FilterLine).value == "o"


async def test_a_filter_without_matches_leaves_no_row_selected() -> None:
    async with harbour(FLEET) as (table, pilot):
        await pilot.press("slash", *"zeppelin")
        assert names(table) == [] and table.chosen is None
        await pilot.press("enter", "down", "enter")
        assert table.chosen is None
        await pilot.press("slash")
        pilot.app.query_one("FilterLine", Input).value = "("
        await pilot.pause()
        assert names(table) == []


async def test_columns_order_the_rows_by_value_and_empty_ones_stand_last() -> None:
    async with harbour(FLEET) as (table, pilot):
        await pilot.press("o")
        assert names(table) == ["[b]Tern", "Auk", "Gannet", "Petrel"]
        await pilot.press("o")
        assert names(table) == ["[b]Tern", "Petrel", "Auk", "Gannet"]
        assert "TONS" in lines(table)[0] and "▲" in lines(table)[0]
        await pilot.press("O")
        assert names(table) == ["Auk", "Petrel", "[b]Tern", "Gannet"]
        assert "▼" in lines(table)[0]
        await pilot.press("o")
        assert names(table) == list(FLEET)


async def test_a_click_on_a_title_orders_and_another_one_turns_the_order_round() -> None:
    async with harbour(FLEET) as (table, pilot):
        await pilot.click(table, offset=(2, 0))
        assert names(table)[0] == "[b]Tern"
        await pilot.click(table, offset=(2, 0))
        assert names(table)[0] == "Petrel"
        await pilot.click(table, offset=(2, 3))
        assert table.current == names(table)[2]


async def test_a_refresh_leaves_the_cursor_on_its_row() -> None:
    async with harbour(FLEET) as (table, pilot):
        await pilot.press("down", "down")
        assert table.current == "Gannet"
        table.put({"Skua": Ship("Skua", 3), **FLEET})
        assert table.current == "Gannet"
        table.put({name: ship for name, ship in FLEET.items() if name != "Gannet"})
        assert table.current == "[b]Tern"
        table.put({})
        assert table.current is None


async def test_markup_and_escapes_in_a_cell_are_text() -> None:
    async with harbour({"x": Ship("[b]\x1b[2J", 1)}) as (table, _pilot):
        cell_text = lines(table)[1]
        assert "[b]" in cell_text and "\x1b" not in cell_text


async def test_of_ten_thousand_rows_only_those_in_sight_are_asked_for_their_text() -> None:
    ship_names: list[str] = []

    def show(ship: Ship) -> str:
        ship_names.append(ship.name)
        return ship.name

    app = Harbour()
    async with app.run_test(size=(40, 12)) as pilot:
        table = app.query_one(Table)
        table.rows.columns = (TableColumn[Ship]("SHIP", show), COLUMNS[1])
        table.put({str(number): Ship(f"ship {number:05}", number) for number in range(10_000)})
        table.focus()
        await pilot.pause()
        ship_names.clear()
        await pilot.press("ctrl+end")
        assert table.current == "9999"
        assert lines(table)[-1].startswith(" ship 09999")
        assert {int(name.split()[1]) for name in ship_names} <= set(range(9_980, 10_000))
        await pilot.press("slash", *"0077")
        assert [row[0] for row in table.cells] == ["ship 00077", *(f"ship 0077{n}" for n in range(10))]
