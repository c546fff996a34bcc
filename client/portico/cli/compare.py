"""`portico compare`: compares two models, graded against expected answers or by a judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.progress import Spinner
from portico.cli.render import one_line, print_json, print_rows, shorten
from portico.cli.session import AsJson, connected
from portico.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from portico.client import Client

app = typer.Typer()

WIDTH = 48
"""Maximum length of an answer in the table, in characters."""

_VERDICT = {
    "type": "object",
    "properties": {"better": {"type": "string", "enum": ["A", "B", "neither"]}},
    "required": ["better"],
    "additionalProperties": False,
}


class Grader(StrEnum):
    """How answers are graded: whether they equal or contain the expected answer, or which answer a judge prefers."""

    exact = "exact"
    contains = "contains"
    judge = "judge"


@dataclass(frozen=True, slots=True)
class ComparedPrompt:
    """A conversation that both models answer, and the expected answer if the file has one."""

    messages: Sequence[Mapping[str, Any]]
    expected: str | None = None

    @property
    def question(self) -> str:
        """The last message."""
        return str(self.messages[-1].get("content") or "")


@dataclass(frozen=True, slots=True)
class Compared:
    """A prompt, both answers, and their scores: 1, 0, or 0.5 for a draw; ``None`` if the answers cannot be graded."""

    prompt: str
    expected: str | None
    base: str
    tuned: str
    base_score: float | None
    tuned_score: float | None


@app.command(
    epilog="Example: portico compare default ft:default:portico:faq:1 --prompts held-back.jsonl --promote default"
)
def compare(
    context: typer.Context,
    base: Annotated[str, typer.Argument(help="The existing model.")],
    tuned: Annotated[str, typer.Argument(help="The model that should be better.")],
    prompts: Annotated[
        Path,
        typer.Option(
            help="Chat examples as JSON lines, or one question per line.", exists=True, dir_okay=False
        ),
    ],
    grader: Annotated[Grader, typer.Option(help="How answers are graded.")] = Grader.contains,
    judge: Annotated[
        str | None, typer.Option(help="The model that judges; it sees both answers twice, in both orders.")
    ] = None,
    promote: Annotated[
        str | None,
        typer.Option(help="Point this alias to the second model if it is better.", metavar="ALIAS"),
    ] = None,
    at_least: Annotated[
        float, typer.Option(help="Minimum average score of the second model for promotion.", min=0, max=1)
    ] = 0.5,
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens per answer.", min=1)] = 256,
    as_json: AsJson = False,
) -> None:
    """Ask two models the same questions and compare their answers. Exit code 1 if --promote is set and the second
    model is not better.
    """
    grader = Grader.judge if judge else grader
    if grader is Grader.judge and not judge:
        raise InvalidRequest("Choose the judge: --judge MODEL.", param="judge")
    compared_prompts = list(read_prompts(prompts))
    rows: list[Compared] = []
    with connected(context) as client, Spinner("Comparing") as spinner:
        for number, prompt in enumerate(compared_prompts, 1):
            spinner.say(f"Comparing {number} of {len(compared_prompts)}")
            rows.append(_compare_one(client, prompt, (base, tuned), grader, judge or "", max_tokens))
        before, after = average(row.base_score for row in rows), average(row.tuned_score for row in rows)
        better = before is not None and after is not None and after > before and after >= at_least
        if promote and better:
            client.models.alias(promote, tuned)
    if as_json:
        print_json(
            {
                "data": rows,
                "base": before,
                "tuned": after,
                "promoted": promote if promote and better else None,
            }
        )
    else:
        _print(rows, (base, tuned), (before, after))
    if promote and not better:
        raise Conflict(
            f"'{promote}' was not changed: '{tuned}' scored {_share(after)}, '{base}' {_share(before)}. It "
            f"must score higher, and at least {at_least:.0%}.",
            code="not_better",
        )
    if promote and not as_json:
        typer.echo(f"'{promote}' is now '{tuned}'.")


def read_prompts(path: Path) -> Iterator[ComparedPrompt]:
    """Yield the prompts in a file.

    A line is a chat example (its last answer is the expected one), an object with ``prompt`` and ``expected``, or a
    plain question. Raises `InvalidRequest` with the number of an invalid line.
    """
    has_found = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            has_found = True
            yield _prompt(line.strip(), number)
    if not has_found:
        raise InvalidRequest(f"{path} contains no prompts.", param="prompts")


def _prompt(line: str, number: int) -> ComparedPrompt:
    if not line.startswith("{"):
        return ComparedPrompt([{"role": "user", "content": line}])
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"Line {number} is not JSON: {error}.", param="prompts") from error
    messages = document.get("messages")
    if isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages):
        last = messages[-1]
        if last.get("role") == "assistant" and len(messages) > 1:
            return ComparedPrompt(messages[:-1], str(last.get("content") or ""))
        return ComparedPrompt(messages, document.get("expected"))
    if isinstance(document.get("prompt"), str):
        return ComparedPrompt([{"role": "user", "content": document["prompt"]}], document.get("expected"))
    raise InvalidRequest(f"Line {number} has neither 'messages' nor 'prompt'.", param="prompts")


def score(grader: Grader, reply: str, expected_answer: str | None) -> float | None:
    """Return the score of an answer, or ``None`` if no answer is expected."""
    if expected_answer is None:
        return None
    answer, expected_text = reply.strip(), expected_answer.strip()
    return float(answer == expected_text if grader is Grader.exact else expected_text in answer)


def average(scores: Iterator[float | None]) -> float | None:
    """Return the average of the scores that are not ``None``."""
    known_scores = [score for score in scores if score is not None]
    return sum(known_scores) / len(known_scores) if known_scores else None


def _compare_one(
    client: Client,
    prompt: ComparedPrompt,
    models: tuple[str, str],
    grader: Grader,
    judge: str,
    max_tokens: int,
) -> Compared:
    first, second = (
        client.chat(prompt.messages, model, temperature=0, max_tokens=max_tokens).read().text
        for model in models
    )
    if grader is Grader.judge:
        share = (
            1
            + _verdict(client, judge, prompt, first, second)
            - _verdict(client, judge, prompt, second, first)
        ) / 2
        scores: tuple[float | None, float | None] = (share, 1 - share)
        if 0 < share < 1:
            scores = (0.5, 0.5)  # the order decided
    else:
        scores = (score(grader, first, prompt.expected), score(grader, second, prompt.expected))
    return Compared(prompt.question, prompt.expected, first, second, *scores)


def _verdict(client: Client, judge: str, prompt: ComparedPrompt, first: str, second: str) -> float:
    """Ask the judge to compare two answers. Return 0.5 if the first is better, -0.5 if the second is, otherwise 0."""
    reference = f"\n\nThe right answer is:\n{prompt.expected}" if prompt.expected else ""
    text = (
        f"Which answer is better?\n\nQuestion:\n{prompt.question}{reference}"
        f"\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}"
        '\n\nReply with JSON: {"better": "A"}, {"better": "B"} or {"better": "neither"}.'
    )
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": _VERDICT}}
    reply = client.chat(text, judge, temperature=0, max_tokens=20, response_format=form).read().text
    try:
        return {"A": 0.5, "B": -0.5}.get(json.loads(reply)["better"], 0.0)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"The judge '{judge}' returned no verdict: {shorten(reply, 80)}", code="no_verdict", param="judge"
        ) from error


def _print(
    rows: Sequence[Compared], models: tuple[str, str], scores: tuple[float | None, float | None]
) -> None:
    print_rows(
        ("PROMPT", *models, "BETTER"),
        (
            (shorten(row.prompt, WIDTH), shorten(row.base, WIDTH), shorten(row.tuned, WIDTH), _better(row))
            for row in rows
        ),
    )
    for model, earned_score in zip(models, scores, strict=True):
        typer.echo(f"{one_line(model)}: {_share(earned_score)}")


def _better(row: Compared) -> str:
    if row.base_score is None or row.tuned_score is None or row.base_score == row.tuned_score:
        return "=" if row.base_score is not None else ""
    return "second" if row.tuned_score > row.base_score else "first"


def _share(earned_score: float | None) -> str:
    return "no expected answers" if earned_score is None else f"{earned_score:.0%}"
