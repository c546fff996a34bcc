"""What an attempt of a run counts for."""

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
    """What this attempt has used. What it took from the journal counts once: here if no earlier attempt could say so,
    because the daemon was killed. What the calls of models have cost its key counts though the result does not say it,
    such as of a turn that was cut off, and of the vector of a question.
    """
    charged_so_far = run.charge.usage
    if run.replayed is NO_USAGE and run.status == "completed" and charged_so_far is NO_USAGE:  # as many a run
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
