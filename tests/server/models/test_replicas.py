"""Replicas: several processes of one model, which replica gets a call, and what happens when a replica is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest

from portico.testing.model_fixture import ModelFixture, Streamed, model_fixture, user
from portico.wire import Event
from portico_server.core.errors import EngineFailed, InvalidRequest, TooMany
from portico_server.core.relay import Relay
from portico_server.models.deployment import Deployment
from portico_server.models.replicas import MAX_EXTRA_CALLS, ReplicaLease, ReplicaPool
from portico_server.models.spec import ModelSpec

SCRIPT = [{"match": "hang", "content": "one two", "hang": 1}, {"match": "crash", "content": "x", "crash": 0}]


async def add(models: ModelFixture, replicas: int | tuple[str, ...], **fields: Any) -> ReplicaPool:
    await models.models.add(
        ModelSpec("m", "fake://", parameters={"script": SCRIPT}, replicas=replicas, **fields), keep=False
    )
    model_deployment = models.registry.get("m")
    assert isinstance(model_deployment, Deployment)
    return model_deployment.pool


async def hold(models: ModelFixture, text: str = "hang") -> Any:
    """Return a stream that has started and does not end."""
    relayed = await models.relay("m", {"messages": user(text), "stream": True})
    async for chunk in relayed.chunks:
        if b"one" in chunk:
            return relayed.chunks
    raise AssertionError("the stream ended")


async def ignore(_event: Event) -> None:
    """Ignore the events of a run."""


def busy(fleet: ReplicaPool) -> list[int]:
    return [life.turns.calls for life in fleet.processes]


def chat(*messages: tuple[str, str]) -> Relay:
    return Relay(
        "chat/completions", {"messages": [{"role": role, "content": text} for role, text in messages]}
    )


async def test_calls_are_spread_evenly_over_replicas_and_each_is_listed(models: ModelFixture) -> None:
    fleet = await add(models, 3)
    await models.models.load("m")
    streams = [await hold(models, f"hang {number}") for number in range(6)]
    assert busy(fleet) == [2, 2, 2]
    info = models.models.get("m")
    assert info.state == "ready" and info.calls == 6 and info.starts == 3
    assert len({replica.pid for replica in info.replicas}) == 3
    assert info.memory_bytes == sum(replica.memory_bytes or 0 for replica in info.replicas)
    for chunks in streams:
        await chunks.aclose()
    assert busy(fleet) == [0, 0, 0]


async def test_a_single_process_is_not_listed_as_a_replica(models: ModelFixture) -> None:
    await add(models, 1)
    assert models.models.get("m").replicas == ()


async def test_a_conversation_stays_where_its_beginning_is_cached(models: ModelFixture) -> None:
    fleet = await add(models, 3)
    await models.models.load("m")
    conversation = chat(("system", "be brief"), ("user", "first question"))
    grown = chat(("system", "be brief"), ("user", "first question"), ("assistant", "a"), ("user", "b"))
    seat = fleet.enter(conversation)
    home = seat.process
    seat.leave()
    for number in range(5):  # other calls start and end meanwhile
        other_seat = fleet.enter(chat(("user", f"other {number}")))
        other_seat.leave()
    seat = fleet.enter(grown)
    assert seat.process is home
    seat.leave()


async def test_a_conversation_moves_on_when_its_process_is_much_busier(models: ModelFixture) -> None:
    fleet = await add(models, 2)
    await models.models.load("m")
    conversation = chat(("user", "popular"))
    seats = [fleet.enter(conversation) for _ in range(MAX_EXTRA_CALLS + 1)]
    home = seats[0].process
    assert {seat.process for seat in seats} == {home}, "up to the slack it stays"
    seats.append(fleet.enter(conversation))
    assert seats[-1].process is not home
    for seat in seats:
        seat.leave()


CHATS = [chat(("system", "be brief"), ("user", f"question {number}")) for number in range(200)]


async def pool_of(models: ModelFixture, *servers: str) -> ReplicaPool:
    """Return the pool of a model at servers that no call reaches."""
    sources = [f"http://{server}.invalid:8000/v1#m" for server in servers]
    spec = ModelSpec("-".join(servers), sources[0], replicas=tuple(sources[1:]))
    await models.models.add(spec, keep=False)
    model_deployment = models.registry.get(spec.name)
    assert isinstance(model_deployment, Deployment)
    return model_deployment.pool


def server_of(lease: ReplicaLease) -> str:
    return lease.process.spec.source.removeprefix("http://").partition(".")[0]


def homes(pool: ReplicaPool) -> list[str]:
    """Return the server of each chat."""
    servers = []
    for conversation in CHATS:
        lease = pool.enter(conversation)
        servers.append(server_of(lease))
        lease.leave()
    return servers


@pytest.mark.parametrize(
    ("servers", "changed_server"),
    [
        pytest.param("dbca", "", id="vllm-project/production-stack#916 servers in another order"),
        pytest.param("abcde", "e", id="vllm-project/production-stack#8 a server is added"),
        pytest.param("eabcd", "e", id="a server is added in front"),
        pytest.param("abc", "d", id="envoyproxy/envoy#22558 a server is removed"),
        pytest.param("bcd", "a", id="ray-project/ray#25864 the first server is removed"),
    ],
)
async def test_only_the_chats_of_a_changed_server_move(
    models: ModelFixture, servers: str, changed_server: str
) -> None:
    former, current = homes(await pool_of(models, *"abcd")), homes(await pool_of(models, *servers))
    moves = [(source, target) for source, target in zip(former, current, strict=True) if source != target]
    assert all(changed_server in move for move in moves)
    assert len(moves) == current.count(changed_server) + former.count(changed_server)
    assert all(current.count(server) > len(CHATS) / len(servers) / 2 for server in servers)


async def test_the_beginning_of_a_chat_decides_whatever_it_contains(models: ModelFixture) -> None:
    """inference-sim/inference-sim#259."""
    pool = await pool_of(models, *"abcd")
    contents: tuple[Any, ...] = ("text", "\ud800", None, [{"type": "text", "text": "part"}])
    for content in contents:
        messages = [{"role": "user", "content": content}]
        leases = [
            pool.enter(Relay("chat/completions", {"messages": [*messages, *later]}))
            for later in ([], user("b"), user("c") * 100)
        ]
        assert len({lease.process for lease in leases}) == 1
        for lease in leases:
            lease.leave()


