"""`portico canaries` and `Client.canaries` against a daemon. tests/server/features/canaries tests which caller
gets which side.
"""

from __future__ import annotations

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import AsyncClient, Conflict, InvalidRequest


async def test_a_canary_is_set_shown_promoted_and_rolled_back(command: Command, daemon: Daemon) -> None:
    for name in ("steady", "fresh"):
        assert command("models", "add", name, "--source", "fake://").code == 0
    assert command("models", "alias", "helper", "steady").code == 0
    assert "No canaries yet" in command("canaries", "list").out
    for arguments in ((), ("--promote", "after=2")):
        details = command("canaries", "set", "helper", "fresh", *arguments)
        assert details.code == 1 and "--weight 0.1" in details.err and "--key NAME" in details.err
    rule = ("--promote", "after=2", "--promote", "max_error_rate=0.5", "--rollback", "max_error_rate=0.9")
    refusal = command("canaries", "set", "helper", "fresh", "--weight", "0.25", *rule)
    assert refusal.out.strip() == "helper: fresh gets 25.0% of the calls, steady the rest."
    wrong = command("canaries", "set", "helper", "fresh", "--weight", "1", "--promote", "after")
    assert wrong.code == 1 and "NAME=NUMBER" in wrong.err
    canary = command("canaries", "show", "helper")
    assert "canary calls: 0 of 2" in canary.out and "after=2, max_error_rate=0.5" in canary.out
    assert "rolled back" in command("canaries", "rollback", "helper", "--reason", "Not now").out
    # The rule promotes the canary.
    assert command("canaries", "set", "helper", "fresh", "--weight", "1", *rule).code == 0
    async with AsyncClient(daemon.url) as client:
        for _ in range(2):
            assert "hello" in "".join([piece async for piece in client.chat("hello", model="helper")])
        result_canary = await client.canaries.get("helper")
        assert (result_canary.status, result_canary.canary.calls, result_canary.canary.error_rate) == (
            "promoted",
            2,
            0,
        )
        assert result_canary.journal[0].figures["canary"]["calls"] == 2
        with pytest.raises(Conflict):
            await client.canaries.promote("helper")
        with pytest.raises(InvalidRequest):
            await client.canaries.set("helper", "steady", weight=2)
        assert [entry.status for entry in await client.canaries.history("helper")] == [
            "promoted",
            "rolled_back",
        ]
    [canary_row] = command("canaries", "list", "--json").json["data"]
    assert canary_row["reason"].startswith("2 canary calls")
    lines = command("canaries", "history", "helper").out
    assert "Not now" in lines and "promoted" in command("canaries", "list").out
