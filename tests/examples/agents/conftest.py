"""A daemon whose models act as the five programs, and a small web in which they look things up."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import ROOT, Daemon
from tests.examples.agents.site import serving
from tests.server.features.sandbox.conftest import ENVIRONMENTS

from portico import Client
from portico_server.features.sandbox import namespace
from portico_server.features.sandbox.environment import Environment

PROGRAMS = ROOT / "docs" / "examples" / "agents"

GDP = {2020: 14.69, 2021: 17.82, 2022: 17.88, 2023: 17.79, 2024: 18.74}
"""Trillions of US dollars by year, as the page of the small web states them."""

CHART = (
    "import matplotlib.pyplot as plt\n"
    f"plt.plot({list(GDP)}, {list(GDP.values())}, marker='o')\n"
    "plt.title('GDP of China')\nplt.show()"
)

PROJECTION = """
from math import gcd
for top in (2 * 1, 2 * -3):
    print(f"{top // gcd(top, 10)}/{10 // gcd(top, 10)}")
"""


def coder() -> list[dict[str, Any]]:
    """Return the script of a coder: a mistake, then code that runs, then the answer."""
    return [
        {"match": r"projection of", "content": "Divide by b.\n\n```python\nprint(2 / b)\n```\n"},
        {"match": "NameError", "content": f"b was missing.\n\n```python\n{PROJECTION}\n```\n"},
        {"match": r"^1/5\n-3/5", "content": "The projection is (1/5, -3/5)."},
        {"match": "never ends", "content": "Again.\n\n```python\nprint('nothing')\n```\n"},
        {"match": "nothing", "content": "Again.\n\n```python\nprint('nothing')\n```\n"},
    ]


def blogger() -> list[dict[str, Any]]:
    return [
        {
            "match": r"Reflect and provide critique.*\n\n.*on <([\w ]+)>, version (\d)",
            "content": "More depth for <\\1> than in version \\2.",
            "delay": 0.05,
        },
        {"match": r"updates in ([\w ]+)\.", "content": "A post on <\\1>, version 1.", "delay": 0.05},
        *(
            {
                "match": rf"More depth for <([\w ]+)> than in version {number}",
                "content": f"A post on <\\1>, version {number + 1}.",
                "delay": 0.05,
            }
            for number in (1, 2, 3)
        ),
    ]


def visualizer(url: str) -> list[dict[str, Any]]:
    def call(name: str, **parameters: Any) -> str:
        return f"```json\n{json.dumps({'name': name, 'parameters': parameters})}\n```\n"

    return [
        {
            "match": "Fetch the China's GDP",
            "content": "I search.\n" + call("web_search", query="GDP of China"),
        },
        {"match": r"The numbers are", "content": f"I draw them.\n\n```python\n{CHART}\n```\n"},
        {"match": r"2024 \| 18\.74", "content": f"The numbers are {json.dumps(GDP)}."},
        {
            "match": r"GDP statistics of China",
            "content": "I read it.\n" + call("web_fetch", url=f"{url}/gdp"),
        },
        {"match": r"figure-1\.png|Line2D", "content": "Final Answer: here is the line chart."},
    ]


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """Return the address of a page with the numbers and a search that finds it."""
    rows = "".join(f"<tr><td>{year}</td><td>{value}</td></tr>" for year, value in GDP.items())
    with serving() as site:
        site.pages["/gdp"] = ("text/html", f"<h1>GDP statistics</h1><table>{rows}</table>")
        search_result = {
            "title": "GDP statistics",
            "url": f"{site.url}/gdp",
            "content": "GDP statistics of China",
        }
        site.pages["/search"] = ("application/json", json.dumps({"results": [search_result]}))
        yield site.url


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, web: str) -> Iterator[Daemon]:
    """A daemon with one scripted model for each program, and its own small web."""
    home = tmp_path_factory.mktemp("home")
    scripts = {
        "coder-model": coder(),
        "blogger-model": blogger(),
        "visualizer-model": visualizer(web),
        "weather-model": [{"match": "昨天天气", "content": "【多云转晴，夜间有轻微降温】"}],
    }
    models: list[dict[str, Any]] = [
        {"name": name, "source": "fake://", "parameters": {"script": script}}
        for name, script in scripts.items()
    ]
    models.append({"name": "default", "source": "fake://"})
    file = home / "models.yaml"
    file.write_text(yaml.safe_dump({"models": models}, allow_unicode=True), encoding="utf-8")
    env = {
        "PORTICO_ENVIRONMENTS": str(ENVIRONMENTS),
        "PORTICO_OFFLINE": "true",
        "PORTICO_TOOL_APPROVAL": "never",
        "PORTICO_TOOL_HOSTS": web.removeprefix("http://"),
        "PORTICO_WEB_SEARCH": "searxng",
        "PORTICO_WEB_SEARCH_URL": f"{web}/search",
    }
    with daemons.running(home / "data", "--file", str(file), env=env) as running:
        yield running


@pytest.fixture
def client(stage: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of the daemon; programs find the daemon through the environment."""
    monkeypatch.setenv("PORTICO_URL", stage.url)
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)
    monkeypatch.syspath_prepend(str(PROGRAMS))
    for program in PROGRAMS.glob("*.py"):
        monkeypatch.delitem(sys.modules, program.stem, raising=False)
    with Client(stage.url) as stage_client:
        yield stage_client


@pytest.fixture(scope="session")
def notebooks() -> None:
    """Skip the test if no sandbox can be created."""
    reason = namespace.missing()
    if reason is not None:
        pytest.skip(reason)
    asyncio.run(Environment(ENVIRONMENTS).ensure(_quiet))


async def _quiet(_message: str) -> None:
    """Discard a progress message."""
