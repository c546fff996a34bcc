"""`portico doctor` reports what works and what to do about the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.client.cli.conftest import Command

from portico._installed import how_to_add
from portico.cli.doctor import disk_finding, key_finding, proxy_findings, python_finding


def test_doctor_reports_ok_for_python_daemon_and_home(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path / "new" / "home"))
    done = command("doctor", "--json")
    states = {row["name"]: row["state"] for row in done.json["data"]}
    assert done.code == 0
    assert (states["python"], states["daemon"], states["home"]) == ("ok", "ok", "ok")
    assert not (tmp_path / "new").exists()


def test_doctor_fails_on_an_unusable_home_and_suggests_portico_home(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path / "file" / "home"))
    done = command("doctor")
    assert done.code == 1
    assert "fail\thome\t" in done.out
    assert "set PORTICO_HOME" in done.out


def test_without_a_daemon_the_port_is_looked_at(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path))
    monkeypatch.setenv("PORTICO_PORT", "0")
    done = command("--url", "http://127.0.0.1:9", "doctor")
    assert "ok\tport\t" in done.out
    assert "warn\tdaemon\tNo Portico daemon" in done.out


def test_settings_that_are_wrong_are_a_finding(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_PORT", "many")
    done = command("doctor")
    assert done.code == 1
    assert "fail\tsettings\tPORTICO_PORT is 'many'" in done.out


def test_an_old_python_and_a_full_disk_are_found() -> None:
    assert python_finding((3, 10)).state == "fail"
    assert python_finding((3, 13)).state == "ok"
    assert disk_finding(1_000_000).state == "warn"
    assert "1.0 MB" in disk_finding(1_000_000).message


def test_doctor_warns_about_a_proxy_that_would_receive_local_requests() -> None:
    assert list(proxy_findings({"PATH": "/bin"})) == []
    [finding] = proxy_findings({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"})
    assert finding.state == "warn" and "export NO_PROXY=localhost,127.0.0.1,::1" in finding.message
    [finding] = proxy_findings({"https_proxy": "http://proxy:3128", "no_proxy": "localhost,127.0.0.1"})
    assert finding.state == "ok"


@pytest.mark.parametrize(
    ("values", "daemon_runs", "state", "words"),
    [
        ({"host": "127.0.0.1"}, True, "ok", "requests through a proxy get 401"),
        ({"host": "0.0.0.0"}, True, "ok", "every request needs a key"),
        ({"host": "localhost", "require_key": True}, True, "ok", "every request needs a key"),
        ({"host": "::1", "public_url": "https://a.example"}, True, "ok", "every request needs a key"),
        ({"host": "::1", "public_url": "https://a.example"}, False, "warn", "starts only with a key"),
        ({"host": "::1", "public_url": "https://a.example", "api_key": "(set)"}, False, "ok", "needs a key"),
        ({"host": "127.0.0.1", "trust_local_proxy": True}, True, "warn", "the proxy must authenticate"),
        (
            {"host": "127.0.0.1", "public_url": "https://a.example", "trust_local_proxy": True},
            True,
            "warn",
            "the proxy must authenticate",
        ),
    ],
)
def test_doctor_reports_whether_requests_need_a_key(
    values: dict[str, Any], daemon_runs: bool, state: str, words: str
) -> None:
    finding = key_finding(values, daemon_runs=daemon_runs)
    assert (finding.state, words in finding.message) == (state, True), finding


def test_doctor_reads_the_key_requirement_from_the_running_daemon(command: Command) -> None:
    rows = command("doctor", "--json").json["data"]
    assert [row["state"] for row in rows if row["name"] == "keys"] == ["ok"]


def test_without_ocr_the_command_that_installs_it_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = command("doctor", "--json").json["data"]
    [finding] = [row for row in rows if row["name"] == "OCR"]
    assert finding["state"] == "warn"
    assert how_to_add("ocr") in finding["message"]
