"""Evaluations: run them from a file; show runs with their scores, failed items, and searches over settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from textual.content import Content

from portico.cli.evals_file import read, same_test
from portico.cli.render import dollars
from portico.schemas.evals import Eval, EvalOutput, EvalRun, EvalSearch, EvalTrial
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import cell, clock, one_line, run_state, safe, span
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.schema_form import local_path
from portico_tui.widgets.table_rows import TableColumn

MAX_OUTPUTS = 100
"""Maximum number of a run's items to list."""


class EvalsScreen(ListingScreen[Eval]):
    """The evaluations."""

    MODE = "evals"
    TAB = "Evals"
    COLUMNS = (
        TableColumn[Eval](
            "MADE",
            lambda evaluation: clock(evaluation.created_at),
            "dim",
            sort=lambda evaluation: evaluation.created_at,
        ),
        TableColumn[Eval]("NAME", lambda evaluation: evaluation.name, "bold", 36),
        TableColumn[Eval](
            "CRITERIA",
            lambda evaluation: [str(criterion.get("name", "")) for criterion in evaluation.testing_criteria],
        ),
        TableColumn[Eval]("ID", lambda evaluation: evaluation.id, "dim"),
    )
    EMPTY = "No evaluations yet.\n\nPress n to run one from a file, as shown in docs/evals.md."

    async def find(self) -> Sequence[Eval]:
        return await self.daemon.pages(self.client.evals.list)

    @row_action("enter", "Runs", "Runs of the evaluation with their scores")
    async def runs(self, test: Eval) -> None:
        self.app.push_screen(EvalRunsScreen(self.services, test))

    @row_action("s", "Searches", "Searches over settings, and their results")
    async def searches(self, test: Eval) -> None:
        self.app.push_screen(EvalSearchesScreen(self.services, test))

    @action("n", "Run a file", "Run the evaluation or the search in a file")
    async def run_file(self) -> None:
        answers = await self.ask(
            Form(
                "Run an evaluation",
                Field(
                    "file",
                    "Local file: YAML with name, data, criteria, source",
                    hint="~/capitals.yaml",
                    check=local_path,
                ),
                Field("model", "Model to ask instead of the file's · optional", optional=True),
            )
        )
        if answers is None:
            return
        file = read(local_path(answers["file"]))
        evals = await self.daemon.pages(self.client.evals.list)
        test = next((known_test for known_test in evals if same_test(known_test, file)), None)
        if test is None:
            test = await self.client.evals.create(file.name, file.criteria, item_schema=file.schema)
        source = {**file.source, **({"model": answers["model"]} if answers["model"] else {})}
        if file.search:
            search_options = dict(file.search)
            parameters = search_options.pop("parameters", {})
            plan = await self.client.evals.plan_search(
                test.id, source, file.data, parameters, **search_options
            )
            if await self.sure(f"Start {plan.trials} trials with {plan.asked} items?", "Begin"):
                await self.client.evals.search(test.id, source, file.data, parameters, **search_options)
                self.app.push_screen(EvalSearchesScreen(self.services, test))
        elif await self.sure(f"Ask {file.items} items?", "Begin"):
            await self.client.evals.run(test.id, source, file.data, name=file.name)
            self.app.push_screen(EvalRunsScreen(self.services, test))

    @row_action("m", "Rename", "Rename the evaluation", footer=False)
    async def rename(self, test: Eval) -> None:
        answers = await self.ask(Form("Rename", Field("name", "Name", test.name)))
        if answers is not None:
            await self.client.evals.update(test.id, name=answers["name"])

    @row_action("d", "Remove", "Delete the evaluation with its runs and searches")
    async def remove_eval(self, test: Eval) -> None:
        if await self.sure(f"Forget '{one_line(test.name)}' with its runs and searches?", "Forget"):
            await self.client.evals.remove(test.id)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


