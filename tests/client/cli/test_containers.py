"""`portico containers` against a daemon. tests/server/tools/test_containers.py tests code that runs in containers."""

from __future__ import annotations

from pathlib import Path

from tests.client.cli.conftest import Command


def test_a_file_of_a_container_is_named_by_its_path_or_its_id(command: Command, tmp_path: Path) -> None:
    assert command("containers", "list").out == "No containers: portico containers create NAME\n"
    container = command("containers", "create", "analysis").out.strip()
    for name in ("table.csv", "notes.txt"):
        (tmp_path / name).write_text(f"in {name}")
        assert command("containers", "put", container, str(tmp_path / name)).code == 0
    shown = command("containers", "show", container, "--json").json
    ids = {file["path"]: file["id"] for file in shown["files"]}
    saved = tmp_path / "saved"
    for named in ("table.csv", "/work/table.csv", ids["/work/table.csv"]):
        saved.unlink(missing_ok=True)
        assert command("containers", "get", container, named, "--to", str(saved)).code == 0
        assert saved.read_text() == "in table.csv"
    wrong = command("containers", "get", container, "tabel.csv")
    assert wrong.code == 1 and f"portico containers show {container}" in wrong.err
    removed = command("containers", "remove", container, "--file", "table.csv", "--yes")
    assert removed.out == "Removed /work/table.csv of 'analysis'.\n"
    assert "notes.txt" in command("containers", "show", container).out
    assert command("containers", "get", container, "table.csv").code == 1
    assert command("containers", "remove", container, "--yes").out == "Removed 'analysis'.\n"
