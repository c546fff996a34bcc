"""Extractive answers, as a client sees them: through a real daemon with a real store and its vectors."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.server.features.readers.documents import write_files

from portico import Client
from portico.errors import InvalidRequest

CONFIGURATION = """
models:
  - {name: small, source: "fake://", aliases: [default], answers: quote}
"""

BAKERY = {
    "bread.md": (
        "# Bread\n\nOur bakery opened in 1987. Bake the bread at 230 degrees for forty minutes.\n"
        "Let the dough rest overnight in a cold room. Mrs. Huber keeps the keys.\n"
    ),
    "prices.md": (
        "# Prices\n\n| Bread | Price |\n| --- | --- |\n| Rye loaf | 4.20 |\n| Wheat loaf | 3.10 |\n| Pretzel | 0.90 |\n"
    ),
    "oven.md": (
        "# Oven\n\nThe oven stands in the cellar. Run this to switch it on:\n\n"
        "```bash\noven start --heat 230\n```\n\nNobody else may touch it.\n"
    ),
    "till.md": (
        "# Till\n\nA pretzel is booked under its number in the till.\n\n"
        "```python\ntill.book(pretzel, till.number(pretzel))\ntill.close(pretzel)\n```\n\n"
        'To try it:\n\n```bash\ntill ask "How is a loaf booked in the till?"\n```\n'
    ),
    "phones.csv": "Department,Person,Extension,Room\nPurchasing,Ada Brook,1201,\n,Ben Cole,1202,\n",
    "staff.md": "# Staff\n\nAda Meyer drives the van. Two apprentices clean the tables every evening.\n",
}

MOONCAKES = {
    "工坊.md": "# 工坊\n\n我们的工坊每天制作三百个月饼。馅料由李师傅准备。烤箱的温度是二百二十度。\n",
    "历史.md": "# 历史\n\n工坊成立于1952年，创办人是王大明。第一家店在苏州。\n",
}


NATURE = {
    "石斑.md": "长鳍石斑，又称红石斑，是鲈形目的一种海鱼。\n分布于印度洋的暖水海域。体长可达二十一公分。以小鱼为食。\n",
    "雅芳河.md": "雅芳河，又叫埃文河，是英国西部的一条河流。\n全长一百三十四公里，河水清澈，适合划船。\n",
    "lynx.md": "The marsh lynx is a wild cat of the northern wetlands.\nIt hunts at night. A grown male weighs 18 kg.",
}
"""Documents that name their subject only in the first sentence."""

SHOPS = {
    f"{name}面包店.md": f"# {name}面包店\n\n记得带伞。每天早上{hour}点，{name}面包店准时开门。风景不错。\n"
    for hour, name in enumerate(("柏桥", "紫桥", "松山", "南泉", "碧塘"), start=5)
}
"""Documents that share all words except a name with each other."""

RECIPES = {
    "ovens.md": "# Oven\n\nBread is baked at 230 degrees for forty minutes. Let the dough rest overnight.\n"
}

MANUAL = {
    "faq.md": (
        "# Questions\n\n## How do I undo a restart?\n\nA restart cannot be undone. Wait until it ends.\n\n"
        "## When was the first node built?\n\nNobody wrote it down.\n\n## Is a restart safe?\n\n"
        "To undo it is not safe. A restart takes a minute, and how long it takes depends on the disk.\n"
    ),
    "glossary.rst": (
        "Glossary\n========\n\nDraining\n--------\n\nThe work of a node is moved to other nodes.\n\n"
        "Node\n----\n\nA machine that does the work. What is draining it is told elsewhere.\n"
    ),
    "restart.adoc": (
        "= Restarts\n\n== Restart a node that hangs\n\nFirst move its work away, then restart it.\n\n"
        "[[rename]]\n== Names of nodes\n\nA node keeps its name.\n"
    ),
    "names.md": "# Names\n\n## Rename a node\n\nChange its name in `nodes.yaml`.\n",
    "备份.md": "# 备份\n\n## 备份的时间\n\nnodectl 每晚把所有节点的状态写到磁盘。\n",
    "CHANGELOG.md": (
        "# Changes\n\n## 2.1\n\n- A renamed node is restarted.\n- How a node is renamed is faster.\n\n"
        "## 2.0\n\n- A node is renamed without a restart.\n"
    ),
}

BREEDS = [
    (f"Breed {name}", f"{number} kg", f"{number * 3} years")
    for number, name in enumerate([f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrstuv"], start=101)
]
"""Rows of a table that no passage contains in full."""


def ledgers() -> dict[str, str]:
    """Return one long table in each supported format, each on another topic."""
    rows = "\n".join(f"| {a} | {b} | {c} |" for a, b, c in BREEDS)
    cells = "".join(f"<tr><td>{a} goat</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in BREEDS)
    lines = "\n".join(f"{a} sheep,{b},{c}" for a, b, c in BREEDS)
    return {
        "cows.md": f"# Cows\n\n| Cow | Weight | Age |\n| --- | --- | --- |\n{rows}\n",
        "goats.html": "<html><body><h1>Goats</h1><table><tr><th>Goat</th><th>Weight</th><th>Age</th></tr>"
        f"{cells}</table></body></html>",
        "sheep.csv": f"Sheep,Weight,Age\n{lines}\n",
    }


RIVER_QUESTION = "Which river flows through the town where the founder of Harwick Works was born?"

WORKS = {
    "works.md": "Harwick Works was founded by Edith Calloway.",
    "founder.md": "Edith Calloway was born in the town of Thornbury.",
    "town.md": "The river Alder flows through Thornbury, where boats are built.",
}


def among(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts among unrelated texts."""
    notices = {
        f"notice{n}.md": f"Notice {n}: the pump of street {n} is repaired on a dry day." for n in range(30)
    }
    return {**texts, **notices}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("quoted")
    config = root / "portico.yaml"
    stores = ""
    store_files = {
        "bakery": BAKERY,
        "mooncakes": MOONCAKES,
        "nature": NATURE,
        "shops": SHOPS,
        "manual": MANUAL,
        "farm": ledgers(),
        "mixed": {**ledgers(), **RECIPES},
    }
    for name, files in store_files.items():
        stores += f"  - {{name: {name}, folder: {write_files(root / name, files)}}}\n"
    for name, texts in {"works": WORKS, "dry": {**WORKS, "town.md": "Thornbury has two schools."}}.items():
        folder = write_files(root / name, among(texts))
        stores += f"  - {{name: {name}, folder: {folder}, search: {{steps: 4}}}}\n"
    config.write_text(f"{CONFIGURATION}stores:\n{stores}")
    with daemons.running(root / "home", "--file", str(config)) as daemon:
        daemon.settle()
        with httpx.Client(base_url=daemon.url, timeout=60) as client:
            yield client


