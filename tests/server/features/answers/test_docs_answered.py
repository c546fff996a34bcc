"""A stranger's first questions about Portico, asked of a store over its own documentation."""

from collections.abc import Iterator

import httpx
import pytest
from tests import daemon as daemons

CONFIGURATION = """
models:
  - {name: small, source: "fake://", aliases: [default], answers: quote}
stores:
"""

DOCS = daemons.ROOT / "docs"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("docs")
    config = root / "portico.yaml"
    config.write_text(f"{CONFIGURATION}  - {{name: docs, folder: {DOCS}}}\n")
    with daemons.running(root / "home", "--file", str(config)) as daemon:
        daemon.settle()
        with httpx.Client(base_url=daemon.url, timeout=60) as client:
            yield client


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What port does the daemon listen on?", "8642"),
        ("Who can reach the daemon?", "same machine"),
        ("Can I delete the search index?", "rebuilt"),
        ("Which scopes are there?", "lists the scopes"),
        ("How do I back up?", "portico backup"),
        ("How do I revoke a key?", "portico keys revoke"),
        ("Where is the data kept?", "PORTICO_HOME"),
        ("Which file formats can it read?", "PDF"),
        ("How do I stop the daemon?", "portico down"),
        ("How do I get a better model?", "better model"),
        ("守护进程监听哪个端口？", "8642"),
        ("谁可以访问守护进程？", "同一台机器"),
        ("可以删除检索索引吗？", "随时删除"),
        ("有哪些权限？", "chat"),
        ("怎么备份？", "portico backup"),
        ("模型太小怎么办？", "模型"),
        ("如何撤销密钥？", "portico keys revoke"),
        ("数据放在哪里？", "PORTICO_HOME"),
        ("支持哪些文件格式？", "PDF"),
        ("怎样停止守护进程？", "portico down"),
    ],
)
def test_a_strangers_question_is_answered_by_quotation(
    http: httpx.Client, question: str, expected: str
) -> None:
    body = {"model": "docs", "messages": [{"role": "user", "content": question}]}
    answer = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]

    assert answer.count("\n> ") or answer.startswith("> "), answer
    assert expected in answer
