"""Following a site from the configuration, the command line, HTTP and the SDK, on a real daemon."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.client.cli.conftest import Command, command
from tests.daemon import Daemon
from tests.server.features.sources.site import Site, serving

from portico import Client
from portico.errors import InvalidRequest

__all__ = ["command"]

CONFIGURATION = """
models:
  - {{name: echo, source: "fake://", aliases: [default]}}
stores:
  - name: manual
    source: {url}/sitemap.xml
    embedding_model: ""
    description: What the site says
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as site:
        site.put("/port.html", "<h1>Ports</h1><p>The lighthouse listens on port 7419.</p>")
        site.put("/bread.txt", "Bread is baked at 230 degrees.", "text/plain")
        site.sitemap("/port.html")
        yield site


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    configuration = home / "test.yaml"
    configuration.write_text(CONFIGURATION.format(url=site.url), encoding="utf-8")
    env = {"PORTICO_TOOL_HOSTS": site.url.removeprefix("http://"), "PORTICO_S3_ACCESS_KEY": "some-key"}
    env["PORTICO_S3_SECRET_KEY"] = "very-secret"
    env["PORTICO_S3_ENDPOINT"] = site.url  # has no buckets
    with daemons.running(home / "data", "--file", str(configuration), env=env) as running:
        running.settle()
        yield running


def test_a_store_of_the_configuration_follows_a_site_and_answers(daemon: Daemon, site: Site) -> None:
    with Client(daemon.url) as client:
        store = client.stores.get("manual")
        assert (store.source, store.folder, store.app) == (f"{site.url}/sitemap.xml", None, True)
        assert client.search("manual", "Which port?").passages[0].filename == "port.html"


def test_the_follow_command_creates_a_store_and_changes_its_sources(command: Command, site: Site) -> None:
    creation = command("stores", "follow", "bakery", "--source", f"{site.url}/bread.txt", "--json")
    assert creation.code == 0, creation.err
    assert (creation.json["name"], creation.json["source"]) == ("bakery", f"{site.url}/bread.txt")
    assert creation.json["file_counts"]["completed"] == 1
    source_options = ("--source", f"{site.url}/bread.txt", "--source", f"{site.url}/port.html")
    change_result = command("stores", "follow", "bakery", *source_options)
    assert change_result.code == 0, change_result.err
    assert f"{site.url}/bread.txt and 1 more" in change_result.out
    assert command("stores", "sync", "bakery", "--dry-run", "--json").json["unchanged"] == 2
    error_result = command("stores", "follow", "bakery", "--source", "./docs")
    assert error_result.code == 1
    assert "cannot be followed" in error_result.err


def test_the_sdk_adds_changes_pauses_and_plans_followed_stores(daemon: Daemon, site: Site) -> None:
    with Client(daemon.url) as client:
        store = client.stores.add("listed", source=[f"{site.url}/bread.txt"])
        assert store.source == (f"{site.url}/bread.txt",)
        assert client.stores.change("listed", paused=True).paused
        updated_store = client.stores.change("listed", source=f"{site.url}/sitemap.xml")
        assert (updated_store.source, updated_store.paused) == (f"{site.url}/sitemap.xml", True)
        assert client.stores.plan("listed").added == ("port.html",)
        with pytest.raises(InvalidRequest, match="not both"):
            client.stores.add("torn", folder="/tmp", source="s3://bucket")


def test_no_secret_is_in_settings_stores_exports_or_logs(
    daemon: Daemon, command: Command, tmp_path: Path
) -> None:
    with Client(daemon.url) as client:
        client.stores.add("cloud", source="s3://library/docs")
        client.stores.export_archive("cloud", tmp_path / "cloud.zip")
    output = command("settings", "--json").out + command("stores", "list", "--json").out
    assert "s3://library/docs/" in output
    logs = "".join(path.read_text(errors="replace") for path in (daemon.home / "logs").rglob("*.log"))
    assert "very-secret" not in output + logs
    assert b"very-secret" not in (tmp_path / "cloud.zip").read_bytes()