def ask(http: httpx.Client, app: str, *said: str, **options: Any) -> dict[str, Any]:
    """Return the assistant's message; ``said`` are the user's messages, with `ok` between them."""
    messages: list[dict[str, str]] = []
    for text in said:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]
    body = {"model": app, "messages": messages[:-1], **options}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def quotes(answer: str) -> list[tuple[str, int]]:
    """Return the quotations of an answer, without quotation marks, and the numbers of their passages."""
    blocks = re.findall(r"^>.*(?:\n>.*)*", answer, re.MULTILINE)
    quotations = []
    for block in blocks:
        text = re.sub(r"^> ?", "", block, flags=re.MULTILINE)
        text = re.sub(r"\A\*\*.*\*\*\n\n", "", text)  # the headings above a section
        match = re.fullmatch(r"(?s)(.*?)\s*\[(\d+)\]( \|)?", text)
        assert match is not None, block
        quotations.append((match[1] + (match[3] or ""), int(match[2])))
    return quotations


@pytest.mark.parametrize(
    ("app", "question", "expected"),
    [
        ("bakery", "When did the bakery open?", "Our bakery opened in 1987."),
        ("bakery", "Who drives the van?", "Ada Meyer drives the van."),
        ("bakery", "Who keeps the keys?", "Mrs. Huber keeps the keys."),
        ("bakery", "How hot must the oven be for bread?", "230"),
        ("mooncakes", "每天做多少个月饼？", "我们的工坊每天制作三百个月饼。"),
        ("mooncakes", "工坊是谁创办的？", "工坊成立于1952年，创办人是王大明。"),
        ("mooncakes", "每天製作多少個月餅？", "我们的工坊每天制作三百个月饼。"),
        ("shops", "柏桥面包店早上几点开门？", "每天早上5点，柏桥面包店准时开门。"),
    ],
)
def test_the_sentence_that_answers_is_quoted(
    http: httpx.Client, app: str, question: str, expected: str
) -> None:
    answer = ask(http, app, question)["content"]
    assert any(expected in text for text, _rank in quotes(answer)), answer
    assert len(quotes(answer)) <= 2


