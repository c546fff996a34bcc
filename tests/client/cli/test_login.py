"""Signing in from a terminal: the real command line, a real daemon and a real OpenID provider."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests import daemon as daemons
from tests.client.cli.terminal import COMMAND
from tests.oidc_issuers import Provider, provider
from tests.tui.terminal import terminal

import portico
from portico.cli.root import run

LIMIT = 60
"""Seconds after which a test gives up on a process."""

DUE_S = 50
"""Seconds until a sign-in expires: already due for renewal, and long enough for a busy machine."""

CLIENT = "portico-terminal"
OPERATOR = "the-operators-own-key"

CONFIGURATION = """
settings:
  oidc_issuer: {issuer}
  oidc_cli_client_id: {client}
  oidc_hosts: 127.0.0.1
roles:
  - {{name: staff, claim: groups, value: staff, scopes: [chat, "models:read"], limits: {{tokens_per_day: 5000}}}}
"""


@dataclass(frozen=True, slots=True)
class Company:
    """An issuer and two daemons whose users sign in from a terminal."""

    issuer: Provider
    url: str
    other: str


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    users = {"ada": {"groups": ["staff"], "preferred_username": "Ada"}, "bob": {}}
    with provider(users) as issuer:
        file = folder / "portico.yaml"
        file.write_text(CONFIGURATION.format(issuer=issuer.issuer, client=CLIENT))
        arguments = ("--file", str(file))
        env = {"PORTICO_API_KEY": OPERATOR}
        with (
            daemons.running(folder / "home", *arguments, env=env) as first_daemon,
            daemons.running(folder / "other", *arguments, env=env) as second_daemon,
        ):
            yield Company(issuer, first_daemon.url, second_daemon.url)


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a settings folder and a terminal."""

    company: Company
    folder: Path
    printed: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    @property
    def file(self) -> Path:
        return self.folder / "portico" / "sign-ins.json"

    def environment(self, **variables: str) -> dict[str, str]:
        defaults = {"XDG_CONFIG_HOME": str(self.folder), "PORTICO_URL": self.company.url, "NO_COLOR": "1"}
        return daemons.environment(**{**defaults, **variables})

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([*COMMAND, *arguments], text=True, env=self.environment(**variables), **pipes)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process."""
        self.printed.readouterr()
        with self.patch.context() as patch:
            patch.delenv("PORTICO_API_KEY", raising=False)
            for name, value in self.environment(**variables).items():
                patch.setenv(name, value)
            code = run(list(arguments))
        return subprocess.CompletedProcess(arguments, code, *self.printed.readouterr())

    def run_apart(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a separate process."""
        with self.start(*arguments, **variables) as process:
            out, err = process.communicate(timeout=LIMIT)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def sign_in(
        self, subject: str = "ada", *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Sign in as a device does: ``subject`` enters the displayed code. An empty ``subject`` refuses."""
        with self.start("login", *arguments, **variables) as process:
            prompt_text, code = read_until(process, r"enter the code (\S+)")
            httpx.post(f"{self.company.issuer.issuer}/device", data={"user_code": code, "sub": subject})
            out, err = process.communicate(timeout=LIMIT)
        return subprocess.CompletedProcess(arguments, process.returncode, out, prompt_text + err)

    def kept(self) -> dict[str, dict[str, Any]]:
        sign_ins: dict[str, dict[str, Any]] = json.loads(self.file.read_text())["sign_ins"]
        return sign_ins

    def change(self, **values: Any) -> None:
        """Change the stored sign-in of the first daemon, which was granted an hour ago."""
        rows = self.kept()
        rows[self.company.url] |= {"given_at": time.time() - 3_600, **values}
        self.file.write_text(json.dumps({"sign_ins": rows}))

    def grants(self) -> list[str]:
        """Return the grants requested from the issuer so far."""
        grant_types: list[str] = self.company.issuer.seen()["grants"]
        return grant_types


def read_until(process: subprocess.Popen[str], pattern: str) -> tuple[str, str]:
    """Return the standard error of a process up to the first match, and the match's first group."""
    assert process.stderr is not None
    output = ""
    for line in process.stderr:
        output += line
        if match := re.search(pattern, line):
            return output, match[1]
    raise AssertionError(f"it ended: {output}")


@pytest.fixture
def ada(
    company: Company, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Person:
    return Person(company, tmp_path, capsys, monkeypatch)


@pytest.mark.slow
def test_a_device_code_sign_in_is_used_by_commands_and_sdk_until_sign_out(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_out_result = ada.run("models", "list")
    assert signed_out_result.returncode == 1 and "portico login" in signed_out_result.stderr
    done = ada.sign_in()
    assert done.returncode == 0, done.stderr
    assert f"{ada.company.issuer.issuer}/device" in done.stderr
    assert done.stdout == f"Signed in at {ada.company.url} as Ada, role staff.\n"
    assert ada.run("models", "list").returncode == 0
    identity = json.loads(ada.run("whoami", "--json").stdout)
    assert (identity["name"], identity["role"], identity["by"], identity["subject"]) == (
        "Ada",
        "staff",
        "token",
        "ada",
    )
    assert identity["limits"] == {"tokens_per_day": 5000} and identity["expires_at"] > time.time()
    details = ada.run("whoami").stdout
    assert "staff" in details and "chat, models:read" in details and "tokens_per_day=5000" in details
    monkeypatch.setenv("XDG_CONFIG_HOME", str(ada.folder))
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)
    with portico.Client(ada.company.url) as client:
        assert client.whoami().name == "Ada"
    again = ada.run("login", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["changed"] is False
    refresh = ada.kept()[ada.company.url]["refresh_token"]
    out = json.loads(ada.run("logout", "--json").stdout)
    assert out == {"url": ada.company.url, "signed_out": True, "ended_at_issuer": True}
    assert refresh in ada.company.issuer.seen()["revoked"] and ada.kept() == {}
    assert ada.run("whoami").returncode == 1
    assert "Nobody was signed in" in ada.run("logout").stdout


@pytest.mark.slow
def test_the_tokens_are_in_a_file_for_this_user_alone(ada: Person) -> None:
    assert ada.sign_in().returncode == 0
    assert stat.S_IMODE(ada.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(ada.file.parent.stat().st_mode) == 0o700
    assert {path.name for path in ada.file.parent.iterdir()} == {"sign-ins.json", "sign-ins.lock"}
    ada.file.chmod(0o644)
    refusal = ada.run("whoami")
    assert refusal.returncode == 1 and "chmod 600" in refusal.stderr
    ada.file.chmod(0o600)
    ada.file.write_text("[]")
    refusal = ada.run("whoami", "--json")
    assert (
        refusal.returncode == 1
        and "does not contain sign-ins" in json.loads(refusal.stderr)["error"]["message"]
    )


@pytest.mark.slow
def test_an_api_key_takes_precedence_over_a_sign_in(ada: Person) -> None:
    done = ada.sign_in("ada", PORTICO_API_KEY=OPERATOR)
    assert done.returncode == 0 and "it takes precedence" in done.stderr
    assert json.loads(ada.run("whoami", "--json", PORTICO_API_KEY=OPERATOR).stdout)["name"] == "operator"
    assert json.loads(ada.run("--key", OPERATOR, "whoami", "--json").stdout)["name"] == "operator"
    wrong = ada.run("--key", "pk-wrong", "whoami")
    assert wrong.returncode == 1


def test_without_device_flow_the_sign_in_uses_a_local_browser(ada: Person, tmp_path: Path) -> None:
    issuer = ada.company.issuer
    address_file = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {address_file}\n')
    browser.chmod(0o755)
    issuer.behave(devices=False)
    try:
        with ada.start("login", "--json", BROWSER=str(browser)) as process:
            _, address = read_until(process, r"open (\S+)")
            parameters = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
            back = parameters["redirect_uri"]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", back)
            assert parameters["code_challenge_method"] == "S256" and parameters["client_id"] == CLIENT
            location = httpx.post(address, data={"sub": "ada"}).headers["location"]
            state = parameters["state"]
            for wrong in ("", "?code=x", "?code=x&state=y", "?code=x&state=y&iss=z"):
                assert httpx.get(back + wrong).status_code == 404
            assert httpx.post(location).status_code == 404
            answer = httpx.get(location)
            assert answer.status_code == 200 and state not in answer.text
            assert answer.headers["content-security-policy"] == "default-src 'none'"
            out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        assert json.loads(out)["name"] == "Ada"
        assert address_file.read_text() == address
        with pytest.raises(httpx.ConnectError):
            httpx.get(back)
    finally:
        issuer.behave(devices=True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("error=access_denied&state={state}&iss={issuer}", "You or the issuer declined: sign-in failed"),
        ("code=x&state={state}&iss=https://other.example", "The response came from another issuer"),
        ("code=x&state={state}", "The response came from another issuer"),
        ("code=x&state={state}&iss={issuer}", "invalid_grant"),
    ],
)
def test_an_invalid_browser_callback_fails_the_sign_in(ada: Person, answer: str, words: str) -> None:
    issuer = ada.company.issuer
    issuer.behave(devices=False)
    try:
        with ada.start("login", "--no-browser") as process:
            _, address = read_until(process, r"open (\S+)")
            parameters = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
            query = answer.format(state=parameters["state"], issuer=issuer.issuer)
            assert httpx.get(f"{parameters['redirect_uri']}?{query}").status_code == 200
            _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 1 and words in err, err
        assert "Traceback" not in err and not ada.file.exists()
    finally:
        issuer.behave(devices=True)


@pytest.mark.slow
def test_a_declined_or_roleless_sign_in_is_reported_and_stores_nothing(ada: Person) -> None:
    denied = ada.sign_in("")
    assert denied.returncode == 1 and "You or the issuer declined" in denied.stderr
    revocation_count = len(ada.company.issuer.seen()["revoked"])
    nobody = ada.sign_in("bob")
    assert nobody.returncode == 1 and "none of this daemon's roles" in nobody.stderr
    assert len(ada.company.issuer.seen()["revoked"]) == revocation_count + 1
    assert not ada.file.exists()


@pytest.mark.slow
def test_an_expired_device_code_is_reported(ada: Person) -> None:
    with ada.start("login") as process:
        _, code = read_until(process, r"enter the code (\S+)")
        ada.company.issuer.behave(forget_devices=True)
        _, err = process.communicate(timeout=LIMIT)
    assert code and process.returncode == 1 and "expired" in err


def test_ctrl_c_during_login_exits_with_130_and_stores_nothing(ada: Person) -> None:
    with ada.start("login") as process:
        read_until(process, r"enter the code (\S+)")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130 and "Traceback" not in err
    assert not ada.file.exists()


@pytest.mark.slow
def test_an_expiring_token_is_renewed_once_for_parallel_commands(ada: Person) -> None:
    assert ada.sign_in().returncode == 0
    sign_in_before = ada.kept()[ada.company.url]
    ada.change(expires_at=time.time() + DUE_S)
    renewals = ada.grants().count("refresh_token")
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: ada.run_apart("whoami", "--json"), range(6)))
    assert [process.returncode for process in done] == [0] * 6, [process.stderr for process in done]
    assert ada.grants().count("refresh_token") == renewals + 1
    sign_in_after = ada.kept()[ada.company.url]
    assert (
        sign_in_after["token"] != sign_in_before["token"]
        and sign_in_after["refresh_token"] != sign_in_before["refresh_token"]
    )


def test_a_token_that_the_daemon_refuses_is_renewed_once_and_the_call_repeated(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ada.sign_in().returncode == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", str(ada.folder))
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)
    ada.change(token="eyJhbGciOiJub25lIn0.e30.x")
    renewals = ada.grants().count("refresh_token")
    with portico.Client(ada.company.url) as client, ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: client.whoami().name, range(8)))
    assert names == ["Ada"] * 8
    assert ada.grants().count("refresh_token") == renewals + 1


