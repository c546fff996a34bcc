"""The usage of keys and apps with limits, which several daemons on one PostgreSQL count together.

Each key or app has a row, and one statement claims requests, reports tokens and calls in progress, and returns what
is used. The table is unlogged, so no statement waits for a disk. After a crash of the server the table is empty, and
each daemon adds the usage that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from portico_server.core.limits import UsageLimits

if TYPE_CHECKING:
    import asyncpg

SILENT_S: Final = 5.0
"""Seconds without a report after which the calls in progress of another daemon no longer count."""

CREATE_LOCK_CODE: Final = 8_642_002
"""The advisory lock under which the table is created."""

STATEMENT_TIMEOUT_S: Final = 2.0
"""Maximum seconds for a statement. Calls wait for it."""

_PREPARE = f"""
set plan_cache_mode = force_generic_plan; -- planning a claim takes five times as long as executing it
begin;
select pg_advisory_xact_lock({CREATE_LOCK_CODE});
set local client_min_messages = warning;
create unlogged table if not exists usage_meters (
    id text primary key,
    requests float8 not null,
    tokens float8 not null,
    tokens_per_minute int8,
    day int8 not null,
    day_tokens int8 not null,
    calls jsonb not null,
    counted_at float8 not null
);
commit
"""
# ``requests`` and ``tokens`` are used at ``counted_at`` and recover evenly; ``calls`` maps daemons to their number of
# calls in progress and the time of their report. All times are in seconds since 1970 by the server's clock.

_ADD = """
insert into usage_meters
select id, requests, tokens, null, floor(now / 86400), day_tokens, '{}', now
from unnest($1::text[], $2::float8[], $3::float8[], $4::int8[]) as new(id, requests, tokens, day_tokens),
    (select extract(epoch from clock_timestamp())::float8 as now) as clock
on conflict do nothing
"""

_CLAIM = """
with claim as (
    select * from unnest(
        $2::text[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[]
    ) as claim(id, running, calls, requests, tokens, max_calls, max_requests, max_tokens, max_day_tokens)
), locked as (
    select meter.* from usage_meters as meter join claim using (id) order by id for update of meter
), timed as (
    select *, greatest(counted_at, extract(epoch from clock_timestamp())::float8) as now from locked
), level as (
    select
        claim.*,
        now,
        floor(now / 86400)::int8 as today,
        greatest(0, least(timed.requests, max_requests) - (now - counted_at) * max_requests / 60.0)
            as used_requests,
        greatest(0, -- usage above a new limit is not carried over
            case when tokens_per_minute is distinct from max_tokens then least(timed.tokens, max_tokens)
                else timed.tokens end
            - (now - counted_at) * max_tokens / 60.0
        ) + claim.tokens as used_tokens,
        case when day = floor(now / 86400) then day_tokens else 0 end + claim.tokens as used_day_tokens,
        other.*
    from claim join timed using (id), lateral (
        select
            coalesce(sum((value->>0)::int8), 0)::int8 as elsewhere,
            coalesce(jsonb_object_agg(key, value), '{}') as reports
        from jsonb_each(timed.calls) where key <> $1 and (value->>1)::float8 > now - $11::float8
    ) as other
), room as (
    select *, greatest(0, least(
        calls + requests,
        floor(max_requests - used_requests + 1e-6),
        case when used_tokens > max_tokens - 1 then 0 end,
        case when used_day_tokens >= max_day_tokens then 0 end
    ))::int8 as room from level
), called as (
    select *, greatest(0, least(calls, room, max_calls - running - elsewhere)) as called from room
), granted as (
    select *, least(requests, room - called) as requested from called
)
update usage_meters as meter set
    requests = used_requests + called + requested,
    tokens = used_tokens,
    tokens_per_minute = max_tokens,
    day = today,
    day_tokens = used_day_tokens,
    calls = case when running + called = 0 or max_calls is null then reports
        else reports || jsonb_build_object($1::text, jsonb_build_array(running + called, now)) end,
    counted_at = now
from granted where meter.id = granted.id
returning meter.id, called, requested, meter.requests, meter.tokens, meter.day_tokens, elsewhere
"""


class UsageClaim(NamedTuple):
    """What a daemon reports and claims for a key or app.

    ``running`` is its number of calls in progress, ``calls`` and ``requests`` are claimed, and ``tokens`` were used
    since its last claim. A call is also a request.
    """

    id: str
    limits: UsageLimits
    running: int
    calls: int
    requests: int
    tokens: int


class UsageReading(NamedTuple):
    """The usage of a key or app by all daemons: requests and tokens of the current minute, and tokens of the day."""

    requests: float
    tokens: float
    day_tokens: int


class Grant(NamedTuple):
    """The granted part of a claim, and the usage after it. ``elsewhere`` is the number of calls in progress on other
    daemons.
    """

    calls: int
    requests: int
    usage: UsageReading
    elsewhere: int


async def prepare(connection: asyncpg.Connection[Any]) -> None:
    """Prepare a connection for claims, and create the table if it is missing."""
    await connection.execute(_PREPARE, timeout=STATEMENT_TIMEOUT_S)


async def claim(
    connection: asyncpg.Connection[Any], daemon: str, claims: Sequence[UsageClaim]
) -> Mapping[str, Grant]:
    """Claim for a daemon; return what is granted, by id. An id without a row is missing in the result."""
    rows = [
        (
            *(row.id, row.running, row.calls, row.requests, row.tokens, row.limits.concurrency),
            *(row.limits.requests_per_minute, row.limits.tokens_per_minute, row.limits.tokens_per_day),
        )
        for row in claims
    ]
    columns = zip(*rows, strict=True)
    records = await connection.fetch(_CLAIM, daemon, *columns, SILENT_S, timeout=STATEMENT_TIMEOUT_S)
    return {
        record["id"]: Grant(
            record["called"],
            record["requested"],
            UsageReading(record["requests"], record["tokens"], record["day_tokens"]),
            record["elsewhere"],
        )
        for record in records
    }


async def add(connection: asyncpg.Connection[Any], readings: Mapping[str, UsageReading]) -> None:
    """Add rows for ids that have none."""
    columns = zip(*((name, *reading) for name, reading in readings.items()), strict=True)
    await connection.execute(_ADD, *columns, timeout=STATEMENT_TIMEOUT_S)


async def remove(connection: asyncpg.Connection[Any], ids: Sequence[str]) -> None:
    """Remove the rows of keys and apps that no longer have limits."""
    await connection.execute("delete from usage_meters where id = any($1)", ids, timeout=STATEMENT_TIMEOUT_S)