async def test_chats_of_a_busy_server_go_to_the_same_second_server_and_return(models: ModelFixture) -> None:
    """zalando/skipper#1769, sgl-project/sglang#33625."""
    pool, other_pool = await pool_of(models, *"abcd"), await pool_of(models, *"cbad")
    for conversation in CHATS[:20]:
        leases = [pool.enter(conversation) for _ in range(MAX_EXTRA_CALLS + 2)]
        home, second_server = server_of(leases[0]), server_of(leases[-1])
        assert [server_of(lease) for lease in leases] == [home] * (MAX_EXTRA_CALLS + 1) + [second_server]
        assert second_server != home
        process = next(process for process in other_pool.processes if f"//{home}." in process.spec.source)
        other_pool.record_failure(process, EngineFailed("lost"))
        lease = other_pool.enter(conversation)
        assert server_of(lease) == second_server
        process.health.recover()
        for used_lease in (*leases, lease):
            used_lease.leave()
        lease = pool.enter(conversation)
        assert server_of(lease) == home
        lease.leave()


@pytest.mark.process
async def test_a_process_that_is_killed_comes_back_by_itself_and_nobody_waits_for_it(
    models: ModelFixture,
) -> None:
    fleet = await add(models, 2)
    await models.models.load("m")
    replica = fleet.processes[1]
    assert replica.pid is not None and replica.running is not None and replica.running.process is not None
    first, child = replica.pid, replica.running.process
    os.kill(first, signal.SIGKILL)
    await child.wait()
    answer = await models.ask("m", {"messages": user("hello")})
    assert answer["choices"][0]["message"]["content"] == "hello"
    assert replica.launch.task is not None, "the call that came next began its start"
    await replica.launch.task
    assert replica.pid not in (None, first) and (replica.slot.crashes, replica.slot.starts) == (1, 2)


async def test_a_crash_hits_the_calls_of_one_process_alone(models: ModelFixture) -> None:
    fleet = await add(models, 2)
    await models.models.load("m")
    stream = await hold(models)
    with pytest.raises(EngineFailed) as error_info:
        await models.ask("m", {"messages": user("crash")})
    assert error_info.value.code == "engine_crashed"
    assert sum(busy(fleet)) == 1, "the other one still answers"
    await stream.aclose()


