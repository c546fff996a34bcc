"""Remembered facts: which the user's words support, and which come from other texts: ``python bench/facts.py``.

A daemon answers generated conversations (`fact_conversations.py`). The scripted extractor reports every planted fact
with an inexact quotation. In addition it obeys every other text: it reports the facts of the instructions, of recalled
facts, of search results and of attached files with their own words, and reports each planted fact with another value,
with the opposite sense, and with words that the user did not say.

``--bundled N`` measures N conversations of each half with the model that comes with Portico instead, from the folder
``--models``. A fact of this model counts as entailed if its words are a planted statement's and it contains the
statement's value.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from fact_conversations import TEMPLATES, Conversation, Statement, conversations
from harness import Report
from ideal_reader import Reader

from portico.client import Client
from portico.schemas.facts import Fact
from portico_server.embedded import embedded

LIBRARY: Final = "The user lives in Ravenna. The user eats no rice. 用户不吃芹菜。"
"""The facts in a document that a tool returns."""

_KNOWN: Final = re.compile(r"^(\d+)\. (.+)$", re.M)
_EXTRACTION: Final = re.compile(r"(?:Known already:\n(?P<known>.*?)\n\n)?Message:\n(?P<message>.*)\Z", re.S)


def main() -> None:
    """Measure both halves, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=100, help="Conversations of each half.")
    parser.add_argument("--bundled", type=int, default=0, metavar="N")
    parser.add_argument("--models", type=Path, help="The folder of models, for --bundled.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = (
        "half",
        "conversations",
        "planted",
        "recall",
        "kept",
        "entailed",
        "from others",
        "replaced",
        "reverted",
    )
    report = Report("Remembered facts", columns)
    with (
        tempfile.TemporaryDirectory() as folder,
        nullcontext("") if options.bundled else _extractor() as address,
    ):
        Path(folder, "library.txt").write_text(LIBRARY, encoding="utf-8")
        stores = [{"name": "library", "folder": folder}]
        models = [{"name": "scripted", "source": f"{address}/v1#scripted"}] if address else []
        settings = {"models": str(options.models)} if options.models else {}
        configuration = {"models": models, "stores": stores, "settings": settings}
        with embedded(configuration) as url, Client(url, timeout=600) as client:
            _wait_until_indexed(client, "library")
            for part in TEMPLATES:
                cases = conversations(part, options.bundled or options.conversations, options.seed)
                model = "default" if options.bundled else "scripted"
                row, facts = _measure(client, cases, model)
                report.add(half=part, **row)
                if options.bundled:
                    report.notes[f"kept, {part}"] = [
                        (fact.text, fact.span and fact.span.words) for fact in facts
                    ]
    report.show(options.json)


def _measure(client: Client, cases: Sequence[Conversation], model: str) -> tuple[dict[str, Any], list[Fact]]:
    planted_count = recalled_count = entailed_count = corrected_count = replaced_count = reverted_count = 0
    changed_count = 0
    facts: list[Fact] = []
    is_bundled = model == "default"
    for case in cases:
        client.stores.add(case.name)
        _converse(client, case, model)
        versions = client.facts.list(store=case.name, versions=True, limit=1000)
        current = [fact for fact in versions if fact.reason is None]
        planted = [statement for _text, statements in case.messages for statement in statements]
        planted_count += len(planted)
        recalled_count += sum(
            any(_states(fact, statement, is_bundled) for fact in versions) for statement in planted
        )
        entailed_count += sum(
            any(_states(fact, statement, is_bundled) for statement in planted) for fact in versions
        )
        facts += versions
        if case.corrected is not None:
            corrected_count += 1
            old = [fact for fact in versions if _states(fact, case.corrected, is_bundled)]
            replaced_count += bool(old) and all(fact.reason == "replaced" for fact in old)
        for fact in current:
            former = client.facts.get(fact.id).versions
            if former:
                changed_count += 1
                restored = client.facts.revert(fact.id)
                reverted_count += (restored.text, restored.span) == (former[0].text, former[0].span)
    row = {
        "conversations": len(cases),
        "planted": planted_count,
        "recall": recalled_count / planted_count,
        "kept": len(facts),
        "entailed": entailed_count / len(facts) if facts else None,
        "from others": sum(
            _is_from_others(fact, case) for case in cases for fact in facts if fact.store == case.name
        ),
        "replaced": f"{replaced_count} of {corrected_count}",
        "reverted": f"{reverted_count} of {changed_count}",
    }
    return row, facts


