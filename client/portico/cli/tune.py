"""`portico tune`: trains a model on your examples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.nouns import fields_of, print_listing, print_outcome
from portico.cli.pairs import json_or_text
from portico.cli.render import dollars, moment, one_line, print_fields, print_json
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, connected
from portico.cli.start_group import StartGroup
from portico.errors import Conflict, InvalidRequest
from portico.schemas.fine_tuning import TUNING, TuningJob

app = group("tune", "portico tune examples.jsonl --base default", cls=StartGroup)

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the job.")]


@app.command(epilog="Example: portico tune start examples.jsonl --base default --suffix polite")
def start(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Examples, one JSON object per line; see 'portico tune convert'. With --store: questions."
        ),
    ] = None,
    *,
    base: Annotated[str, typer.Option(help="The model to train.")],
    validation: Annotated[Path | None, typer.Option(help="Examples held back for measuring.")] = None,
    method: Annotated[
        str, typer.Option(help="supervised, dpo or reinforcement; with --store: embedding or rerank.")
    ] = "supervised",
    store: Annotated[
        str | None, typer.Option(help="Train an embedding model or a reranker on the passages of this store.")
    ] = None,
    questions: Annotated[
        int | None,
        typer.Option(min=1, help="Without a file: generate this many questions from the passages."),
    ] = None,
    asker: Annotated[
        str | None,
        typer.Option(
            help="The chat model that writes these questions (default: headings and sentences serve as questions)."
        ),
    ] = None,
    promote: Annotated[
        str | None,
        typer.Option(
            metavar="ALIAS",
            help="With --store: point this alias to the result if it ranks held-back questions better.",
        ),
    ] = None,
    grader: Annotated[
        Path | None,
        typer.Option(help="For reinforcement: a JSON file with the grader, in OpenAI's format."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Number of examples per step.")] = None,
    rate: Annotated[float | None, typer.Option(help="Factor for the recipe's learning rate.")] = None,
    beta: Annotated[
        float | None, typer.Option(help="For dpo: the penalty for deviating from the base model.")
    ] = None,
    suffix: Annotated[str, typer.Option(help="A part of the new model's name.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same result.")] = None,
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app", metavar="NAME", help="Train on the prompts that this app creates for the examples."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the recipe, such as rank=16. Repeatable."
        ),
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            help="The launcher that starts the training, such as slurm (default: from the setting)."
        ),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Resources to request from a scheduler, such as gpus=1. Repeatable."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every setting with its reason, without training.")
    ] = False,
    dry_run: DryRun = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start the job without following it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on examples, or a search model on a store, and show the loss. Ctrl-C leaves the job running."""
    _check_start(file, store, promote, detach=detach)
    options_given = (
        ("n_epochs", epochs),
        ("batch_size", batch_size),
        ("learning_rate_multiplier", rate),
        ("beta", beta),
    )
    options: dict[str, Any] = {
        "validation_file": validation,
        "method": method,
        "hyperparameters": {name: value for name, value in options_given if value is not None},
        "grader": _json_file(grader) if grader else None,
        "recipe": _settings(settings or ()),
        "app": app_name,
        "store": store,
        "questions": questions,
        "asker": asker,
    }
    from portico.cli import tune_live

    placement: dict[str, Any] = {"launcher": launcher, "resources": _settings(resource or ())}
    with connected(context) as client:
        if explain or dry_run:
            plan = client.tuning.plan(base, file, **options, **placement)
            if as_json:
                print_json(plan)
            else:
                tune_live.print_plan(plan, reasons=explain)
            return
        job = client.tuning.create(base, file, suffix=suffix, seed=seed, **options, **placement)
        if not detach:
            job = tune_live.follow(client, job, quiet=as_json)
        better = job.evaluation is not None and job.evaluation.better
        if promote and better and job.fine_tuned_model:
            client.models.alias(promote, job.fine_tuned_model)
    _end(job, as_json)
    if promote and job.status == "succeeded":
        _say_promoted(job, promote, as_json, better=better)


def _check_start(file: Path | None, store: str | None, promote: str | None, *, detach: bool) -> None:
    if file is None and store is None:
        raise InvalidRequest(
            "Give a file of examples (portico tune examples.jsonl --base MODEL), or a store with --store.",
            param="file",
        )
    if promote and (store is None or detach):
        raise InvalidRequest(
            "--promote needs --store and waits for the result: omit --detach. Chat models are promoted by "
            "'portico compare'.",
            param="promote",
        )


def _say_promoted(job: TuningJob, alias: str, as_json: bool, *, better: bool) -> None:
    if not better:
        raise Conflict(
            f"'{alias}' was not changed: '{job.fine_tuned_model}' does not rank the held-back questions "
            f"better than '{job.model}'.",
            code="not_better",
        )
    if not as_json:
        typer.echo(f"'{alias}' is now '{one_line(job.fine_tuned_model)}'.")


