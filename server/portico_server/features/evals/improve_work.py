"""The work of one improvement, in a durable run: find bad cases, name the part that fails, and measure changes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from portico.schemas.improvements import HeldBackFigures, Proposal
from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id
from portico_server.core.servable import Servable
from portico_server.core.work_slots import FairSlots
from portico_server.db import eval_searches
from portico_server.db import evals as rows
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.db.evals import EvalRunRow, ItemRow, OutputRow
from portico_server.features.apps.app_variants import AppParts
from portico_server.features.evals import candidates, cases, source, statistics
from portico_server.features.evals.candidates import PARTS, Candidate, Part
from portico_server.features.evals.ideal import Ideal, ideal_passages, ideal_tool_call
from portico_server.features.evals.spec import WORKING, EvalServices, Evaluation
from portico_server.features.evals.statistics import EMPTY
from portico_server.features.evals.text_places import TextPlace, locate
from portico_server.features.evals.trial_changes import APPS
from portico_server.features.evals.work import EvalWork, Replacements

FORMAT: Final = "format"
"""Name of the criterion that grades only the form of an answer."""

MAX_CHUNKS: Final = 20_000
"""Maximum number of chunks of a store in which passages are located."""

MAX_MISSING_QUESTIONS: Final = 5
"""Maximum number of questions named in the advice to add documents."""

AT_PLACE: Final[Mapping[TextPlace, Part]] = {"whole": "retrieval", "cut": "chunker", "missing": "document"}


class ImproveWork:
    """One attempt at one improvement. The results of earlier attempts are in the outputs of its trials."""

    def __init__(
        self,
        services: EvalServices,
        row: EvalSearchRow,
        test: Evaluation,
        context: Context,
        slots: FairSlots,
    ) -> None:
        self._services = services
        self._row = row
        self._test = test
        self._context = context
        self._slots = slots
        self._source = source.read(row.spec["data_source"])
        self._version = int(row.spec["version"])
        self._new_groups: list[tuple[str, str]] = []

    async def do(self) -> dict[str, Any]:
        """Return the diagnosis and the proposals. Raises `InvalidRequest` if the cases cannot show an improvement."""
        row, database = self._row, self._services.database
        parts = await self._services.variants.parts(row.name, self._context.caller)
        items = await database.read(rows.every_item, row.id)
        outputs = await self._outputs("all cases", range(row.total))
        halves = cases.split(items, {number for number, output in outputs.items() if output.status != "pass"})
        bad_cases = [items[number] for number in halves.diagnose]
        repairs, repaired_by = await self._diagnose(parts, bad_cases, outputs)
        failed_part = max(PARTS, key=lambda part: len(repairs[part]))
        baseline = await self._run("baseline", halves.held_back)
        proposals: list[Proposal] = []
        for part in PARTS:
            repaired_cases = [items[number] for number in sorted(repairs[part])]
            if repaired_cases:
                proposals.append(
                    await self._propose(
                        len(proposals) + 1,
                        part,
                        parts,
                        repaired_cases,
                        repaired_by.get(part),
                        baseline,
                    )
                )
        await self._remove_groups(proposals)
        return {
            "bad": sum(output.status != "pass" for output in outputs.values()),
            "diagnosed": len(bad_cases),
            "held_back": len(halves.held_back),
            "part": failed_part if repairs[failed_part] else None,
            "diagnosis": [{"part": part, "repaired": len(repairs[part])} for part in PARTS],
            "baseline": asdict(_figures(baseline)),
            "proposals": [asdict(proposal) for proposal in proposals],
        }

    async def _diagnose(
        self, parts: AppParts, bad_cases: Sequence[ItemRow], outputs: Mapping[int, OutputRow]
    ) -> tuple[dict[Part, set[int]], dict[Part, Candidate]]:
        """Return the numbers of the cases that a replacement of each part repairs, and the change that repaired most of
        the cases of its part.
        """
        numbers = [case.number for case in bad_cases]
        repairs: dict[Part, set[int]] = {part: set() for part in PARTS}
        repaired_by: dict[Part, Candidate] = {}
        repairs["format"] = {number for number in numbers if _fails_only_format(outputs[number])}
        model = str(self._row.spec.get("model") or "")
        tried_candidates = [
            *candidates.of_prompts(parts),
            *([candidates.of_model(parts, model)] if model else []),
        ]
        await self._try_all(tried_candidates, numbers, repairs, repaired_by)
        tool_cases = [case.number for case in bad_cases if "tool" in case.item]
        if tool_cases:
            repairs["tool"] = await self._repaired(
                "ideal tool calls", tool_cases, ideal=ideal_tool_call(self._row.name)
            )
        gold_cases = [case for case in bad_cases if case.item.get("passages")]
        if gold_cases and parts.stores:
            gold_numbers = [case.number for case in gold_cases]
            ideal = ideal_passages(tuple(parts.stores.values()))
            repaired_numbers = await self._repaired("right passages", gold_numbers, ideal=ideal)
            for case, part in zip(gold_cases, await self._place(gold_cases, parts), strict=True):
                if case.number in repaired_numbers:
                    repairs[part].add(case.number)
        if repairs["retrieval"]:
            searched_repairs: dict[Part, set[int]] = {"retrieval": set()}
            await self._try_all(
                candidates.of_searches(parts), sorted(repairs["retrieval"]), searched_repairs, repaired_by
            )
        if repairs["chunker"] and parts.searches:
            await self._try_chunkers(parts, sorted(repairs["chunker"]), repaired_by)
        return repairs, repaired_by

    async def _try_chunkers(
        self, parts: AppParts, numbers: Sequence[int], repaired_by: dict[Part, Candidate]
    ) -> None:
        """Try chunkers until one repairs all cases, and note the one that repairs most."""
        most_repaired = 0
        for chunker in candidates.CHUNKERS:
            candidate = candidates.of_chunker(parts, chunker)
            try:
                await self._add_group(parts, chunker)
                repaired_numbers = await self._repaired(candidate.key, numbers, candidate.changes)
            except PorticoError:
                continue
            if len(repaired_numbers) > most_repaired:
                most_repaired = len(repaired_numbers)
                repaired_by["chunker"] = candidate
            if most_repaired == len(numbers):
                break

    async def _add_group(self, parts: AppParts, chunker: str) -> None:
        """Add the chunks of a chunker to all stores of the app."""
        for store in dict.fromkeys(parts.stores.values()):
            name, caller = candidates.group_name(chunker), self._context.caller
            if await self._services.groups.add(store, name, chunker, caller):
                self._new_groups.append((store, name))

    async def _remove_groups(self, proposals: Sequence[Proposal]) -> None:
        """Remove the groups that this attempt added and that no proposal needs."""
        needed_groups = {
            name
            for proposal in proposals
            if proposal.part == "chunker" and proposal.is_offered
            for groups in proposal.changes.values()
            for name in groups
        }
        for store, name in self._new_groups:
            if name not in needed_groups:
                await self._services.groups.remove(store, name, self._context.caller)

    async def _try_all(
        self,
        tried_candidates: Iterable[Candidate],
        numbers: Sequence[int],
        repairs: dict[Part, set[int]],
        repaired_by: dict[Part, Candidate],
    ) -> None:
        """Try changes on the cases, and note the change that repairs most of them for each part. A change that the app
        does not accept repairs nothing.
        """
        for candidate in tried_candidates:
            try:
                repaired_numbers = await self._repaired(candidate.key, numbers, candidate.changes)
            except PorticoError:
                continue
            if len(repaired_numbers) > len(repairs[candidate.part]):
                repairs[candidate.part] = repaired_numbers
                repaired_by[candidate.part] = candidate

    async def _repaired(
        self,
        name: str,
        numbers: Sequence[int],
        changes: Mapping[str, Any] | None = None,
        *,
        ideal: Ideal | None = None,
    ) -> set[int]:
        """Return the cases that pass with a part replaced."""
        outputs = await self._outputs(name, numbers, changes, ideal=ideal)
        return {number for number, output in outputs.items() if output.status == "pass"}

    async def _place(self, gold_cases: Sequence[ItemRow], parts: AppParts) -> list[Part]:
        """Return the part that withholds the right passages of each case: search, chunker, or a missing document."""
        caller = self._context.caller
        chunks = [
            chunk
            for store in dict.fromkeys(parts.stores.values())
            for chunk in await self._services.stores.passages(store, caller, MAX_CHUNKS)
        ]
        if len(chunks) >= MAX_CHUNKS:
            return ["retrieval"] * len(gold_cases)
        passages = [text for case in gold_cases for text in case.item["passages"]]
        places = iter(await pools.DATASETS.run_for(caller.id, locate, passages, chunks))
        worst_places = [
            max(_next(places, len(case.item["passages"])), key=_WORST.index) for case in gold_cases
        ]
        return [AT_PLACE[place] for place in worst_places]

    async def _propose(
        self,
        number: int,
        part: Part,
        parts: AppParts,
        repaired_cases: Sequence[ItemRow],
        candidate: Candidate | None,
        baseline: EvalRunRow,
    ) -> Proposal:
        """Return the proposal for a part, measured on the held-back half if it is a change of the app."""
        if part == "document":
            questions = "; ".join(cases.question_of(case) for case in repaired_cases[:MAX_MISSING_QUESTIONS])
            text = f"Add a document that answers: {questions}"
            return Proposal(number, part, text, {}, False, "Not measured: the store lacks the documents.")
        if part == "format":
            candidate = candidates.of_examples(parts, repaired_cases)
        elif part == "tool":
            candidate = candidates.of_tools(parts, repaired_cases, await self._descriptions(parts))
        if candidate is None:
            return Proposal(number, part, "", {}, False, _NO_CHANGE[part])
        outputs_before = await self._services.database.read(rows.every_output, baseline.id)
        try:
            trial = await self._run(f"{candidate.key} held back", sorted(outputs_before), candidate.changes)
        except PorticoError as error:
            return Proposal(number, part, candidate.text, candidate.changes, False, error.message)
        outputs = await self._services.database.read(rows.every_output, trial.id)
        worse = sum(
            output.status == "pass" and outputs[case].status != "pass"
            for case, output in outputs_before.items()
        )
        figures = _figures(trial)
        is_better = (figures.score or 0.0) > (_figures(baseline).score or 0.0)
        reason = "" if is_better else "It does not raise the mean score of the held-back cases."
        return Proposal(number, part, candidate.text, candidate.changes, is_better, reason, figures, worse)

    async def _descriptions(self, parts: AppParts) -> dict[str, str]:
        """Return the descriptions of the app's tools that its model sees now."""
        descriptions: dict[str, str] = {}
        for name, (_place, entry) in parts.tools.items():
            description = str(entry.get("description") or "")
            if not description and "tool" in entry:
                tool = await self._services.registry.resolve(f"tool/{name}", self._context.caller)
                description = tool.card.description
            descriptions[name] = description
        return descriptions

    async def _outputs(
        self,
        name: str,
        numbers: Sequence[int],
        changes: Mapping[str, Any] | None = None,
        *,
        ideal: Ideal | None = None,
    ) -> Mapping[int, OutputRow]:
        trial = await self._run(name, numbers, changes, ideal=ideal)
        return await self._services.database.read(rows.every_output, trial.id)

    async def _run(
        self,
        name: str,
        numbers: Sequence[int],
        changes: Mapping[str, Any] | None = None,
        *,
        ideal: Ideal | None = None,
    ) -> EvalRunRow:
        """Run the app with ``changes`` on some cases, and return the trial with its results. Raises `PorticoError` if
        the app does not accept the changes.
        """
        services, app = self._services, self._row.name
        variant = await services.variants.variant(app, changes or {}, self._context.caller, self._version)
        trial = await self._trial(name, changes or {}, len(numbers))

        def replacements(case: ItemRow) -> Mapping[str, Servable]:
            return {app: variant, **({} if ideal is None else ideal(variant, case))}

        await self._work(trial, numbers, replacements)
        return await services.database.read(rows.run, trial.id) or trial

    async def _work(self, trial: EvalRunRow, numbers: Sequence[int], replacements: Replacements) -> None:
        async def report(done: int, total: int) -> None:
            await self._context.emit(Progressed("improve", trial.name, done, total, "items"))

        work = EvalWork(
            self._services, trial, self._source, self._test.criteria, self._context, self._slots, replacements
        )
        await work.do(numbers, report)
        await self._services.database.write(rows.move, trial.id, "completed", since=WORKING, has_ended=True)

    async def _trial(self, name: str, changes: Mapping[str, Any], total: int) -> EvalRunRow:
        """Return the trial with this name. Create it unless an earlier attempt did."""
        row, database = self._row, self._services.database
        for trial in await database.read(eval_searches.trials, row.id):
            if trial.name == name:
                return trial
        trial = EvalRunRow(
            id=new_id("evalrun_"),
            eval_id=row.eval_id,
            owner=row.owner,
            run_id=row.run_id,
            search_id=row.id,
            name=name,
            source=row.spec["data_source"],
            settings={f"{APPS}{row.name}.{place}": value for place, value in changes.items()},
            data_id=row.id,
            total=total,
            tally=EMPTY,
            created_at=time.time(),
            status="in_progress",
        )
        await database.write(eval_searches.add_trial, trial)
        return trial


_WORST: Final[Sequence[TextPlace]] = ("whole", "cut", "missing")

_NO_CHANGE: Final[Mapping[Part, str]] = {
    "format": "No step of the app takes examples: describe the format in its prompt.",
    "tool": "The app does not have these tools.",
    "retrieval": "No setting of the search that was tried finds the passages.",
    "chunker": "No chunker that was tried repairs the cases, or you may not manage the store.",
}
"""Why a part has no change to measure."""


def _next(places: Iterator[TextPlace], count: int) -> list[TextPlace]:
    return [next(places) for _ in range(count)]


def _fails_only_format(output: OutputRow) -> bool:
    failed_names = [result["name"] for result in output.results if not result["passed"]]
    return output.status == "fail" and failed_names == [FORMAT]


def _figures(trial: EvalRunRow) -> HeldBackFigures:
    count = statistics.count(trial.tally) or 1
    cost = statistics.cost(trial.tally)
    return HeldBackFigures(
        statistics.of(trial.tally, "score").value,
        trial.tally["seconds"] / count,
        statistics.tokens(trial.tally) / count,
        None if cost is None else cost / count,
    )