@pytest.mark.parametrize(
    ("question", "subject", "answer"),
    [
        ("长鳍石斑的体长可达多少？", "长鳍石斑，又称红石斑，是鲈形目的一种海鱼。", "体长可达二十一公分。"),
        (
            "How much does a grown marsh lynx weigh?",
            "The marsh lynx is a wild cat",
            "A grown male weighs 18 kg.",
        ),
    ],
)
def test_a_sentence_without_its_subject_is_quoted_after_the_sentence_that_names_it(
    http: httpx.Client, question: str, subject: str, answer: str
) -> None:
    text, _rank = quotes(ask(http, "nature", question)["content"])[0]
    assert text.startswith(subject), text
    assert text.endswith(answer)


QUESTIONS = [
    ("bakery", "When did the bakery open?"),
    ("bakery", "What does a rye loaf cost?"),
    ("bakery", "How do I switch the oven on?"),
    ("bakery", "面包要烤多长时间？"),
    ("mooncakes", "谁准备馅料？"),
    ("mooncakes", "How many mooncakes are made every day?"),
]


@pytest.mark.parametrize(("app", "question"), QUESTIONS)
def test_every_quoted_line_occurs_in_a_retrieved_passage(http: httpx.Client, app: str, question: str) -> None:
    body = {"model": app, "input": question}
    response = http.post("/v1/responses", json=body).json()
    text = response["output"][-1]["content"][0]["text"]
    searched = http.post(f"/api/stores/{app}/search", json={"query": question}).json()["data"]
    passage_texts = [passage["text"] for passage in searched]
    assert quotes(text)
    for quote, _rank in quotes(text):
        lines = [line for line in quote.split("\n") if line.strip() and "---" not in line]
        # The header of a table precedes its row, so the quotation need not be one contiguous piece.
        assert any(all(line in passage for line in lines) for passage in passage_texts), quote


