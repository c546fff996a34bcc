"""`portico evals`: grades the answers of models, apps and stores, and searches for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.nouns import print_listing, print_outcome
from portico.cli.render import print_json, safe
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, confirm, connected
from portico.errors import InvalidRequest
from portico.schemas.evals import EVALS, EvalRun, EvalSearch

app = group("evals", "portico evals run -f capitals.yaml")

MAX_UNASKED_CALLS = 1_000
"""Number of calls above which a command asks for confirmation."""

FilePath = Annotated[
    Path, typer.Option("--file", "-f", help="The evaluation: YAML with name, data, criteria, source, search.")
]
EvalId = Annotated[str, typer.Argument(metavar="EVAL", help="The id of the evaluation.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start without waiting for the end.")]


@app.command(epilog="Example: portico evals create -f capitals.yaml")
def create(context: typer.Context, file: FilePath, as_json: AsJson = False) -> None:
    """Create the evaluation in a file, unless it already exists. The evaluation is not run."""
    from portico.cli import evals_file

    eval_file = evals_file.read(file)
    with connected(context) as client:
        found_eval = evals_file.evaluation(client, eval_file)
    print_outcome(found_eval, as_json, found_eval.id)


@app.command(epilog="Example: portico evals run -f capitals.yaml")
def run(
    context: typer.Context,
    file: FilePath,
    model: Annotated[
        str | None, typer.Option(help="The model to ask instead of the one in the file.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Answer every item and grade the answers. Ctrl-C leaves the run running. Exit code 1 if the run fails."""
    from portico.cli import evals_file, evals_show

    eval_file = evals_file.read(file)
    if not eval_file.source and not model:
        source: dict[str, Any] = {}
    else:
        source = {**eval_file.source, **({"model": model} if model else {})}
    calls = eval_file.items if source else 0
    plan = {"items": eval_file.items, "asked": calls, "judged": eval_file.items * eval_file.judges}
    if dry_run:
        print_json(plan) if as_json else evals_show.print_plan(plan)
        return
    _ask_first(plan["asked"] + plan["judged"], yes=yes)
    with connected(context) as client:
        test = evals_file.evaluation(client, eval_file)
        eval_run = client.evals.run(test.id, source, eval_file.data, name=eval_file.name)
        if not detach:
            evals_show.follow(client, eval_run.run_id, f"Evaluating {eval_file.name}", quiet=as_json)
            eval_run = client.evals.get_run(test.id, eval_run.id)
    if as_json:
        print_json(eval_run)
    else:
        evals_show.print_run(eval_run)
    _fail(eval_run)


