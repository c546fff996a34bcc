"""`portico containers` against a daemon.

tests/server/features/sandbox/test_containers.py tests code that runs in containers.
"""

from __future__ import annotations

from pathlib import Path

from tests.client.cli.conftest import Command


def test_a_file_of_a_container_is_named_by_its_path_or_its_id(command: Command, tmp_path: Path) -> None:
    assert command("containers", "list").out == "No containers: portico containers create NAME\n"
    container = command("containers", "create", "analysis").out.strip()
    for name in ("table.csv", "notes.txt"):
        (tmp_path / name).write_text(f"in {name}")
        assert command("containers", "put", container, str(tmp_path / name)).code == 0
    container_data = command("containers", "show", container, "--json").json
    ids = {file["path"]: file["id"] for file in container_data["files"]}
    local_file = tmp_path / "saved"
    for file_name in ("table.csv", "/work/table.csv", ids["/work/table.csv"]):
        local_file.unlink(missing_ok=True)
        assert command("containers", "get", container, file_name, "--to", str(local_file)).code == 0
        assert local_file.read_text() == "in table.csv"
    wrong = command("containers", "get", container, "tabel.csv")
    assert wrong.code == 1 and f"portico containers show {container}" in wrong.err
    removal = command("containers", "remove", container, "--file", "table.csv", "--yes")
    assert removal.out == "Removed /work/table.csv of 'analysis'.\n"
    assert "notes.txt" in command("containers", "show", container).out
    assert command("containers", "get", container, "table.csv").code == 1
    assert command("containers", "remove", container, "--yes").out == "Removed 'analysis'.\n"