async def test_replicas_beyond_the_memory_budget_fail_and_the_others_answer(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        fleet = await add(daemon, 3, memory_mb=300)
        await daemon.models.load("m")
        states = [life.state for life in fleet.processes]
        assert sorted(states) == ["failed", "ready", "ready"]
        failed_replica = next(
            replica for replica in daemon.models.get("m").replicas if replica.state == "failed"
        )
        assert "another process of 'm'" in (failed_replica.error or "") and "100 MB" in (
            failed_replica.error or ""
        )
        answers = await asyncio.gather(*(daemon.ask("m", {"messages": user(str(n))}) for n in range(8)))
        assert [answer["choices"][0]["message"]["content"] for answer in answers] == [
            str(n) for n in range(8)
        ]


async def test_an_additional_replica_evicts_no_other_model_but_yields_to_one(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await daemon.models.add(ModelSpec("other", "fake://", memory_mb=300), keep=False)
        await daemon.models.load("other")
        fleet = await add(daemon, 2, memory_mb=300)
        await daemon.models.load("m")
        assert daemon.models.get("other").state == "ready"
        assert [life.state for life in fleet.processes] == ["ready", "failed"]
        await daemon.models.unload("other")
        fleet.processes[1].launch.reset_failures()
        await daemon.models.load("m")
        assert [life.state for life in fleet.processes] == ["ready", "ready"]
        await daemon.models.load("other")
        assert sorted(life.state for life in fleet.processes) == ["cold", "ready"]


async def test_the_queue_limit_is_shared_by_all_replicas(models: ModelFixture) -> None:
    await add(models, 2, queue_limit=2)
    await models.models.load("m")
    streams = [await hold(models, f"hang {number}") for number in range(2)]
    with pytest.raises(TooMany) as error_info:
        await models.ask("m", {"messages": user("me too")})
    assert error_info.value.code == "queue_full" and error_info.value.retry_after
    for chunks in streams:
        await chunks.aclose()


async def test_a_remote_server_serves_as_an_additional_replica(tmp_path: Path) -> None:
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    async with model_fixture(tmp_path / "there") as remote_daemon:
        await remote_daemon.models.add(ModelSpec("theirs", "fake://"), keep=False)
        await remote_daemon.models.load("theirs")
        theirs = remote_daemon.registry.get("theirs")
        assert isinstance(theirs, Deployment) and theirs.running is not None
        assert theirs.running.process is not None
        endpoint = theirs.running.process.endpoint("theirs")
        async with model_fixture(tmp_path / "here") as daemon:
            fleet = await add(daemon, (f"{endpoint.url}#theirs",), api_key=endpoint.key)
            await daemon.models.load("m")
            assert [life.launch.kind.name for life in fleet.processes] == ["fake", "remote"]
            stream = await hold(daemon)
            answer = await daemon.ask("m", {"messages": user("over there")})
            assert answer["choices"][0]["message"]["content"] == "over there"
            assert theirs.process.turns.calls == 0 and fleet.processes[1].used_at is not None
            assert daemon.models.get("m").replicas[1].pid is None
            await stream.aclose()


async def test_a_call_moves_to_a_process_that_runs_when_its_own_does_not_start(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fleet = await add(models, ("remote://openai/gpt-4o",))  # has no key, so it never starts
    await models.models.load("m")
    local, remote = fleet.processes
    seat = ReplicaLease(fleet, remote)
    running = await seat.engine(ignore)
    assert seat.process is local and running is local.running
    seat.leave(running)
    assert busy(fleet) == [0, 0]


@pytest.mark.parametrize("replicas", [0, 65, True, ("",), (1,)])
def test_invalid_replica_settings_are_refused(replicas: Any) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        ModelSpec("m", "fake://", replicas=replicas)
    assert error_info.value.param == "replicas"


def test_a_spec_with_replicas_round_trips_through_json() -> None:
    for replicas in (3, ("http://h/v1#m",)):
        spec = ModelSpec("m", "fake://", replicas=replicas)
        assert ModelSpec.from_json(spec.to_json()) == spec
        assert orjson.loads(orjson.dumps(spec.to_json())) == spec.to_json()


async def test_a_stream_from_each_process_is_whole(models: ModelFixture) -> None:
    await add(models, 2)
    relayed = [await models.relay("m", {"messages": user(f"w{n}"), "stream": True}) for n in range(4)]
    streams = [await Streamed.of(stream) for stream in relayed]
    assert [stream.text() for stream in streams] == ["w0", "w1", "w2", "w3"] and all(
        stream.done for stream in streams
    )
