"""The usage of one attempt of a run."""

from __future__ import annotations

from dataclasses import replace

from portico.wire import (
    Usage,
)
from portico_server.runs.model_calls import NO_USAGE
from portico_server.runs.run import Run


def token_count(usage: Usage) -> int:
    """Return the tokens of the prompts and of the answers together."""
    return usage.prompt_tokens + usage.completion_tokens


def attempt_usage(run: Run) -> Usage:
    """Return the usage of this attempt.

    Work restored from the journal counts only once: it counts in this attempt if no earlier attempt could report it,
    because the daemon was killed. Model calls that were charged to the key count even if they are not in the result,
    such as the calls of an interrupted turn and the embedding of a question.
    """
    charged_so_far = run.charge.usage
    if (
        run.replayed is NO_USAGE and run.status == "completed" and charged_so_far is NO_USAGE
    ):  # as in most runs
        return run.usage
    found_usage, before, reported_usage = run.usage, run.replayed, run.reported
    if reported_usage is None:
        reported_usage = before
    cost = found_usage.cost
    if cost is not None:
        cost = max(0.0, cost - min(before.cost or 0.0, reported_usage.cost or 0.0))
    usage = Usage(
        max(0, found_usage.prompt_tokens - min(before.prompt_tokens, reported_usage.prompt_tokens)),
        max(
            0, found_usage.completion_tokens - min(before.completion_tokens, reported_usage.completion_tokens)
        ),
        max(0, found_usage.cached_tokens - min(before.cached_tokens, reported_usage.cached_tokens)),
        cost,
    )
    if token_count(charged_so_far) > token_count(usage):
        return replace(
            charged_so_far, cost=usage.cost if charged_so_far.cost is None else charged_so_far.cost
        )
    return usage
