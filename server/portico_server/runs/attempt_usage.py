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
    found, before, reported = run.usage, run.replayed, run.reported
    if reported is None:
        reported = before
    cost = found.cost
    if cost is not None:
        cost = max(0.0, cost - min(before.cost or 0.0, reported.cost or 0.0))
    used = Usage(
        max(0, found.prompt_tokens - min(before.prompt_tokens, reported.prompt_tokens)),
        max(0, found.completion_tokens - min(before.completion_tokens, reported.completion_tokens)),
        max(0, found.cached_tokens - min(before.cached_tokens, reported.cached_tokens)),
        cost,
    )
    if token_count(charged_so_far) > token_count(used):
        return replace(charged_so_far, cost=used.cost if charged_so_far.cost is None else charged_so_far.cost)
    return used