class EvalRunsScreen(SublistScreen[EvalRun]):
    """The runs of an evaluation, newest first."""

    MODE = "evals"
    TAB = "Evals"
    COLUMNS = (
        TableColumn[EvalRun](
            "BEGAN", lambda run: clock(run.created_at), "dim", sort=lambda run: run.created_at
        ),
        TableColumn[EvalRun]("MODEL", lambda run: run.model, "bold", 24),
        TableColumn[EvalRun]("STATUS", lambda run: run_state(run.status)),
        TableColumn[EvalRun]("SCORE", lambda run: _score(run.score), sort=lambda run: run.score),
        TableColumn[EvalRun](
            "PASSED", lambda run: _pass_text(run), sort=lambda run: run.result_counts.get("passed", 0)
        ),
        TableColumn[EvalRun]("TOOK", lambda run: span(run.seconds), sort=lambda run: run.seconds),
        TableColumn[EvalRun](
            "COST", lambda run: "" if run.cost is None else dollars(run.cost), sort=lambda run: run.cost
        ),
    )
    EMPTY = "No runs yet."

    def __init__(self, services: AppServices, test: Eval) -> None:
        super().__init__(services, f"Runs of {test.name}")
        self._test = test

    async def find(self) -> Sequence[EvalRun]:
        return (await self.client.evals.runs(self._test.id, limit=100)).data

    def detail(self, item: EvalRun) -> Iterable[Content | str]:
        if item.error:
            yield Content.styled(one_line(item.error), "$text-error")
        for criterion_score in item.criteria:
            mean = f" · mean {criterion_score.mean:.3f}" if criterion_score.mean is not None else ""
            yield one_line(
                f"{criterion_score.testing_criteria}: {criterion_score.passed} passed, "
                f"{criterion_score.failed} failed{mean}"
            )
        if item.settings:
            yield Content.styled(one_line(json.dumps(item.settings, ensure_ascii=False)), "dim")

    @row_action("enter", "Items", "Results of the items")
    async def outputs(self, run: EvalRun) -> None:
        self.app.push_screen(EvalItemsScreen(self.services, run))

    @row_action("c", "Cancel", "Stop the run; completed results are kept", when=lambda run: not run.ended)
    async def cancel(self, run: EvalRun) -> None:
        await self.client.evals.cancel_run(run.eval_id, run.id)

    @row_action("d", "Remove", "Delete the run", when=lambda run: run.ended)
    async def remove_run(self, run: EvalRun) -> None:
        if await self.sure("Forget this run with its results?", "Forget"):
            await self.client.evals.remove_run(run.eval_id, run.id)


def _pass_text(run: EvalRun) -> str:
    counts = run.result_counts
    return f"{counts.get('passed', 0)} of {counts.get('total', run.items)}"


class EvalItemsScreen(SublistScreen[EvalOutput]):
    """The results of a run's items, in order."""

    MODE = "evals"
    TAB = "Evals"
    COLUMNS = (
        TableColumn[EvalOutput](
            "ITEM", lambda output: output.datasource_item_id, sort=lambda output: output.datasource_item_id
        ),
        TableColumn[EvalOutput](
            "OUTCOME", lambda output: cell(output.status, "green" if output.status == "pass" else "red")
        ),
        TableColumn[EvalOutput](
            "SCORE", lambda output: _score(output.score), sort=lambda output: output.score
        ),
        TableColumn[EvalOutput]("ANSWER", lambda output: output.text),
    )
    EMPTY = "No item has finished yet."

    def __init__(self, services: AppServices, run: EvalRun) -> None:
        super().__init__(services, f"Items of {run.name or run.id}")
        self._run = run

    async def find(self) -> Sequence[EvalOutput]:
        return (await self.client.evals.outputs(self._run.eval_id, self._run.id, limit=MAX_OUTPUTS)).data

    def detail(self, item: EvalOutput) -> Iterable[Content | str]:
        yield one_line(json.dumps(item.datasource_item, ensure_ascii=False))
        yield Content.styled(one_line(item.text), "bold")

    @row_action("enter", "Read", "All details of the item")
    async def read_item(self, item: EvalOutput) -> None:
        item_document = {"item": item.datasource_item, "results": list(item.results), "sample": item.sample}
        text = json.dumps(item_document, ensure_ascii=False, indent=2)
        self.app.push_screen(Reader(f"Item {item.datasource_item_id}", safe(text)))


