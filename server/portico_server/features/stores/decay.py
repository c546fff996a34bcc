"""Scores that decay with age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from portico_server.core.errors import InvalidRequest
from portico_server.features.stores.search_candidate import SearchCandidate, order_candidates

_DAY_S = 86_400.0


def decay_scores(
    candidates: Sequence[SearchCandidate], half_life_days: float, by: str, now: float
) -> list[SearchCandidate]:
    """Halve each score for every ``half_life_days`` of age at ``now`` (seconds since 1970).

    The attribute ``by`` contains the time from which the age is measured, as seconds since 1970 or an ISO 8601 date.
    If ``by`` is empty or the file has no such attribute, the age is measured from the time the file was added to the
    store. Raises `InvalidRequest` for any other value of the attribute.
    """
    search_candidates = []
    for item in candidates:
        value = item.row.attributes.get(by) if by else None
        since = item.row.created_at if value is None else _parse_time(value, by, item.row.filename)
        age = max(0.0, now - since) / _DAY_S
        search_candidates.append(replace(item, score=item.score * 0.5 ** (age / half_life_days)))
    return order_candidates(search_candidates)


def _parse_time(value: str | float | bool, by: str, filename: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidRequest(
            f"'{by}' of {filename} is '{value}', which is not a valid time. Use seconds since 1970 or a date "
            "such as 2026-11-20.",
            param="decay_by",
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