@pytest.mark.slow
def test_a_revoked_sign_in_is_removed_and_the_user_can_sign_in_again(ada: Person) -> None:
    assert ada.sign_in().returncode == 0
    ada.company.issuer.forget("ada")
    ada.change(expires_at=time.time() - 10, refresh_token="gone")
    result = ada.run("whoami")
    assert result.returncode == 1 and f"portico --url {ada.company.url} login" in result.stderr
    assert ada.kept() == {}
    assert ada.sign_in().returncode == 0 and ada.run("whoami").returncode == 0


@pytest.mark.slow
def test_a_token_stays_valid_until_expiry_while_the_issuer_is_down(ada: Person) -> None:
    assert ada.sign_in().returncode == 0
    ada.company.issuer.behave(down=True)
    try:
        ada.change(expires_at=time.time() + DUE_S)
        assert ada.run_apart("whoami").returncode == 0
        ada.change(expires_at=time.time() - 10)
        away = ada.run_apart("whoami")
        assert away.returncode == 1 and "does not respond" in away.stderr
    finally:
        ada.company.issuer.behave(down=False)
    assert ada.run_apart("whoami").returncode == 0


@pytest.mark.slow
def test_without_renewed_id_tokens_a_sign_in_expires_with_the_first_token(ada: Person) -> None:
    assert ada.sign_in().returncode == 0
    ada.company.issuer.behave(id_tokens=False)
    try:
        ada.change(expires_at=time.time() + DUE_S)
        assert ada.run("whoami").returncode == 0
        ada.change(expires_at=time.time() - 1)
        assert "has ended" in ada.run("whoami").stderr
    finally:
        ada.company.issuer.behave(id_tokens=True)