@app.command("list", epilog="Example: portico tune list --limit 5")
def show_all(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of jobs, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List fine-tuning jobs, newest first."""
    with connected(context) as client:
        tuning_jobs = client.tuning.list(limit=limit).data
    print_listing(
        tuning_jobs,
        as_json,
        TUNING.columns,
        "No jobs yet: portico tune examples.jsonl --base default",
    )


@app.command(epilog="Example: portico tune show ftjob-0192f6")
def show(context: typer.Context, job_id: Identity, as_json: AsJson = False) -> None:
    """Show a job: its status, its loss curve and its last events."""
    from portico.cli import tune_live

    with connected(context) as client:
        job = client.tuning.get(job_id)
        if as_json:
            print_json(job)
            return
        _print(job)
        tune_live.print_course(client, job_id)


@app.command(epilog="Example: portico tune follow ftjob-0192f6")
def follow(context: typer.Context, job_id: Identity, as_json: AsJson = False) -> None:
    """Follow a job until it ends. Ctrl-C leaves the job running."""
    from portico.cli import tune_live

    with connected(context) as client:
        job = tune_live.follow(client, client.tuning.get(job_id), quiet=as_json)
    _end(job, as_json)


@app.command(epilog="Example: portico tune check ftjob-0192f6")
def check(context: typer.Context, job_id: Identity, as_json: AsJson = False) -> None:
    """Compare the current prompts of a job's app with the prompts that the job was trained on. Exit code 1 if they
    differ.
    """
    with connected(context) as client:
        app_check = client.tuning.check(job_id)
    if as_json:
        print_json(app_check)
    else:
        print_fields(
            [
                ("app", app_check.app),
                ("version", f"{app_check.version}, trained on {app_check.trained_version}"),
                ("calls", f"{app_check.model}{'' if app_check.uses_result else ', which is not the result'}"),
                ("prompts", "as trained" if app_check.same else "changed"),
            ]
        )
        for sentence in app_check.differences:
            typer.secho(one_line(sentence), fg="yellow", err=True)
    if not app_check.same:
        raise typer.Exit(1)


@app.command(epilog="Example: portico tune pause ftjob-0192f6")
def pause(context: typer.Context, job_id: Identity, as_json: AsJson = False) -> None:
    """Stop a job after its last checkpoint. The job can be resumed."""
    with connected(context) as client:
        _say(client.tuning.pause(job_id), as_json, "is paused: portico tune resume {id}")


@app.command(epilog="Example: portico tune resume ftjob-0192f6")
def resume(context: typer.Context, job_id: Identity, as_json: AsJson = False) -> None:
    """Resume a paused job."""
    with connected(context) as client:
        _say(client.tuning.resume(job_id), as_json, "continues: portico tune follow {id}")


@app.command(epilog="Example: portico tune cancel ftjob-0192f6")
def cancel(context: typer.Context, job_id: Identity, as_json: AsJson = False) -> None:
    """Cancel a job permanently."""
    with connected(context) as client:
        _say(client.tuning.cancel(job_id), as_json, "is cancelled.")


@app.command(epilog="Example: portico tune convert alpaca.json examples.jsonl --from alpaca")
def convert(
    file: Annotated[Path, typer.Argument(help="The data set: JSON, JSON lines or CSV.")],
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    format: Annotated[str, typer.Option("--from", help="alpaca, sharegpt, lazyllm or csv.")],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="ROLE=COLUMN",
            help="For csv: what a column contains, such as user=QUESTION. Repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert the data set of another tool to training examples. Needs no daemon."""
    from portico import convert as converting

    if file.resolve() == to.resolve():
        raise InvalidRequest(
            "The input and output files are the same; choose another output file.", param="to"
        )
    mapping = dict(_pair(item, "--map") for item in columns or ())
    count = _write_lines(to, converting.convert(file, format, mapping))
    print_outcome(
        {"examples": count, "file": str(to)}, as_json, f"{count:,} examples in {one_line(str(to))}."
    )


@app.command(epilog="Example: portico tune collect examples.jsonl --eval items.jsonl --held-back 0.2")
def collect(
    context: typer.Context,
    to: Annotated[Path, typer.Argument(help="The file of examples to write.")],
    method: Annotated[
        str,
        typer.Option(
            help="supervised: good answers and corrections; dpo: these compared with bad and corrected "
            "answers."
        ),
    ] = "supervised",
    of: Annotated[str | None, typer.Option("--app", help="Only answers of this app.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    items: Annotated[
        Path | None, typer.Option("--eval", help="The file of evaluation items to write.")
    ] = None,
    held_back: Annotated[
        float,
        typer.Option(help="The share of the questions that become evaluation items and are not trained on."),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Write rated answers as training examples and, for other questions, as evaluation items."""
    if (items is None) != (held_back == 0):
        raise InvalidRequest("Use --eval and --held-back together, or neither.", param="held_back")
    if items is not None and items.resolve() == to.resolve():
        raise InvalidRequest("Examples and items need separate files; choose another file.", param="eval")
    with connected(context) as client:
        collected_examples = client.tuning.collect(method=method, app=of, model=model, held_back=held_back)
    _write_lines(to, collected_examples.examples)
    if items is not None:
        _write_lines(items, collected_examples.items)
    if as_json:
        counts = {
            "examples": len(collected_examples.examples),
            "items": len(collected_examples.items),
            "left_out": collected_examples.left_out,
        }
        print_json({**counts, "file": str(to), "eval": None if items is None else str(items)})
        return
    typer.echo(f"{len(collected_examples.examples):,} examples in {one_line(str(to))}.")
    if items is not None:
        typer.echo(f"{len(collected_examples.items):,} items in {one_line(str(items))}.")
    if collected_examples.left_out:
        words = "have no text, or belong to a conversation with a question of the evaluation"
        typer.secho(
            f"Omitted rated answers: {collected_examples.left_out:,}. They {words}.",
            fg="yellow",
            err=True,
        )


def _write_lines(to: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON Lines to a file atomically, and return the number of lines."""
    count = 0
    path = to.with_name(f"{to.name}.unfinished")
    try:
        with path.open("w", encoding="utf-8") as out:
            for line in lines:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
        path.replace(to)
    finally:
        path.unlink(missing_ok=True)
    return count


def _settings(pairs: Sequence[str]) -> Mapping[str, Any]:
    settings: dict[str, Any] = {}
    for item in pairs:
        name, value = _pair(item, "--set")
        settings[name] = json_or_text(value)
    return settings


def _pair(item: str, option: str) -> tuple[str, str]:
    name, separator, value = item.partition("=")
    if not separator or not name:
        raise InvalidRequest(f"{option} takes NAME=VALUE, not '{item}'.", param=option.lstrip("-"))
    return name, value


def _json_file(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}.", param="grader") from error
    if not isinstance(document, dict):
        raise InvalidRequest(f"{path} must contain a JSON object, the grader.", param="grader")
    return document


def _end(job: TuningJob, as_json: bool) -> None:
    """Print the result of a job. Exit with an error if the job failed."""
    if as_json:
        print_json(job)
    elif job.status == "succeeded" and job.store is not None:
        model = one_line(job.fine_tuned_model)
        typer.echo(f"Done: {model}")
        if job.method == "embedding" and job.evaluation is not None and job.evaluation.better:
            typer.echo(f"Use it: portico stores change {job.store} --embedding-model {model} --dry-run")
    elif job.status == "succeeded":
        typer.echo(f"Done: portico chat --model {one_line(job.fine_tuned_model)}")
    elif job.status not in ("failed", "cancelled"):
        typer.echo(f"{job.id} is {job.state}: portico tune follow {job.id}")
    if job.status in ("failed", "cancelled"):
        if not as_json:
            typer.secho(one_line(job.error) or f"The job was {job.status}.", fg="red", err=True)
        raise typer.Exit(1)


def _say(job: TuningJob, as_json: bool, words: str) -> None:
    print_outcome(job, as_json, f"{job.id} {words.format(id=job.id)}")


def _measures(job: TuningJob) -> str | None:
    """Describe how well a search model and its base model rank the held-back questions."""
    search_evaluation = job.evaluation
    if search_evaluation is None:
        return None
    before, after = search_evaluation.before, search_evaluation.after
    return (
        f"{search_evaluation.questions:,} questions: nDCG@10 {before.ndcg_10:.3f} → {after.ndcg_10:.3f}, "
        f"recall@5 {before.recall_5:.3f} → {after.recall_5:.3f}{'' if search_evaluation.better else ', not better'}"
    )


def _print(job: TuningJob) -> None:
    print_fields(
        [
            ("id", job.id),
            ("base", job.model),
            *fields_of(job, "app", "method", "store"),
            ("status", job.state),
            *fields_of(job, "error"),
            ("model", job.fine_tuned_model),
            ("held back", _measures(job)),
            ("step", job.progress),
            ("began", moment(job.created_at)),
            ("ended", moment(job.finished_at)),
            ("ends about", moment(job.estimated_finish)),
            ("trained tokens", job.trained_tokens),
            ("cost", None if job.cost is None else dollars(job.cost)),
            ("seed", job.seed),
            ("results", job.result_files),
        ]
    )
