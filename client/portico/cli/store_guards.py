"""`portico stores guards`: questions that guard a store, and decisions about changes that turn answers wrong."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.json_lines import read_objects
from portico.cli.nouns import ID, print_listing, print_outcome, print_removed
from portico.cli.render import one_line, print_fields, print_json, print_rows, shorten
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import NotFound
from portico.schemas.resource import Column
from portico.schemas.store_guards import GuardQuestion, ReviewedPassage, StoreReview

app = typer.Typer(
    no_args_is_help=True,
    help="Questions whose answers a change of the store's files must not lose.",
    epilog="Example: portico stores guards import docs questions.jsonl",
)

PASSAGE_WIDTH = 60
"""Number of characters that a review shows of a passage."""

SAME_WORDS = 3
"""Number of equal words that a review shows before the first difference of two passages."""

MAX_SENT_QUESTIONS = 100
"""Number of questions in one request."""

Store = Annotated[str, typer.Argument(help="The name or id of the store.")]


@app.command("list", epilog="Example: portico stores guards list docs")
def show_all(context: typer.Context, store: Store, as_json: AsJson = False) -> None:
    """List the guard questions of a store, and whether each answer was among the hits of the last search."""
    with connected(context) as client:
        questions = client.stores.guards(store)
    columns = (ID, Column("PASSES"), Column("QUESTION", width=60), Column("FILE"), Column("FACTS"))
    print_listing(questions, as_json, columns, "No guard questions yet: portico stores guards add --help")


@app.command(
    epilog="Example: portico stores guards add docs 'When does it open?' --file hours.md --passage 'opens at six'"
)
def add(
    context: typer.Context,
    store: Store,
    question: Annotated[str, typer.Argument(help="The question.")],
    file: Annotated[str, typer.Option(help="The name of the file that answers it.")] = "",
    passage: Annotated[str, typer.Option(help="The text of the file that answers it.")] = "",
    fact: Annotated[
        list[str] | None, typer.Option(help="A text that the hits must contain (repeatable).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a guard question to a store, with its expected passage or facts."""
    item = {"question": question, "file": file, "passage": passage, "facts": fact or []}
    with connected(context) as client:
        [added_question] = client.stores.add_guards(store, [item])
    answer = "is" if added_question.passes else "is not"
    print_outcome(
        added_question, as_json, f"Added {added_question.id}. Its answer {answer} among the first ten hits."
    )


@app.command("import", epilog="Example: portico stores guards import docs questions.jsonl")
def import_questions(
    context: typer.Context,
    store: Store,
    file: Annotated[
        Path,
        typer.Argument(
            help="A file with one JSON object per line: question, file and passage, or facts. Or the items of an "
            "evaluation with these fields."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Add guard questions from a file."""
    items = [_question(item) for item in read_objects(file, "questions")]
    added_questions: list[GuardQuestion] = []
    with connected(context) as client:
        for start in range(0, len(items), MAX_SENT_QUESTIONS):
            added_questions += client.stores.add_guards(store, items[start : start + MAX_SENT_QUESTIONS])
    failing_count = sum(not question.passes for question in added_questions)
    text = f"Added {len(added_questions)} questions. The hits lack the answers to {failing_count} of them."
    print_outcome({"data": added_questions}, as_json, text)


@app.command(epilog="Example: portico stores guards remove docs guard_1 --yes")
def remove(
    context: typer.Context,
    store: Store,
    question: Annotated[str, typer.Argument(help="The id of the question.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove a guard question."""
    with connected(context) as client:
        row = next((item for item in client.stores.guards(store) if item.id == question), None)
        if row is None:
            raise NotFound(f"The store '{store}' has no guard question '{question}'.", param="question")
        subject = f"the guard question '{shorten(row.question, 60)}'"
        if may_remove(f"Remove {subject}?", yes=yes, dry_run=dry_run):
            client.stores.remove_guard(store, question)
    print_removed(question, subject, dry_run, as_json)


@app.command(epilog="Example: portico stores guards review docs")
def review(context: typer.Context, store: Store, as_json: AsJson = False) -> None:
    """Show the last check of a change: the questions whose answers it turns wrong, with both passages."""
    with connected(context) as client:
        _print_review(client.stores.review(store), as_json)


@app.command(epilog="Example: portico stores guards accept docs")
def accept(context: typer.Context, store: Store, as_json: AsJson = False) -> None:
    """Accept the change that a store holds, so that searches use it."""
    with connected(context) as client:
        _print_review(client.stores.accept_change(store), as_json)


@app.command(epilog="Example: portico stores guards reject docs")
def reject(context: typer.Context, store: Store, as_json: AsJson = False) -> None:
    """Reject the change that a store holds. A store that follows a source is paused: correct the source, then resume
    the store.
    """
    with connected(context) as client:
        _print_review(client.stores.reject_change(store), as_json)


def _question(item: dict[str, Any]) -> dict[str, Any]:
    """Return a question from a line of a file: an item of an evaluation can have further fields."""
    inner = item.get("item")
    if not isinstance(inner, dict):
        return item
    return {name: inner[name] for name in ("question", "file", "passage", "facts") if name in inner}


def _print_review(store_review: StoreReview, as_json: bool) -> None:
    if as_json:
        print_json(store_review)
        return
    print_fields(
        [
            ("state", store_review.state),
            ("new files", ", ".join(store_review.new_files)),
            ("old files", ", ".join(store_review.old_files)),
            ("questions", f"{store_review.questions}, {store_review.searched} of them searched"),
        ]
    )
    rows = [
        (shorten(item.question, 40), *differing_passages(item.present_passage, item.new_passage))
        for item in store_review.wrong
    ]
    if rows:
        typer.echo()
        print_rows(("TURNED WRONG", "BEFORE", "AFTER"), rows)
    for question in store_review.unjudged:
        typer.echo(one_line(f"Not judged: {question.question}: {question.reason}"))


def differing_passages(
    present_passage: ReviewedPassage | None, new_passage: ReviewedPassage | None
) -> tuple[str, str]:
    """Return both passages with their file names, each as `PASSAGE_WIDTH` characters around the first difference."""
    texts = ["" if passage is None else passage.text for passage in (present_passage, new_passage)]
    present_words, new_words = (text.split() for text in texts)
    pairs = zip(present_words, new_words, strict=False)
    same_count = sum(1 for _pair in takewhile(lambda pair: pair[0] == pair[1], pairs))
    start = 0
    if len(" ".join(present_words[:same_count])) >= PASSAGE_WIDTH // 2:
        start = max(0, same_count - SAME_WORDS)
    beginning = "… " if start else ""
    present_text, new_text = (
        ""
        if passage is None
        else f"{passage.filename}: {shorten(beginning + ' '.join(words[start:]), PASSAGE_WIDTH)}"
        for passage, words in ((present_passage, present_words), (new_passage, new_words))
    )
    return present_text, new_text
