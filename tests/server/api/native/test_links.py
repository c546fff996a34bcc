"""Links of a store over HTTP, the SDK and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from tests import daemon as daemons
from tests.server.features.readers.documents import write_files
from typer.testing import CliRunner

from portico import Client
from portico.cli.root import app as cli
from portico.errors import InvalidRequest, NotFound

DOCUMENTS = {
    "lamp.md": "# The Orlix lamp\n\nIt was built by Harwick Works. See [the works](works.md).",
    "works.md": "# Harwick Works\n\nMara Velling set it up with money of an uncle.",
    "bread.md": "# Bread\n\nBread is baked hot.",
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[daemons.Daemon]:
    folder = tmp_path_factory.mktemp("links")
    docs = write_files(folder / "docs", DOCUMENTS)
    file = folder / "portico.yaml"
    file.write_text(f"stores: [{{name: docs, folder: '{docs}', links: true, search: {{steps: auto}}}}]\n")
    with daemons.running(folder / "home", "--file", str(file)) as running:
        running.settle()
        with Client(running.url) as client:
            client.stores.wait("docs")
        yield running


def test_a_configuration_gives_a_store_links_which_searches_follow(daemon: daemons.Daemon) -> None:
    with Client(daemon.url) as client:
        assert client.stores.get("docs").links
        results = client.search("docs", "Who built the Orlix lamp?", trace=True)
        assert "links" in {stage.name for stage in results.trace}
        plain = client.search("docs", "Who built the Orlix lamp?", trace=True, links=False)
        assert "links" not in {stage.name for stage in plain.trace}


def test_linked_neighbours_of_a_passage_are_found_by_chunk_number_or_position(daemon: daemons.Daemon) -> None:
    with Client(daemon.url) as client:
        results = client.search("docs", "Orlix lamp", trace=True)
        [stage] = [stage for stage in results.trace if stage.name == "links"]
        first = results.passages[0]
        assert first.filename == "lamp.md"
        beside = client.stores.neighbours("docs", chunk=stage.candidates[0][0])
        assert {item.filename for item in beside.passages} == {"works.md"}
        assert client.stores.neighbours("docs", file=first.file_id, start=first.place.start) == beside
        for position in ({"chunk": 10**6}, {"file": "file-none"}):
            with pytest.raises(NotFound):
                client.stores.neighbours("docs", **position)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            client.stores.neighbours("nothing", chunk=1)
    with httpx.Client(base_url=daemon.url) as http:
        for query in ("", "?chunk=1&file=x", "?chunk=0", "?chunk=1&limit=101", "?chunk=99999999999999999999"):
            answer = http.get(f"/api/stores/docs/links{query}")
            assert answer.status_code == 400, query
            assert answer.json()["error"]["param"], query


def test_the_command_line_lists_neighbours_and_writes_the_graph(
    daemon: daemons.Daemon, tmp_path: Path
) -> None:
    run = CliRunner()
    with Client(daemon.url) as client:
        file = client.search("docs", "Orlix lamp").passages[0].file_id
    result = run.invoke(cli, ["--url", daemon.url, "stores", "links", "docs", "--file", file])
    assert result.exit_code == 0, result.output
    assert "harwick works" in result.stdout and "works.md" in result.stdout, result.stdout
    out = tmp_path / "links.graphml"
    assert run.invoke(cli, ["--url", daemon.url, "stores", "graph", "docs", str(out)]).exit_code == 0
    assert ElementTree.parse(out).getroot().tag.endswith("graphml")
    assert run.invoke(cli, ["--url", daemon.url, "stores", "graph", "docs", str(out)]).exit_code != 0


def test_link_requests_are_refused_until_a_store_enables_links(daemon: daemons.Daemon) -> None:
    with Client(daemon.url) as client:
        client.stores.add("plain", app=False)
        with pytest.raises(InvalidRequest) as error_info:
            client.search("plain", "anything", links=True)
        assert error_info.value.code == "links_off"
        with pytest.raises(InvalidRequest):
            client.stores.neighbours("plain", chunk=1)
        assert client.stores.change("plain", links=True).links
        client.stores.remove("plain")


def test_a_multi_step_search_works_over_http_sdk_and_command_line(daemon: daemons.Daemon) -> None:
    question = "Where did the money of the company that built the Orlix lamp come from?"
    with Client(daemon.url) as client:
        assert client.stores.get("docs").search == {"steps": "auto"}  # as configured
        search_results = client.search("docs", question, steps=4, trace=True)
        assert [stage.name for stage in search_results.trace if stage.name.startswith("step (")][:2] == [
            "step (1)",
            "step (2)",
        ]
        with pytest.raises(InvalidRequest):
            client.search("docs", question, steps=7)
        store = client.stores.change("docs", search={"steps": 2, "max_calls": 1})
        assert store.search == {"steps": 2, "max_calls": 1}
        with pytest.raises(InvalidRequest) as error_info:
            client.stores.change("docs", search={"stpes": 2})
        assert error_info.value.param == "search.stpes" and "steps" in str(error_info.value)
    shell = CliRunner()
    command_result = shell.invoke(
        cli,
        ["--url", daemon.url, "search", "docs", question, "--steps", "3", "--explain"],
        env={"COLUMNS": "200"},
    )
    assert command_result.exit_code == 0, command_result.output
    assert "step (2)" in command_result.output
    change_result = shell.invoke(cli, ["--url", daemon.url, "stores", "change", "docs", "--steps", "auto"])
    assert change_result.exit_code == 0, change_result.output
    with Client(daemon.url) as client:
        assert client.stores.get("docs").search == {"steps": "auto", "max_calls": 1}
    response = httpx.post(
        f"{daemon.url}/v1/chat/completions",
        json={"model": "docs", "messages": [{"role": "user", "content": question}]},
        timeout=60,
    )
    assert response.status_code == 200, response.text
