"""`portico distil` and `Client.distillations` against a daemon.

tests/server/features/distil tests what a distillation does.
"""

from __future__ import annotations

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client


@pytest.mark.slow
def test_a_small_model_is_distilled_and_shown(command: Command, daemon: Daemon) -> None:
    assert command("models", "add", "large", "--source", "fake://").code == 0
    assert command("models", "add", "small", "--source", "fake://").code == 0
    assert command("models", "alias", "desk", "large").code == 0
    details = command("distil", "show", "desk")
    assert details.code == 1 and "portico distil 'desk' --onto" in details.err
    refusal = command("distil", "desk", "--onto", "small")
    assert refusal.code == 1 and "at least 50" in refusal.err
    # Both models echo, so the small model agrees with the large one from the start.
    with Client(daemon.url) as client:
        for number in range(60):
            client.chat(f"Ticket {number}", "desk", store=True).read()
        assert command("distil", "desk", "--onto", "small", "--weight", "1", "--epochs", "1").code == 0
        client.chat("Ticket 61", "desk").read()
        client.chat("Ticket 62", "large").read()
        distillation = client.distillations.get("desk")
    assert (distillation.training, distillation.held_back, distillation.calls, distillation.local_calls) == (
        42,
        18,
        1,
        1,
    )
    details = command("distil", "show", "desk")
    assert "42 to train on, 18 held back" in details.out and "1, of which ft:small" in details.out
    assert "the larger model has no known price" in details.out
    assert command("distil", "show", "desk", "--json").json["agreement"] == 1