def test_a_streamed_answer_is_the_same_in_pieces(http: httpx.Client) -> None:
    question = "When did the bakery open?"
    whole_answer = ask(http, "bakery", question)["content"]
    body = {"model": "bakery", "messages": [{"role": "user", "content": question}], "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == whole_answer


def test_a_row_of_a_table_has_its_header(http: httpx.Client) -> None:
    answer = ask(http, "bakery", "What is the price of a rye loaf?")["content"]
    assert answer == "> | Bread | Price |\n> | --- | --- |\n> | Rye loaf | 4.20 [1] |"


def test_a_row_keeps_its_empty_cells(http: httpx.Client) -> None:
    answer = ask(http, "bakery", "What is the extension of Ben Cole?")["content"]
    assert answer.endswith("> |  | Ben Cole | 1202 | [1] |"), answer


@pytest.mark.parametrize(
    ("question", "header", "row"),
    [
        (
            "How heavy is breed jv?",
            "| Cow | Weight | Age |\n| --- | --- | --- |",
            "| Breed jv | 220 kg | 660 years |",
        ),
        (
            "How heavy is the breed jv goat?",
            "| Goat | Weight | Age |\n| --- | --- | --- |",
            "| Breed jv goat | 220 kg | 660 years |",
        ),
        (
            "How heavy is the breed jv sheep?",
            "| Sheep | Weight | Age |\n| --- | --- | --- |",
            "| Breed jv sheep | 220 kg | 660 years |",
        ),
    ],
)
def test_a_row_far_down_a_long_table_has_its_header(
    http: httpx.Client, question: str, header: str, row: str
) -> None:
    answer = ask(http, "farm", question)["content"]
    text, _rank = quotes(answer)[0]
    assert text == f"{header}\n{row}", answer


def test_a_quoted_row_is_cited_by_its_own_number(http: httpx.Client) -> None:
    message = ask(http, "farm", "How heavy is the breed jv sheep?")
    number = [name for name, *_cells in BREEDS].index("Breed jv") + 2  # row 1 is the header
    [citation, *_further] = message["annotations"]
    assert citation["file_citation"]["place"]["row"] == number, message
    places = [source["place"]["row"] for claim in message["claims"] for source in claim["evidence"]]
    assert places[:1] == [number]


def test_a_command_is_quoted_with_what_introduces_it(http: httpx.Client) -> None:
    answer = ask(http, "bakery", "How do I switch the oven on?")["content"]
    assert answer.startswith(
        "> **Oven**\n>\n> The oven stands in the cellar. Run this to switch it on:\n>\n> ```bash"
    )
    assert "> oven start --heat 230\n> ```\n>\n> Nobody else may touch it. [1]" in answer


@pytest.mark.parametrize(
    ("app", "question", "sentence"),
    [
        ("bakery", "Who won the chess olympiad in Budapest?", "This is not in these documents."),
        ("mixed", "Who won the chess olympiad in Budapest?", "This is not in these documents."),
        ("mooncakes", "二〇一二年的奥林匹克象棋冠军是谁？", "这些文档中没有相关内容。"),
    ],
)
def test_a_question_outside_the_documents_gets_a_refusal_without_citations(
    http: httpx.Client, app: str, question: str, sentence: str
) -> None:
    message = ask(http, app, question)
    assert message["content"] == sentence
    assert not message.get("annotations")


@pytest.mark.parametrize(
    ("app", "question", "section"),
    [
        ("nature", "银河又叫什么河？", "> **雅芳河.md, line 1**\n>\n> 雅芳河，又叫埃文河"),
        (
            "manual",
            "昨天启动nodectl的时候电脑突然蓝屏，请问怎么退货给商店？",
            "> **备份.md, line 1 · 备份 › 备份的时间**",
        ),
    ],
)
def test_a_question_near_the_documents_gets_the_nearest_sections(
    http: httpx.Client, app: str, question: str, section: str
) -> None:
    message = ask(http, app, question)
    introduction, first, *_further = message["content"].split("\n\n")
    assert introduction == "这些文档中没有找到回答这个问题的句子。最接近的章节："
    assert first.startswith(section)
    assert not message.get("annotations")


@pytest.mark.parametrize(
    ("app", "question"),
    [("bakery", "How hot must the oven be?"), ("mixed", "How hot must the oven be?")],
)
def test_a_question_with_one_clear_match_is_answered_with_a_quotation(
    http: httpx.Client, app: str, question: str
) -> None:
    assert "230" in quotes(ask(http, app, question)["content"])[0][0]


def test_documents_in_another_language_are_quoted_as_they_stand(http: httpx.Client) -> None:
    answer = ask(http, "mooncakes", "How many mooncakes are made every day?")["content"]
    assert answer.startswith(
        "The documents are in Chinese; this is quoted as it stands.\n\n> 我们的工坊每天制作三百个月饼"
    )


def test_a_follow_up_is_answered_with_the_question_before_it_in_mind(http: httpx.Client) -> None:
    answer = ask(http, "bakery", "Where does the oven stand?", "How do I switch it on?")["content"]
    assert "oven start --heat 230" in answer


def test_a_request_for_json_is_answered_by_the_model_without_quotations(http: httpx.Client) -> None:
    answer = ask(http, "bakery", "Who drives the van?", response_format={"type": "json_object"})["content"]
    assert not answer.startswith(">")


@pytest.mark.parametrize(
    "question", ["How is a pretzel booked in the till?", "How is a loaf booked under the till's number?"]
)
def test_a_section_is_quoted_from_its_sentence_not_from_code_that_repeats_the_question(
    http: httpx.Client, question: str
) -> None:
    text, _number = quotes(ask(http, "bakery", question)["content"])[0]

    assert text.startswith("A pretzel is booked under its number in the till.\n\n```python")


@pytest.mark.parametrize(
    ("question", "file", "text"),
    [
        ("How do I undo a restart?", "faq.md", "A restart cannot be undone."),
        ("What is draining?", "glossary.rst", "The work of a node is moved to other nodes."),
        ("When was the first node built?", "faq.md", "Nobody wrote it down."),
        (
            "How do I restart a node when it hangs?",
            "restart.adoc",
            "First move its work away, then restart it.",
        ),
        ("How is a node renamed?", "names.md", "Change its name in `nodes.yaml`."),
        ("How is a node renamed in version 2.1?", "CHANGELOG.md", "A renamed node is restarted."),
    ],
)
def test_the_section_of_a_manual_that_answers_is_shown_first(
    http: httpx.Client, question: str, file: str, text: str
) -> None:
    message = ask(http, "manual", question)

    assert text in quotes(message["content"])[0][0], message["content"]
    assert message["annotations"][0]["file_citation"]["filename"] == file


def finish(http: httpx.Client, **options: Any) -> dict[str, Any]:
    """Return the whole chat completion for a question that two sentences answer."""
    messages = [{"role": "user", "content": "How hot must the oven be for bread?"}]
    response = http.post("/v1/chat/completions", json={"model": "bakery", "messages": messages, **options})
    assert response.status_code == 200, response.text
    completion: dict[str, Any] = response.json()
    return completion


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_quotation_is_no_longer_than_the_tokens_asked_for(http: httpx.Client, field: str) -> None:
    whole_completion = finish(http)
    assert whole_completion["choices"][0]["finish_reason"] == "stop"
    token_count = whole_completion["usage"]["completion_tokens"]
    assert token_count > 12 and whole_completion["usage"]["total_tokens"] == token_count
    cut = finish(http, **{field: 12})
    assert cut["choices"][0]["finish_reason"] == "length"
    assert 0 < cut["usage"]["completion_tokens"] <= 12
    ((text, _rank),) = quotes(cut["choices"][0]["message"]["content"])
    assert text and quotes(whole_completion["choices"][0]["message"]["content"])[0][0].startswith(text)
    assert cut["choices"][0]["message"]["annotations"]
    assert (
        finish(http, **{field: token_count})["choices"][0]["message"]["content"]
        == whole_completion["choices"][0]["message"]["content"]
    )


def test_a_streamed_quotation_is_also_truncated_with_finish_reason_length(http: httpx.Client) -> None:
    whole_completion = finish(http, max_tokens=12)
    messages = [{"role": "user", "content": "How hot must the oven be for bread?"}]
    options = {"stream": True, "max_tokens": 12, "stream_options": {"include_usage": True}}
    body = {"model": "bakery", "messages": messages, **options}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert text == whole_completion["choices"][0]["message"]["content"]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
    assert chunks[-1]["usage"] == whole_completion["usage"]


def test_other_interfaces_say_that_a_quotation_was_cut(http: httpx.Client) -> None:
    question = "How hot must the oven be for bread?"
    body = {"model": "bakery", "input": question, "max_output_tokens": 16}
    response = http.post("/v1/responses", json=body).json()
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert 0 < response["usage"]["output_tokens"] <= 16
    messages = [{"role": "user", "content": question}]
    message = http.post(
        "/v1/messages", json={"model": "bakery", "max_tokens": 12, "messages": messages}
    ).json()
    assert message["stop_reason"] == "max_tokens"
    assert 0 < message["usage"]["output_tokens"] <= 12


def test_the_answers_setting_of_a_store_decides_how_its_app_answers(http: httpx.Client) -> None:
    question = "When did the bakery open?"
    assert http.get("/api/stores/bakery").json()["answers"] == "auto"
    try:
        response = http.patch("/api/stores/bakery", json={"answers": "write"})
        assert response.json()["answers"] == "write"
        assert not quotes(ask(http, "bakery", question)["content"])  # the scripted model repeats its prompt
        http.patch("/api/stores/bakery", json={"description": "Bread"})
        assert http.get("/api/stores/bakery").json()["answers"] == "write"
        wrong = http.patch("/api/stores/bakery", json={"answers": "qoute"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "answers")
        assert wrong.json()["error"]["message"].endswith("auto, write, quote. Did you mean 'quote'?")
    finally:
        http.patch("/api/stores/bakery", json={"answers": "auto"})
    assert quotes(ask(http, "bakery", question)["content"])


def test_the_answers_setting_is_available_in_sdk_command_line_and_configuration(
    http: httpx.Client, tmp_path: Path
) -> None:
    url = str(http.base_url)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [
            sys.executable,
            "-c",
            "import sys; from portico.cli import main; sys.exit(main())",
            *arguments,
        ]
        variables = daemons.environment(PORTICO_URL=url)
        return subprocess.run(line, env=variables, capture_output=True, text=True, timeout=60)

    with Client(url) as client:
        assert client.stores.add("drawer", app=True, answers="quote").answers == "quote"
        assert client.stores.change("drawer", answers="write").answers == "write"
        client.stores.add("shelf")
        for operation in (
            lambda: client.stores.add("silent", answers="quote"),
            lambda: client.stores.change("shelf", answers="quote"),
        ):
            with pytest.raises(InvalidRequest, match="this store has no app: set 'app': true") as caught:
                operation()
            assert caught.value.param == "answers"
        done = command("stores", "change", "drawer", "--answers", "quote")
        assert done.returncode == 0 and "quote" in done.stdout
        done = command("stores", "add", "--name", "other", "--answers", "rite")
        assert done.returncode == 1 and "Did you mean 'write'?" in done.stderr
        configuration = {"stores": [{"name": "drawer", "answers": "write"}]}
        result = client.apply(configuration, folder=str(tmp_path))
        assert [(change.action, tuple(change.detail)) for change in result.changes] == [
            ("change", ("answers",))
        ]
        assert client.stores.get("drawer").answers == "write"
        assert [change.action for change in client.apply(configuration, folder=str(tmp_path)).changes] == [
            "unchanged"
        ]
        with pytest.raises(InvalidRequest, match="Did you mean 'quote'") as error:
            client.apply({"stores": [{"name": "drawer", "answers": "quota"}]}, folder=str(tmp_path))
        assert error.value.param == "stores[0].answers"
        client.stores.remove("drawer")


def test_a_question_over_several_passages_quotes_one_sentence_from_each(http: httpx.Client) -> None:
    answer = ask(http, "works", RIVER_QUESTION)
    quotations = quotes(answer["content"])
    assert answer["content"].startswith(">")
    assert {text for text, _ in quotations} == set(WORKS.values())
    assert len({number for _, number in quotations}) == 3
    file_names = {
        item["file_citation"]["filename"] for item in answer["annotations"] if "file_citation" in item
    }
    assert set(WORKS) <= file_names


def test_an_incomplete_chain_of_passages_is_not_quoted_as_an_answer(http: httpx.Client) -> None:
    assert not ask(http, "dry", RIVER_QUESTION)["content"].startswith(">")