@app.command(epilog="Example: portico evals search -f capitals.yaml --dry-run")
def search(
    context: typer.Context,
    file: FilePath,
    apply: Annotated[
        bool, typer.Option("--apply", help="Deploy the best trial's changes to apps as new versions.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Try the settings listed under 'search' in the file, and show the best ones. Ctrl-C leaves the search running."""
    from portico.cli import evals_file, evals_show

    eval_file = evals_file.read(file)
    search_options = dict(eval_file.search)
    parameters = search_options.pop("parameters", None)
    if not isinstance(parameters, dict):
        raise InvalidRequest(
            f"{file} needs 'search' with 'parameters': lists of values by path, such as 'model: [a, b]'.",
            param="search",
        )
    if apply and detach:
        raise InvalidRequest("--apply waits for the end of the search: omit --detach.", param="apply")
    if apply and not any(str(path).startswith("apps.") for path in parameters):
        raise InvalidRequest(
            "--apply deploys changes to apps, but none of the parameters is apps.NAME.…; pass the best "
            "settings of other parameters with each call.",
            param="apply",
        )
    search_options.setdefault("name", eval_file.name)
    with connected(context) as client:
        test = evals_file.evaluation(client, eval_file)
        plan = client.evals.plan_search(
            test.id, eval_file.source, eval_file.data, parameters, **search_options
        )
        if dry_run:
            print_json(plan) if as_json else evals_show.print_search_plan(plan)
            return
        _ask_first(plan.asked + plan.judged, yes=yes)
        eval_search = client.evals.search(
            test.id, eval_file.source, eval_file.data, parameters, **search_options
        )
        if not detach:
            evals_show.follow(client, eval_search.run_id, f"Searching {eval_file.name}", quiet=as_json)
            eval_search = client.evals.get_search(test.id, eval_search.id)
        if not as_json:
            evals_show.print_search(eval_search)
        _fail(eval_search)
        eval_applied = client.evals.apply(test.id, eval_search.id) if apply else None
    if as_json:
        print_json({"search": eval_search, "applied": eval_applied} if apply else eval_search)
    elif eval_applied is not None:
        evals_show.print_applied(eval_applied)


@app.command("list", epilog="Example: portico evals list")
def show_all(
    context: typer.Context,
    eval_id: Annotated[
        str | None, typer.Argument(metavar="[EVAL]", help="List the runs and searches of this evaluation.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of entries, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List evaluations, or the runs and searches of one evaluation, newest first."""
    from portico.cli import evals_show

    with connected(context) as client:
        if eval_id is None:
            evals = client.evals.list(limit=limit).data
            empty = "No evaluations yet: portico evals run -f FILE"
            print_listing(evals, as_json, EVALS.columns, empty)
            return
        runs = [
            eval_run for eval_run in client.evals.runs(eval_id, limit=limit) if eval_run.search_id is None
        ]
        searches = client.evals.searches(eval_id, limit=limit)
    if as_json:
        print_json({"runs": runs, "searches": searches})
    else:
        evals_show.print_work(runs, searches)


@app.command(epilog="Example: portico evals show eval_0192f6 evalrun_0192f7 --failed")
def show(
    context: typer.Context,
    eval_id: EvalId,
    work_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The id of a run or a search.")
    ] = None,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", help="For a run: also show the items that did not pass, with their answers."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show an evaluation, the results of a run by criterion, or the trials of a search."""
    from portico.cli import evals_show

    with connected(context) as client:
        if work_id is None:
            test = client.evals.get(eval_id)
            print_json(test) if as_json else evals_show.print_eval(test)
        elif _is_search(work_id):
            eval_search = client.evals.get_search(eval_id, work_id)
            print_json(eval_search) if as_json else evals_show.print_search(eval_search)
        else:
            run = client.evals.get_run(eval_id, work_id)
            bad = evals_show.not_passed(client, run) if failed else []
            if as_json:
                print_json({"run": run, "data": bad} if failed else run)
            else:
                evals_show.print_run(run)
                evals_show.print_outputs(bad)


@app.command(epilog="Example: portico evals cancel eval_0192f6 evalrun_0192f7")
def cancel(
    context: typer.Context,
    eval_id: EvalId,
    work_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run or a search.")],
    as_json: AsJson = False,
) -> None:
    """Stop a run or a search; completed results are kept."""
    with connected(context) as client:
        cancel_work = client.evals.cancel_search if _is_search(work_id) else client.evals.cancel_run
        outcome = cancel_work(eval_id, work_id)
    print_outcome(outcome, as_json, f"{work_id} is canceled.")


def _is_search(work_id: str) -> bool:
    return work_id.startswith("evalsearch_")


def _ask_first(calls: int, *, yes: bool) -> None:
    if calls > MAX_UNASKED_CALLS:
        confirm(f"This takes {calls:,} model calls. Continue?", yes=yes)


def _fail(outcome: EvalRun | EvalSearch) -> None:
    """Exit with an error if the run or search was not completed."""
    if outcome.status in ("failed", "canceled"):
        typer.secho(safe(outcome.error or "") or f"It was {outcome.status}.", fg="red", err=True)
        raise typer.Exit(1)