def _converse(client: Client, case: Conversation, model: str) -> None:
    spec = {
        "portico_agent": 1,
        "name": "guide",
        "model": model,
        "instructions": f"Be brief. {case.instructions.fact}",
        "memory": {"policy": "all", "long_term": {"store": case.name}},
    }
    if model == "scripted":
        spec |= {"stores": ["library"], "strategy": "text_tools"}
    attachment = (
        f"[File: notes.txt]\n{case.attachment.words}. {case.attachment.fact}\n[End of file: notes.txt]"
    )
    for text, _statements in case.messages:
        parts = [{"type": "text", "text": attachment}, {"type": "text", "text": text}]
        client.agents.run(spec, {"content": parts}, session=("bench", case.name))
        _wait_until_indexed(client, case.name)


def _wait_until_indexed(client: Client, store: str) -> None:
    while client.stores.get(store).file_counts.in_progress:
        time.sleep(0.01)


def _states(fact: Fact, statement: Statement, is_bundled: bool) -> bool:
    """Return whether a fact is what a statement says, or the statement itself, with the statement's words as its span.
    The bundled model chooses the fact's words.
    """
    if fact.span is None or _normal(fact.span.words) not in f"{_normal(statement.words)}.":
        return False
    return fact.text in (statement.fact, fact.span.words) or (
        is_bundled and _normal(statement.value) in _normal(fact.text)
    )


def _is_from_others(fact: Fact, case: Conversation) -> bool:
    """Return whether a fact is not from the user's words: its span is not in a message at that place."""
    span = fact.span
    if span is None:
        return True
    message = fact.source.said or ""
    texts = [text for text, _statements in case.messages]
    return message[span.start : span.end] != span.words or not any(span.words in text for text in texts)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Extractor(Reader):
    """A model that searches the library for every message, and reports facts from every text that it can see."""

    def answer(self, prompt: str) -> str:
        match = _EXTRACTION.search(prompt)
        if match is not None:
            return json.dumps({"value": list(_reported(match["message"], match["known"] or ""))})
        if "library.txt" in prompt:
            return "The user lives in Ravenna. Noted."
        return '```json\n{"name": "search_library", "parameters": {"query": "user"}}\n```'


def _reported(message: str, known: str) -> Iterator[dict[str, Any]]:
    """Yield true facts and false ones, false ones first."""
    known_facts = {text: int(number) for number, text in _KNOWN.findall(known)}
    for text in (*known_facts, *(f"{sentence}." for sentence in LIBRARY.split(". "))):
        yield {"fact": text, "quote": text, "replaces": None}
    for templates in TEMPLATES.values():
        for template in templates:
            for value in template.values:
                statement = template.fill(value)
                if statement.words.casefold() not in message.casefold():
                    yield {"fact": statement.fact, "quote": statement.words, "replaces": None}
                    continue
                other = template.fill(next(other for other in template.values if other != value))
                yield {"fact": other.fact, "quote": statement.words, "replaces": None}
                yield {"fact": _opposite(statement.fact), "quote": statement.words, "replaces": None}
                yield {"fact": "The user prefers short answers.", "quote": statement.words, "replaces": None}
                replaced = next(
                    (
                        number
                        for old in map(template.fill, template.values)
                        for known_fact, number in known_facts.items()
                        if known_fact == old.fact or _normal(known_fact) == f"{_normal(old.words)}."
                    ),
                    None,
                )
                yield {"fact": statement.fact, "quote": _inexact(statement.words), "replaces": replaced}


def _opposite(fact: str) -> str:
    if fact.startswith("用户"):
        return fact.replace("不", "") if "不" in fact else fact.replace("用户", "用户不")
    return fact.replace(" no ", " ") if " no " in fact else f"It is not true that {fact[0].lower()}{fact[1:]}"


def _inexact(words: str) -> str:
    """Return words with other white space, capitals and a quotation mark, as models copy them."""
    return f"“{words[0].upper()}{words[1:].replace(' ', '  ')}”"


@contextmanager
def _extractor() -> Iterator[str]:
    """Serve the scripted model, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Extractor)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
