"""Output of `portico evals`: plans, the results of runs by criterion, and the trials of searches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from portico.cli.nouns import fields_of
from portico.cli.progress import Bars
from portico.cli.render import dollars, moment, one_line, print_fields, print_rows, shorten
from portico.client import Client
from portico.schemas.evals import Eval, EvalApplied, EvalOutput, EvalPlan, EvalRun, EvalSearch, EvalTrial

WIDTH = 60
"""Maximum length of a text in a table, in characters."""

MAX_SHOWN_ITEMS = 50
"""Maximum number of failed items of a run to show."""


def follow(client: Client, run_id: str, label: str, *, quiet: bool) -> None:
    """Wait until a durable run ends. Show a progress bar unless ``quiet``."""
    if quiet:
        for _item in client.runs.events(run_id):
            pass
        return
    with Bars() as bars:
        bar = bars.bar(label)
        for item in client.runs.events(run_id):
            bar.take(item)


def print_plan(plan: Mapping[str, int]) -> None:
    """Print the number of calls that a run would make."""
    print_fields((name, f"{value:,}") for name, value in plan.items())


def print_search_plan(plan: EvalPlan) -> None:
    """Print the number of trials and calls that a search would make, and its first trials."""
    numbers = (("trials", plan.trials), ("items", plan.items), ("asked", plan.asked), ("judged", plan.judged))
    print_fields((name, f"{value:,}") for name, value in (*numbers, ("trained", plan.trained)))
    typer.echo()
    print_rows(("SETTINGS",), ((_settings(setting),) for setting in plan.settings))


def print_eval(found_eval: Eval) -> None:
    """Print an evaluation."""
    pairs: list[tuple[str, Any]] = [
        ("id", found_eval.id),
        ("name", found_eval.name),
        ("made", moment(found_eval.created_at)),
    ]
    pairs += [
        (f"criterion {criterion.get('name')}", str(criterion.get("type")))
        for criterion in found_eval.testing_criteria
    ]
    print_fields(pairs)


def print_work(runs: Sequence[EvalRun], searches: Sequence[EvalSearch]) -> None:
    """Print the runs and searches of an evaluation."""
    rows: list[tuple[Any, ...]] = [
        (r.id, r.status, r.model, _score(r.score, r.standard_error), f"{r.items:,}", moment(r.created_at))
        for r in runs
    ]
    rows += [(s.id, s.status, "", "", f"{s.items:,}", moment(s.created_at)) for s in searches]
    if rows:
        print_rows(("ID", "STATUS", "MODEL", "SCORE", "ITEMS", "BEGAN"), rows)
    else:
        typer.echo("No runs yet: portico evals run -f FILE")


def print_run(run: EvalRun) -> None:
    """Print a run, and its results by criterion."""
    counts = run.result_counts
    print_fields(
        [
            ("id", run.id),
            ("evaluation", run.eval_id),
            *fields_of(run, "status", "model", "error"),
            ("score", _score(run.score, run.standard_error)),
            ("passed", f"{counts.get('passed', 0):,} of {run.items:,}"),
            ("failed", counts.get("failed") or None),
            ("errors", counts.get("errored") or None),
            ("tokens", f"{run.tokens:,}" if run.tokens else None),
            ("cost", None if run.cost is None else dollars(run.cost)),
            ("seconds", f"{run.seconds:.1f}" if run.seconds else None),
            ("settings", _settings(run.settings) if run.settings else None),
        ]
    )
    if run.criteria:
        typer.echo()
        print_rows(
            ("CRITERION", "PASSED", "FAILED", "MEAN"),
            (
                (c.testing_criteria, c.passed, c.failed, _score(c.mean, c.standard_error))
                for c in run.criteria
            ),
        )


def not_passed(client: Client, run: EvalRun) -> list[EvalOutput]:
    """Return the first items whose answers failed a criterion, or that could not be answered."""
    eval_outputs: list[EvalOutput] = []
    for status in ("fail", "error"):
        eval_outputs += client.evals.outputs(run.eval_id, run.id, status=status, limit=MAX_SHOWN_ITEMS).data
    return sorted(eval_outputs, key=lambda item: item.datasource_item_id)[:MAX_SHOWN_ITEMS]


def print_outputs(eval_outputs: Sequence[EvalOutput]) -> None:
    """Print the items that did not pass, with their answers."""
    if not eval_outputs:
        return
    typer.echo()
    print_rows(
        ("ITEM", "STATUS", "ANSWER OR ERROR", "CRITERIA"),
        (
            (
                shorten(json.dumps(dict(eval_output.datasource_item), ensure_ascii=False), WIDTH),
                eval_output.status,
                shorten(_words(eval_output), WIDTH),
                [f"{result.get('name')} {result.get('score'):g}" for result in eval_output.results],
            )
            for eval_output in eval_outputs
        ),
    )


def _words(eval_output: EvalOutput) -> str:
    errors = [eval_output.sample.get("error"), *(result.get("error") for result in eval_output.results)]
    first_error = next((error for error in errors if error), None)
    return str(first_error.get("message")) if first_error else eval_output.text


def print_search(search: EvalSearch) -> None:
    """Print a search with its trials, best first."""
    spec = search.spec
    print_fields(
        [
            ("id", search.id),
            ("evaluation", search.eval_id),
            ("status", search.status),
            ("error", search.error),
            ("items", f"{search.items:,}"),
            ("objective", f"{spec.get('direction')} {spec.get('objective')}"),
        ]
    )
    typer.echo()
    print_rows(
        ("", "SETTINGS", "SCORE", "DONE", "ERRORS", "TOKENS", "COST", "SECONDS", "STATUS"),
        (_trial(number, eval_trial, search) for number, eval_trial in enumerate(search.trials, 1)),
    )


def _trial(number: int, eval_trial: EvalTrial, search: EvalSearch) -> tuple[Any, ...]:
    return (
        f"{number}{' best' if eval_trial.id == search.best else ''}",
        _settings(eval_trial.settings),
        _score(eval_trial.score, eval_trial.standard_error),
        eval_trial.done,
        eval_trial.errored or "",
        f"{eval_trial.tokens:,}",
        "" if eval_trial.cost is None else dollars(eval_trial.cost),
        f"{eval_trial.seconds:.1f}",
        eval_trial.error or eval_trial.status,
    )


def print_applied(eval_applied: EvalApplied) -> None:
    """Print what was deployed."""
    for name, version in eval_applied.versions.items():
        typer.echo(f"'{one_line(name)}' now answers with version {version}.")
    if eval_applied.left:
        typer.echo(f"Pass these settings with each call: {one_line(_settings(eval_applied.left))}")


def _settings(settings: Mapping[str, Any]) -> str:
    """Format settings on one line."""
    return ", ".join(f"{path}={_value(value)}" for path, value in settings.items())


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shorten(text, WIDTH // 2)


def _score(mean: float | None, error: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"
