"""What views show that no call has answered: pages of documents, scores of evaluations, curves of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal

if TYPE_CHECKING:
    from portico_server.api.services import ApiServices

MAX_RUNS: Final = 100
"""Runs of an evaluation in one chart."""

MAX_STEPS: Final = 1_000
"""Steps of a fine-tuning job in one chart, the last ones."""

_MEASURED: Final = ("train_loss", "valid_loss", "reward")


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lines of points ``(x, y)`` by their names, and a table with the same and more."""

    title: str
    x: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def to_json(self) -> dict[str, Any]:
        """For the view."""
        lines = [
            {"name": name, "points": [{"x": x, "y": y} for x, y in points]}
            for name, points in self.lines.items()
        ]
        rows = [list(row) for row in self.rows]
        return {
            "title": self.title,
            "x": self.x,
            "lines": lines,
            "columns": list(self.columns),
            "rows": rows,
        }

    def to_text(self) -> str:
        """For a reader without the view."""
        rows = [self.columns, *self.rows] if self.rows else [("There are no figures yet.",)]
        table = "\n".join(" | ".join("" if cell is None else str(cell) for cell in row) for row in rows)
        return f"{self.title}\n\n{table}"


class Drawings:
    """Each checks the caller's rights as the API of the same thing does."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    async def page(self, caller: Principal, store: str, file: str, number: int, passage: str) -> bytes:
        """A page of a PDF as a PNG with the passage marked."""
        stores = self._services.stores
        return await stores.contents.page(await stores.get(store, caller), file, number, passage)

    async def scores(self, caller: Principal, ref: str) -> Drawing:
        """The mean scores of an evaluation's runs, by its id or name; of the newest one if that is empty."""
        from portico_server.evals import statistics

        evals = self._services.evals
        if ref:
            test = await evals.find(ref, caller)
        else:
            newest = (await evals.list(caller, limit=1, order="desc")).data
            if not newest:
                raise NotFound("There is no evaluation yet.", code="eval_not_found", param="eval")
            [test] = newest
        page = await self._services.eval_runs.list(
            test.row.id, caller, limit=MAX_RUNS, order="desc", statuses=("completed",)
        )
        lines: dict[str, list[tuple[float, float]]] = {}
        rows: list[tuple[str | float | None, ...]] = []
        for number, row in enumerate(reversed(page.data), 1):
            score = statistics.of(row.tally, "score")
            if score.value is not None:
                lines.setdefault(row.target, []).append((number, score.value))
            passed = f"{row.tally['pass']}/{statistics.count(row.tally)}"
            rows.append((number, row.name, row.target, _rounded(score.value), _rounded(score.error), passed))
        columns = ("Run", "Name", "Model", "Score", "Standard error", "Passed")
        return Drawing(test.row.name or test.row.id, "Run", lines, columns, rows)

    async def curve(self, caller: Principal, job_id: str) -> Drawing:
        """The losses of a fine-tuning job, or its reward; of the newest one if the id is empty."""
        tuning = self._services.tuning
        if job_id:
            job = await tuning.get(job_id, caller)
        else:
            newest = (await tuning.list(caller, limit=1)).data
            if not newest:
                raise NotFound("There is no fine-tuning job yet.", code="fine_tune_not_found", param="job")
            [job] = newest
        page = await tuning.events(job, ("metrics",), limit=MAX_STEPS)
        events = list(reversed(page.data))
        lines = {
            name: [
                (float(event.step or 0), float(event.data[name])) for event in events if name in event.data
            ]
            for name in _MEASURED
        }
        lines = {name: points for name, points in lines.items() if points}
        rows = [(event.step or 0, *(_rounded(event.data.get(name)) for name in lines)) for event in events]
        return Drawing(f"{job.model}: {job.status}", "Step", lines, ("Step", *lines), rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
