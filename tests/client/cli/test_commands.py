"""Every command against a real daemon: for people, and as one JSON document."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace

import pytest
from tests.client.cli.conftest import Command
from tests.client.cli.terminal import COMMAND
from tests.daemon import Daemon, environment

from portico import Client
from portico.cli.complete import engine_parameters
from portico.cli.follow import follow_here


@pytest.fixture(autouse=True)
def _indexed(command: Command) -> None:
    assert command("stores", "sync", "handbook", "--json").code == 0
    assert command("stores", "reindex", "handbook", "--files", "--json").code == 0


@pytest.mark.slow
def test_ask_writes_the_answer_and_then_its_citations(command: Command) -> None:
    done = command("ask", "Which port does the Lighthouse daemon listen on?")
    assert done.code == 0
    answer, _, passages = done.out.partition("\n\n[1] port.md · line ")
    assert "7419" in answer
    assert "listens on port 7419" in passages


def test_ask_as_json_holds_the_answer_and_the_citations(command: Command) -> None:
    answer = command("ask", "How hot is bread baked?", "--app", "handbook", "--json").json
    assert set(answer) == {"app", "answer", "citations", "nearest", "claims"}
    assert answer["citations"][0]["filename"] == "bread.txt"
    assert [item["number"] for item in answer["citations"]] == list(range(1, len(answer["citations"]) + 1))


def test_ask_reads_a_question_from_standard_input(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("How hot is bread baked?\n"))
    assert "bread.txt" in command("ask", "-", "--store", "handbook").out


def test_ask_of_a_store_without_an_app_says_what_to_do(command: Command) -> None:
    command("stores", "add", "--name", "plain", "--no-app")
    done = command("ask", "what?", "--store", "plain")
    assert (done.code, done.out) == (1, "")
    assert "portico search plain" in done.err
    assert command("stores", "remove", "plain", "--yes").code == 0


def test_the_reason_of_a_failed_sync_is_printed_once(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "passing"
    folder.mkdir()
    (folder / "note.md").write_text("Here today.")
    assert command("stores", "add", str(folder)).code == 0
    rmtree(folder)
    done = command("stores", "sync", "passing")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1 and str(folder) in done.err
    failure = json.loads(command("stores", "sync", "passing", "--json").err.splitlines()[-1])
    assert failure["error"]["code"] == "run_failed"
    assert command("stores", "remove", "passing", "--yes").code == 0


def test_errors_are_one_sentence_or_one_json_object(command: Command) -> None:
    done = command("ask", "what?", "--app", "nobody")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "nobody" in done.err
    assert "Traceback" not in done.err
    failure = json.loads(command("ask", "what?", "--app", "nobody", "--json").err)
    assert set(failure["error"]) == {"message", "type", "param", "code"}


def test_a_wrong_command_line_ends_with_2_and_a_suggestion(command: Command) -> None:
    done = command("sttores")
    assert done.code == 2
    assert "stores" in done.err
    for wrong, right in (("stores create", "add"), ("stores rm", "remove"), ("keys add", "create")):
        assert f"Did you mean '{right}'?" in command(*wrong.split()).err


def test_a_missing_daemon_is_reported_in_one_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("--url", "http://127.0.0.1:9", "status")
    assert done.code == 1
    assert "No Portico daemon responds at http://127.0.0.1:9; start it with `portico up`." in done.err


def test_open_shows_the_page_in_the_browser(daemon: Daemon, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)

    def opened(**variables: str) -> subprocess.CompletedProcess[str]:
        known_variables = environment(PORTICO_URL=daemon.url)
        variables = {
            **{name: known_variables[name] for name in known_variables.keys() - {"BROWSER", "DISPLAY"}},
            **variables,
        }
        return subprocess.run(
            [*COMMAND, "open", "--json"], env=variables, capture_output=True, text=True, check=True
        )

    page = f"{daemon.url}/"
    assert json.loads(opened(BROWSER=f"{browser} %s").stdout) == {"url": page, "opened": True}
    assert (tmp_path / "opened").read_text().strip() == page
    assert json.loads(opened(WAYLAND_DISPLAY="").stdout) == {"url": page, "opened": False}


def test_open_without_a_daemon_fails_with_one_sentence(command: Command) -> None:
    done = command("--url", "http://127.0.0.1:9", "open")
    assert (done.code, done.out) == (1, "")
    assert "No Portico daemon responds at http://127.0.0.1:9" in done.err


def test_search_prints_ranked_passages_and_explains_itself(command: Command) -> None:
    done = command("search", "handbook", "bread oven", "-n", "2", "--explain")
    assert done.out.startswith("[1] bread.txt")
    assert "\t" in done.out
    results = command("search", "handbook", "bread oven", "--json").json
    assert results["data"][0]["filename"] == "bread.txt"
    assert 0 < results["data"][0]["score"] <= 1


def test_chat_commands_switch_the_model_clear_the_history_and_exit(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/model echo\nfirst words\n/clear\n/what\n/exit\nnever\n"))
    done = command("chat")
    assert done.code == 0
    assert "Talking to echo." in done.out
    assert "first words" in done.out
    assert "Forgotten." in done.out
    assert "/exit leaves" in done.out
    assert "never" not in done.out


@pytest.mark.parametrize("line", ["/model fake-embedding", "/model nobody"])
def test_chat_refuses_to_switch_to_a_non_chat_or_unknown_model(
    command: Command, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n"))
    done = command("chat")
    assert done.code == 1
    model_names = done.err.partition("There are: ")[2]
    assert {"handbook", "echo", "default"} <= set(model_names.rstrip(".\n").split(", "))
    assert "embedding" not in model_names


def test_chat_with_a_non_chat_model_is_refused_at_start(command: Command) -> None:
    done = command("chat", "--model", "fake-embedding")
    assert (done.code, done.out) == (1, "")
    assert "'fake-embedding' is not a chat model" in done.err


def test_ask_uses_the_app_of_the_current_folder(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "attic"
    (folder / "boxes").mkdir(parents=True)
    (folder / "boxes" / "note.md").write_text("The lantern is in the blue box.")
    assert command("stores", "add", str(folder)).code == 0
    monkeypatch.chdir(folder / "boxes")
    answer = command("ask", "Where is the lantern?", "--json")
    assert (answer.err, answer.json["citations"][0]["filename"]) == ("", "boxes/note.md")
    assert "Asking 'attic'" in command("ask", "Where is the lantern?").err
    assert command("stores", "remove", "attic", "--yes").code == 0


def test_ask_uses_the_app_whose_documents_come_nearest(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "note.md").write_text("The lantern is in the blue box.")
    assert command("stores", "add", str(tmp_path / "attic")).code == 0
    assert command("stores", "add", "--name", "cellar").code == 0
    monkeypatch.chdir(tmp_path)
    assert command("ask", "Where is the lantern?", "--json").json["app"] == "attic"
    assert "Asking 'handbook', whose documents come nearest" in command("ask", "How hot is bread baked?").err
    for name in ("attic", "cellar"):
        assert command("stores", "remove", name, "--yes").code == 0


def test_chat_as_json_is_the_whole_conversation(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    conversation = command("chat", "--model", "echo", "--json").json
    assert conversation["model"] == "echo"
    assert [message["role"] for message in conversation["messages"]] == ["user", "assistant"] * 2
    assert conversation["messages"][3]["content"] == "two"


def test_a_store_is_added_from_a_folder_listed_shown_and_removed(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "soup.md").write_text("# Soup\n\nSimmer the leeks for an hour.\n", encoding="utf-8")
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4\n")
    store = command("stores", "add", str(folder), "--json").json
    assert (store["name"], store["app"], store["file_counts"]["completed"]) == ("recipes", True, 1)
    store_table = command("stores", "list").out
    assert "recipes\t1\t" in store_table
    assert "\tsync\trecipes\t" in command("runs", "list").out, "by the name of its store, not by the id"
    store_text = command("stores", "show", "recipes", "--files").out
    assert "empty.pdf\tskipped\tempty\n" in store_text and "reasons for failures" not in store_text
    assert "portico stores show recipes --files" in command("stores", "show", "recipes").out
    files = command("stores", "show", "recipes", "--files", "--json").json["files"]
    pieces = command("stores", "chunks", "recipes", "soup.md").out
    assert pieces.splitlines()[1].startswith("0\t0-37\tline 1")
    soup = next(item["id"] for item in files if item["filename"] == "soup.md")
    [first, *_] = command("stores", "chunks", "recipes", soup, "--json").json["data"]
    assert (first["number"], first["place"]["start"]) == (0, 0) and first["text"]
    assert (
        command("stores", "chunks", "recipes", soup, "--text").out
        == "# Soup\n\nSimmer the leeks for an hour.\n\n"
    )
    assert "leeks" in command("stores", "chunks", "recipes", soup, "--text", "--json").json["text"]
    assert "no file 'nothing.md'" in command("stores", "chunks", "recipes", "nothing.md").err
    assert "no group 'none'" in command("stores", "chunks", "recipes", soup, "--group", "none").err
    assert {item["filename"] for item in files} == {"soup.md", "broken.pdf"}
    assert "Asking 'recipes', whose documents come nearest" in command("ask", "leeks?").err
    assert command("stores", "remove", "recipes", "--dry-run").out.startswith("Would delete")
    refusal = command("stores", "remove", "recipes")
    assert refusal.code == 1
    assert "--yes" in refusal.err
    assert command("stores", "remove", "recipes", "--yes").out.startswith("Deleted")
    assert command("stores", "show", "recipes").code == 1
    assert (folder / "soup.md").exists()


def test_skipped_files_are_reported_with_their_reasons(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "attic"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"\x00\x01")
    (folder / "empty").touch()
    addition = command("stores", "add", str(folder))
    assert addition.code == 1
    assert "2 of 2 files: 1 empty, 1 of an unsupported format" in addition.out
    assert "a.bin\tof an unsupported format\n" in addition.out
    assert f"No file in {folder} could be read, so 'attic' is empty" in addition.err
    assert "no documents to search" in command("ask", "What is here?", "--app", "attic").out
    (folder / "note.md").write_text("The lantern is in the blue box.")
    synced = command("stores", "sync", "attic")
    assert synced.code == 0
    assert "empty\tempty\n" in synced.out
    store_text = command("stores", "show", "attic", "--files")
    assert (
        "note.md\tcompleted\t" in store_text.out
        and "a.bin\tskipped\tof an unsupported format\n" in store_text.out
    )
    store_data = command("stores", "show", "attic", "--files", "--json").json
    assert (
        store_data["store"]["skipped"]
        == store_data["skipped"]["reasons"]
        == {"empty": 1, "of an unsupported format": 1}
    )
    assert [item["name"] for item in store_data["skipped"]["files"]] == ["a.bin", "empty"]
    assert command("stores", "remove", "attic", "--yes").code == 0


def test_files_are_added_to_a_store_shown_and_removed(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "tea.txt"
    path.write_text("Green tea is brewed at eighty degrees.", encoding="utf-8")
    command("stores", "add", "--name", "drinks")
    [file_entry] = command("files", "add", str(path), "--store", "drinks", "--json").json["data"]
    assert file_entry["filename"] == "tea.txt"
    assert file_entry["id"] in command("files", "list").out
    assert "tea.txt" in command("files", "show", file_entry["id"]).out
    assert command("files", "remove", file_entry["id"], "--dry-run", "--json").json["removed"] is None
    assert command("files", "remove", file_entry["id"], "--yes").code == 0
    assert command("files", "show", file_entry["id"]).code == 1
    assert (
        f"The file '{tmp_path / 'gone'}' does not exist"
        in command("files", "add", str(tmp_path / "gone")).err
    )
    command("stores", "remove", "drinks", "--yes")


def test_a_model_is_added_loaded_aliased_unloaded_and_removed(command: Command) -> None:
    model_data = command("models", "add", "spare", "--source", "fake://", "--alias", "extra", "--json").json
    assert model_data["aliases"] == ["extra"]
    assert command("models", "load", "spare").code == 0
    assert "spare\tready" in command("ps").out
    assert command("models", "alias", "nick", "spare").out == "'nick' is now 'spare'.\n"
    assert "spare" in command("models", "show", "nick").out
    assert command("models", "unload", "spare", "--json").json["state"] == "cold"
    assert command("logs", "spare", "--json").json["data"] is not None
    assert "spare" in command("models", "list").out
    assert command("models", "remove", "spare", "--yes").code == 0
    assert command("models", "show", "spare").code == 1


def test_parameters_of_an_engine_are_given_changed_and_completed(command: Command) -> None:
    add = ("models", "add", "heavy", "--source", "hf://org/heavy", "--engine", "vllm")
    for parameter, error_text in (
        ("contxt_length=1", "Did you mean 'context_length'"),
        ("context_length=many", "must be an integer of at least 1"),
        ("memory_share=2", "at most 1"),
        ('arguments=["--port", "80"]', "--port, which is not one of the allowed options"),
        ("chat_template=/etc/passwd", "path of a template"),
        ("context_length", "expected NAME=VALUE"),
    ):
        refusal = command(*add, "--parameter", parameter)
        assert refusal.code == 1 and error_text in refusal.err.replace("\n", " "), parameter
    options = ("--parameter", "context_length=4096", "--parameter", "dtype=float16", "--python", "python3")
    assert command(*add, *options, "--json").json["context_length"] == 4096
    model_update = command(
        "models", "set", "heavy", "--parameter", "context_length=2048", "--parameter", "dtype=null", "--json"
    )
    assert model_update.json["context_length"] == 2048
    assert "no parameter 'dtyp'" in command("models", "set", "heavy", "--parameter", "dtyp=x").err
    assert command("models", "show", "heavy", "--json").json["context_length"] == 2048, "it stays as it was"
    assert command("models", "set", "heavy").code == 1
    assert "configuration" in command("models", "set", "default", "--parameter", "slots=1").err
    assert command("models", "set", "gone", "--parameter", "slots=1").code == 1

    given_so_far = SimpleNamespace(params={"name": "heavy", "engine": None})
    assert engine_parameters(given_so_far, "context") == ["context_length="]  # type: ignore[arg-type]  # as typer does
    command("models", "remove", "heavy", "--yes")


def test_a_keys_limits_are_given_and_listed(command: Command) -> None:
    limits = ("--limit", "tokens_per_day=100000", "--limit", "concurrency=2")
    key_data = command("keys", "create", "--name", "limited", "--scope", "chat", *limits, "--json").json
    assert key_data["limits"] == {"tokens_per_day": 100_000, "concurrency": 2}
    assert "tokens_per_day=100000" in command("keys", "list").out
    for wrong in ("tokens_per_day", "tokens_per_day=many", "token_per_day=5"):
        refusal = command("keys", "create", "--name", "x", "--scope", "chat", "--limit", wrong)
        assert refusal.code == 1 and "limit" in refusal.err
    assert (
        command("keys", "update", key_data["id"], "--scope", "models:read").out
        == "'limited' may: models:read.\n"
    )
    filter_update = command("keys", "update", key_data["id"], "--filter", "handbook:team=sales")
    assert filter_update.out.splitlines()[1:] == ["It can read handbook: team=sales."]
    assert command("keys", "update", key_data["id"], "--no-filters", "--json").json["filters"] == {}
    for wrong in ((), ("--no-filters", "--filter", "a:b=c")):
        assert "--no-filters" in command("keys", "update", key_data["id"], *wrong).err
    limit_update = command("keys", "update", key_data["id"], "--limit", "requests_per_minute=5")
    assert limit_update.out.splitlines()[1:] == ["It is limited to requests_per_minute=5."]
    conflict = command("keys", "update", key_data["id"], "--no-limits", "--limit", "concurrency=1")
    assert conflict.code == 1 and "Use either --limit or --no-limits" in conflict.err
    assert command("keys", "update", key_data["id"], "--no-limits", "--json").json["limits"] == {}
    command("keys", "revoke", key_data["id"], "--yes")


def test_a_keys_filters_are_given_listed_and_shown(command: Command) -> None:
    json_filter = '{"type": "in", "key": "lang", "value": ["en", "de"]}'
    filters = ("handbook:team=sales", "handbook:level<=2", f"notes:{json_filter}", "*:draft!=true")
    filter_options = [word for text in filters for word in ("--filter", text)]
    key_data = command(
        "keys", "create", "--name", "sales", "--scope", "stores:*:read", *filter_options, "--json"
    ).json
    assert key_data["filters"] == {
        "handbook": {
            "type": "and",
            "filters": [
                {"type": "eq", "key": "team", "value": "sales"},
                {"type": "lte", "key": "level", "value": 2},
            ],
        },
        "notes": {"type": "in", "key": "lang", "value": ["en", "de"]},
        "*": {"type": "ne", "key": "draft", "value": True},
    }
    assert "handbook: team=sales and level<=2" in command("keys", "list").out
    details = command("keys", "show", "sales").out
    assert 'notes: lang in ["en", "de"]' in details and "stores:*:read" in details
    assert command("keys", "show", key_data["id"], "--json").json["filters"] == key_data["filters"]
    for wrong, error_text in (
        ("team=sales", "is not a filter"),
        ("handbook:team", "is not a filter"),
        ("handbook:{", "is not JSON"),
        ('handbook:{"type": "eq"}', "needs 'key'"),
    ):
        refusal = command("keys", "create", "--name", "x", "--scope", "chat", "--filter", wrong)
        assert refusal.code == 1 and error_text in refusal.err
    assert "There is no key" in command("keys", "show", "nobody").err
    command("keys", "revoke", key_data["id"], "--yes")


def test_a_model_with_replicas_shows_each_of_them(command: Command) -> None:
    model_data = command("models", "add", "twins", "--source", "fake://", "--replicas", "2", "--json").json
    assert len(model_data["replicas"]) == 2
    assert command("models", "load", "twins").code == 0
    rows = [line.split("\t") for line in command("ps").out.splitlines()]
    at = next(number for number, row in enumerate(rows) if row[0] == "twins")
    assert [row[0].strip() for row in rows[at + 1 : at + 3]] == ["1", "2"]
    assert len({row[3] for row in rows[at + 1 : at + 3]}) == 2, "a process each"
    assert "process 2" in command("models", "show", "twins").out
    command("models", "remove", "twins", "--yes")


def test_keys_are_shown_once_and_revoked(command: Command) -> None:
    creation = command("keys", "create", "--name", "phone", "--scope", "chat", "--scope", "stores:*:read")
    secret = creation.out.strip()
    assert secret.startswith("pk-")
    key_table = command("keys", "list")
    assert "chat, stores:*:read" in key_table.out
    assert secret not in key_table.out
    assert command("--key", secret, "settings").code == 1
    identity = command("keys", "list", "--json").json["data"][0]["id"]
    assert command("keys", "revoke", identity, "--yes").code == 0
    assert command("keys", "list").out.startswith("No keys yet")
    assert "There is no key" in command("keys", "revoke", identity, "--yes").err


def test_runs_are_listed_shown_and_tailed(command: Command) -> None:
    runs = command("runs", "list", "--json").json["data"]
    sync = next(run["id"] for run in runs if run["kind"] == "sync")
    assert "completed" in command("runs", "show", sync).out
    assert "\tfinished\t" in command("runs", "tail", sync).out
    events = command("runs", "tail", sync, "--json").json["data"]
    assert events[-1]["type"] == "finished"
    assert command("runs", "cancel", sync, "--json").json["status"] == "completed"
    first, second = command("runs", "list", "--limit", "2", "--json").json["data"]
    next_page = command("runs", "list", "--after", first["id"], "--json").json["data"]
    assert next_page[0]["id"] == second["id"]


def test_following_runs_ignores_an_expired_run_id(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        sync = next(run.id for run in client.runs.list() if run.kind == "sync")
    [outcome] = follow_here(daemon.url, None, ["run_forgotten", sync])
    assert (outcome.run.id, outcome.error) == (sync, None)


def test_tools_take_pairs_or_one_document(command: Command) -> None:
    assert "search\t" in command("tools", "list").out
    done = command("tools", "call", "search", "store=handbook", "query=bread", "max_num_results=1")
    assert "230" in done.out
    document = '{"store": "handbook", "query": "bread"}'
    assert command("tools", "call", "search", "--arguments", document, "--json").json["is_error"] is False
    assert command("tools", "call", "search", "store=nowhere", "query=x").code == 1
    assert "is not NAME=VALUE" in command("tools", "call", "search", "store").err


def test_a_failed_pull_prints_the_error_of_its_run(command: Command) -> None:
    done = command("pull", "file:///nowhere/model.gguf")
    assert done.code == 1
    assert "/nowhere/model.gguf" in done.err


def test_status_apps_version_and_settings_print_text_and_json(command: Command, daemon: Daemon) -> None:
    assert daemon.url in command("status").out
    assert command("status", "--json").json["url"] == daemon.url
    assert command("apps", "list").out.splitlines()[1].startswith("handbook\t")
    assert command("apps", "list", "--json").json["data"][0]["name"] == "handbook"
    assert command("version", "--json").json["daemon"]
    assert command("version").out.startswith("client")
    assert "\nport\t" in command("settings").out
    assert command("settings", "--json").json["data"][0]["origin"]
    assert command("--version").out.startswith("portico ")


def test_settings_are_known_without_a_daemon(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_PORT", "4321")
    done = command("--url", "http://127.0.0.1:9", "settings", "--json")
    port = next(row for row in done.json["data"] if row["name"] == "port")
    assert (port["value"], port["origin"]) == (4321, "environment")
    monkeypatch.setenv("PORTICO_PORT", "many")
    assert "PORTICO_PORT" in command("--url", "http://127.0.0.1:9", "settings").err


def test_model_output_cannot_control_the_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("zebra \x1b]0;owned\x07 \u202e bell \U0001f469\u200d\U0001f680\n")
    )
    done = command("chat", "--model", "echo")
    assert done.out == "zebra  ]0;owned    bell \U0001f469\u200d\U0001f680\n"


def test_models_plan_accepts_a_textual_gpu_memory_and_core_specification(command: Command) -> None:
    plan = command("models", "plan", "default", "--gpu", "2 x A100 80GB", "--memory", "512", "--json").json
    assert plan["hardware"] == "8 cores, 512 GB memory, 2 × NVIDIA A100 (80 GB)"
    small = command("models", "plan", "default", "--memory", "4", "--cores", "2", "--json").json
    assert small["hardware"] == "2 cores, 4 GB memory" and small["fits"]
    unknown = command("models", "plan", "default", "--gpu", "2 x A10G0")
    assert unknown.code != 0 and "Did you mean 'A10G'" in unknown.err
    conflict = command("models", "plan", "default", "--hardware", "rtx4090", "--cores", "4")
    assert conflict.code != 0 and "omit --gpu, --memory and --cores" in conflict.err


def test_models_show_reports_the_engine_and_context_of_the_plan(command: Command, tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096, **sizes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 1000)
    options = ("--source", str(tmp_path), "--engine", "vllm", "--parameter", "context_length=512")
    assert command("models", "add", "named", *options).code == 0
    details = command("models", "show", "named").out
    assert "vllm" in details and "512 tokens" in details and "vLLM was requested." in details
    assert "transformers" not in details and "4096" not in details
    assert command("models", "remove", "named", "--yes").code == 0


def test_stored_chats_are_listed_shown_and_forgotten(command: Command, daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        chat_options = {"store": True, "metadata": {"topic": "tea"}}
        client.chat("Tea for two.", model="echo", extra_body=chat_options).read()
        [stored_chat] = command("chats", "list", "--label", "topic=tea", "--json").json["data"]
        assert stored_chat["metadata"] == {"topic": "tea"}
        assert stored_chat["id"] in command("chats", "list", "--model", "echo").out
        assert "No stored chats." in command("chats", "list", "--label", "topic=coffee").out
        details = command("chats", "show", stored_chat["id"]).out
        assert "Tea for two." in details
        assert client.chats.change(stored_chat["id"], {"topic": "chai"}).metadata == {"topic": "chai"}
        assert [message["content"] for message in client.chats.messages(stored_chat["id"])] == [
            "Tea for two."
        ]
        assert command("chats", "delete", stored_chat["id"], "--yes").code == 0
        assert command("chats", "show", stored_chat["id"]).code == 1


def test_a_large_file_is_uploaded_in_parts_and_can_be_resumed(
    command: Command, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(daemon.url) as client:
        monkeypatch.setattr("portico.cli.files.MIN_PARTED_BYTES", 10)
        monkeypatch.setattr("portico._sync.knowledge.PART_BYTES", 8)
        path = tmp_path / "large.txt"
        path.write_text("twenty-one characters")
        file_data = command("files", "add", str(path), "--json").json["data"][0]
        assert (file_data["bytes"], client.files.content(file_data["id"])) == (21, path.read_bytes())
        upload = client.files.begin_upload(path)
        again = command("files", "add", str(path), "--resume", upload.id, "--json").json["data"][0]
        assert client.files.content(again["id"]) == path.read_bytes()
        for file in (file_data, again):
            client.files.remove(file["id"])
        refusal = command("files", "add", str(path), str(path), "--resume", upload.id)
        assert (refusal.code, "--resume" in refusal.err) == (1, True)