@pytest.mark.slow
def test_each_daemon_needs_its_own_sign_in_and_a_new_one_needs_confirmation(ada: Person) -> None:
    assert ada.sign_in().returncode == 0
    other_variables = {"PORTICO_URL": ada.company.other}
    assert ada.run("whoami", **other_variables).returncode == 1  # the token is sent only to its own daemon
    result = ada.run("login", **other_variables)
    assert result.returncode == 1 and "Do you trust it?" in result.stderr and "--yes" in result.stderr
    assert ada.sign_in("ada", "--yes", **other_variables).returncode == 0
    assert set(ada.kept()) == {ada.company.url, ada.company.other}
    assert ada.run("logout").returncode == 0
    assert ada.run("whoami").returncode == 1 and ada.run("whoami", **other_variables).returncode == 0


def test_login_to_a_daemon_without_oidc_explains_the_required_setting(
    ada: Person, daemon: daemons.Daemon
) -> None:
    done = ada.run("login", PORTICO_URL=daemon.url)
    assert done.returncode == 1
    assert "oidc_cli_client_id" in done.stderr and "docs/security.md" in done.stderr
    assert json.loads(ada.run("whoami", "--json", PORTICO_URL=daemon.url).stdout)["by"] == "nothing"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_terminal_ui_uses_the_sign_in_and_reports_daemons_without_one(ada: Person) -> None:
    assert (await asyncio.to_thread(ada.sign_in)).returncode == 0
    ada.patch.setenv("XDG_CONFIG_HOME", str(ada.folder))
    ada.patch.delenv("PORTICO_API_KEY", raising=False)
    async with terminal(ada.company.url, size=(130, 30)) as screen:
        await screen.go("daemons")
        await screen.until(lambda: [row[1] for row in screen.rows("#rows")] == ["● answers"])
        for name, url in (("mine", ada.company.url), ("other", ada.company.other)):
            await screen.press("a")
            await screen.fill(name=name, url=url, key="")
            await screen.until(lambda name=name: screen.row("#rows", name))
        await screen.until(lambda: screen.row("#rows", "mine")[1] == "● answers")
        await screen.until(lambda: screen.row("#rows", "other")[1] == "✗ away")
        await screen.choose("#rows", "other")
        await screen.until(lambda: "portico login" in screen.text("#detail"))


@pytest.mark.slow
def test_the_mcp_bridge_uses_the_sign_in_and_reports_its_expiry(ada: Person) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }

    def greet() -> dict[str, Any]:
        with ada.start("mcp") as process:
            out, _ = process.communicate(json.dumps(hello) + "\n", timeout=LIMIT)
        response: dict[str, Any] = json.loads(out.splitlines()[0])
        return response

    assert ada.sign_in().returncode == 0
    assert greet()["result"]["serverInfo"]
    ada.change(expires_at=time.time() - 10, refresh_token="gone")
    assert "Sign in again" in greet()["error"]["message"]
