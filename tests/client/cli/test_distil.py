"""`portico distil` and `Client.distillations` against a daemon. tests/server/distil tests what a distillation does."""

from __future__ import annotations

from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client


def test_a_small_model_is_distilled_and_shown(command: Command, daemon: Daemon) -> None:
    assert command("models", "add", "large", "--source", "fake://").code == 0
    assert command("models", "add", "small", "--source", "fake://").code == 0
    assert command("models", "alias", "desk", "large").code == 0
    shown = command("distil", "show", "desk")
    assert shown.code == 1 and "portico distil 'desk' --onto" in shown.err
    refused = command("distil", "desk", "--onto", "small")
    assert refused.code == 1 and "at least 50" in refused.err
    # Both models echo, so the small model agrees with the large one from the start.
    with Client(daemon.url) as client:
        for number in range(60):
            client.chat(f"Ticket {number}", "desk", store=True).read()
        assert command("distil", "desk", "--onto", "small", "--weight", "1", "--epochs", "1").code == 0
        client.chat("Ticket 61", "desk").read()
        client.chat("Ticket 62", "large").read()
        found = client.distillations.get("desk")
    assert (found.training, found.held_back, found.calls, found.local_calls) == (42, 18, 1, 1)
    shown = command("distil", "show", "desk")
    assert "42 to train on, 18 held back" in shown.out and "1, of which ft:small" in shown.out
    assert "the larger model has no known price" in shown.out
    assert command("distil", "show", "desk", "--json").json["agreement"] == 1
