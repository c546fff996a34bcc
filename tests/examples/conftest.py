"""One daemon with all apps of ``configs/``, over scripted models named as the apps expect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import ROOT, Daemon

from portico import Client

EXAMPLES = ("chatbot", "rag", "story", "painter", "robot")

OUTLINE = '{"value": [{"title": "# Flour", "describe": "On flour."}, {"title": "# Water", "describe": "On water."}]}'

SCRIPT: list[dict[str, Any]] = [
    {"match": "handbook of bread", "content": OUTLINE},
    {"match": r"On (\w+)\.", "content": r"All about \1."},
    {"match": "which port", "content": "Port 7419."},
    {"match": "海边的猫", "content": "a cat by the sea"},
    # The robot asks twice: for the intent, and then for the result.
    {"match": "画一只猫", "content": ['{"intent": "画图"}', "a cat"]},
    {"match": "画一只狗", "content": ['{"intent": "画图"}', "a dog"]},
    {"match": "写一首歌", "content": ['{"intent": "生成音乐"}', "a song"]},
    {"match": "你好", "content": ['{"intent": "聊天"}', "你好!"]},
    {"match": "朗读", "content": '{"intent": "文字转语音"}'},
    {"match": r"听写|\[audio recording\]", "content": '{"intent": "语音识别"}'},
    {"match": "图里", "content": '{"intent": "图片问答"}'},
    {"match": "my name is (\\w+)", "content": "Hello, \\1."},
]

PAPERS = {
    "port.md": "# Ports\n\nThe Lighthouse daemon listens on port 7419.\n",
    "bread.txt": "Bread is baked at 230 degrees for forty minutes. Let the dough rest overnight.\n",
}


def scripted() -> str:
    """Return the files in ``configs/`` as one, with their real models replaced by scripted ones."""
    texts = [(ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8") for name in EXAMPLES]
    models = [
        {"name": "small", "source": "fake://", "aliases": ["default"], "parameters": {"script": SCRIPT}},
        {"name": "reranker", "source": "fake://", "task": "rerank"},
        {
            "name": "fake-embedding",
            "source": "fake://",
            "task": "embedding",
            "aliases": ["default-embedding"],
        },
    ]
    model_names = {"small", "reranker"}
    parts: dict[str, list[str]] = {"apps": [], "stores": []}
    for text in texts:
        for model in yaml.safe_load(text)["models"]:
            if model["name"] not in model_names:
                model_names.add(model["name"])
                models.append(model)
        for key, lines in parts.items():
            _before, marker, remainder = text.partition(f"\n{key}:\n")
            if marker:
                lines.append("\n".join(line for line in _section(remainder)))
    models_text = yaml.safe_dump({"models": models}, allow_unicode=True)
    return models_text + "".join(f"{key}:\n" + "\n".join(lines) + "\n" for key, lines in parts.items())


def _section(text: str) -> Iterator[str]:
    """Yield the lines up to the next key of the file."""
    for line in text.splitlines():
        if line and not line.startswith((" ", "#", "-")):
            return
        yield line


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("examples")
    (home / "papers").mkdir()
    for name, text in PAPERS.items():
        (home / "papers" / name).write_text(text, encoding="utf-8")
    configuration = home / "all.yaml"
    configuration.write_text(scripted(), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration)) as running:
        running.settle()
        yield running


@pytest.fixture(scope="session")
def papers(served: Daemon) -> Path:
    """The folder of documents."""
    return served.home.parent / "papers"


@pytest.fixture(scope="session")
def client(served: Daemon) -> Iterator[Client]:
    with Client(served.url, timeout=60) as connected:
        yield connected
