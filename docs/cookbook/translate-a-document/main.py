"""Translate a Markdown document paragraph by paragraph: code stays as it is, and the terms of a glossary are kept."""

from pathlib import Path

from portico import Client
from portico.flow import branch, llm, pipeline, warp

GLOSSARY = {"oven": "烤炉", "loaf": "面包"}
paragraph = branch(
    lambda text: text.startswith("    "),
    lambda text: text,
    llm("default", system=f"Translate into Chinese and keep the form. Terms: {GLOSSARY}"),
)
translate = pipeline(
    parts=lambda text: text.strip().split("\n\n"),
    done=warp(paragraph),
    text=lambda *parts: "\n\n".join(parts),
)

with Client() as client:
    original = Path("manual.md").read_text(encoding="utf-8")
    translated = client.run(translate, original)
    Path("manual.zh.md").write_text(translated + "\n", encoding="utf-8")
    print(translated)
    for word, term in GLOSSARY.items():
        print(f"{word} -> {term}: used {translated.count(term)} times")