class EvalSearchesScreen(SublistScreen[EvalSearch]):
    """The searches of an evaluation, newest first."""

    MODE = "evals"
    TAB = "Evals"
    COLUMNS = (
        TableColumn[EvalSearch](
            "BEGAN", lambda search: clock(search.created_at), "dim", sort=lambda search: search.created_at
        ),
        TableColumn[EvalSearch]("NAME", lambda search: search.name or search.id, "bold", 30),
        TableColumn[EvalSearch]("STATUS", lambda search: run_state(search.status)),
        TableColumn[EvalSearch]("ITEMS", lambda search: search.items, sort=lambda search: search.items),
    )
    EMPTY = "No searches yet."

    def __init__(self, services: AppServices, test: Eval) -> None:
        super().__init__(services, f"Searches of {test.name}")
        self._test = test

    async def find(self) -> Sequence[EvalSearch]:
        return await self.client.evals.searches(self._test.id, limit=100)

    def detail(self, item: EvalSearch) -> Iterable[Content | str]:
        if item.error:
            yield Content.styled(one_line(item.error), "$text-error")

    @row_action("enter", "Trials", "Trials of the search, best first")
    async def trials(self, search: EvalSearch) -> None:
        eval_search = await self.client.evals.get_search(search.eval_id, search.id)
        self.app.push_screen(EvalTrialsScreen(self.services, eval_search))

    @row_action(
        "c", "Cancel", "Stop the search; completed results are kept", when=lambda search: not search.ended
    )
    async def cancel(self, search: EvalSearch) -> None:
        await self.client.evals.cancel_search(search.eval_id, search.id)


class EvalTrialsScreen(SublistScreen[EvalTrial]):
    """The trials of a search, best first."""

    MODE = "evals"
    TAB = "Evals"
    COLUMNS = (
        TableColumn[EvalTrial](
            "SCORE", lambda trial: _score(trial.score), "bold", sort=lambda trial: trial.score
        ),
        TableColumn[EvalTrial]("STATUS", lambda trial: run_state(trial.status)),
        TableColumn[EvalTrial](
            "PASSED", lambda trial: f"{trial.passed} of {trial.done}", sort=lambda trial: trial.passed
        ),
        TableColumn[EvalTrial]("TOOK", lambda trial: span(trial.seconds), sort=lambda trial: trial.seconds),
        TableColumn[EvalTrial]("SETTINGS", lambda trial: json.dumps(trial.settings, ensure_ascii=False)),
    )
    EMPTY = "No trials yet."

    def __init__(self, services: AppServices, search: EvalSearch) -> None:
        super().__init__(services, f"Trials of {search.name or search.id}")
        self._search = search

    async def find(self) -> Sequence[EvalTrial]:
        return (await self.client.evals.get_search(self._search.eval_id, self._search.id)).trials

    def detail(self, item: EvalTrial) -> Iterable[Content | str]:
        if item.error:
            yield Content.styled(one_line(item.error), "$text-error")
        yield safe(json.dumps(item.settings, ensure_ascii=False, indent=2))

    @row_action(
        "p", "Apply", "Deploy the trial's changes to apps", when=lambda trial: trial.score is not None
    )
    async def apply(self, trial: EvalTrial) -> None:
        if await self.sure("Deploy this trial's changes to apps?", "Deploy"):
            eval_applied = await self.client.evals.apply(
                self._search.eval_id, self._search.id, trial=trial.id
            )
            self.report(
                "Apply",
                ", ".join(
                    f"'{app}' is now at version {number}" for app, number in eval_applied.versions.items()
                ),
            )
