"""`portico runs prune`: prints what it would remove, asks, and removes."""

from __future__ import annotations

from tests.client.cli.conftest import Command


def test_prune_says_what_it_would_remove_and_removes_it(command: Command) -> None:
    prune_plan = command("runs", "prune", "--days", "0", "--dry-run", "--json").json
    assert prune_plan["dry_run"] and prune_plan["runs"] >= 1
    assert command("runs", "prune", "--days", "0", "--dry-run").out.startswith("Would remove ")
    assert command("runs", "list", "--json").json["data"]
    refusal = command("runs", "prune", "--days", "0")
    assert refusal.code == 1 and "--yes" in refusal.err
    done = command("runs", "prune", "--days", "0", "--yes")
    assert done.code == 0 and done.out.startswith(f"Removed {prune_plan['runs']} runs")
    assert command("runs", "prune", "--days", "0", "--dry-run", "--json").json["runs"] == 0


def test_prune_without_an_age_keeps_recent_runs(command: Command) -> None:
    assert command("runs", "prune", "--dry-run", "--json").json["runs"] == 0
