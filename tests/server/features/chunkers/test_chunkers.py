"""The purpose of each chunker: where it splits, and how it describes the place."""

import json
from dataclasses import replace

import pytest

from portico.wire import Place
from portico_server.features.chunkers.chunkers import CHUNKERS
from portico_server.features.chunkers.document import Part
from portico_server.features.readers.formats import FORMATS


def cut(name: str, text: str, size: int = 400, overlap: int = 0, **place: object) -> list[Part]:
    part = Part(text, replace(Place(line=1, end=len(text)), **place))  # type: ignore[arg-type]
    return CHUNKERS[name].chunk([part], size, overlap)


def texts(name: str, text: str, size: int = 400, overlap: int = 0) -> list[str]:
    return [item.text for item in cut(name, text, size, overlap)]


def test_every_format_has_a_chunker_that_exists() -> None:
    assert {form.chunker for form in FORMATS} <= set(CHUNKERS)


def test_each_numbered_clause_becomes_a_chunk() -> None:
    law = (
        "第一章 总则\n\n第一条 船舶应当登记。\n未登记的，不得出港。\n第二条 港口每日开放。\n\n"
        "第二章 罚则\n第十一条之一 违者罚款。\n"
    )
    chunks = cut("clause", law)
    assert [item.place.heading for item in chunks] == [("第一条",), ("第二条",), ("第十一条之一",)]
    assert chunks[0].text.startswith("第一章 总则\n\n第一条")
    assert chunks[0].text.endswith("不得出港。")
    english = (
        "Preamble.\n\nArticle 1 Boats register.\n\nArticle 2.1 Ports open.\n\n§ 7a Fines.\n\n"
        "4.2.1 Scope. It is wide.\n"
    )
    assert [item.place.heading for item in cut("clause", english)] == [
        (),
        ("Article 1",),
        ("Article 2.1",),
        ("§ 7a",),
        ("4.2.1",),
    ]


def test_questions_stay_with_their_answers() -> None:
    faq = "FAQ\n\nQ: When does it open?\nA: At six.\n\nIs it cold? Yes.\n\n问：几点开门？\n答：六点。\n"
    assert texts("qa", faq)[1:] == [
        "Q: When does it open?\nA: At six.\n\nIs it cold? Yes.",
        "问：几点开门？\n答：六点。",
    ]
    assert texts("qa", "### When does it open?\n\nAt six.\n\n### Why?\n\nTides.\n") == [
        "### When does it open?\n\nAt six.",
        "### Why?\n\nTides.",
    ]


def test_turns_of_a_dialogue_are_not_cut() -> None:
    chat = "".join(
        f"[10:{i:02}] Ann: Where is boat {i}? I looked.\n小明：在码头。真的！\n" for i in range(20)
    )
    chunks = texts("dialogue", chat, 200, 60)
    assert len(chunks) > 5
    assert all(
        item.startswith(("[10:", "小明：")) and item.endswith(("I looked.", "真的！")) for item in chunks
    )


def test_log_entries_keep_their_stack_traces() -> None:
    log = "".join(
        f"2026-11-20 10:{i:02}:00 ERROR boat {i}\nTraceback:\n  File x, line {i}\nValueError: {i}\n"
        for i in range(20)
    )
    chunks = texts("log", log, 200)
    assert all(item.startswith("2026-") for item in chunks)
    assert all(item.count("Traceback") == item.count("ValueError") for item in chunks)


def test_hunks_keep_the_names_of_their_file() -> None:
    hunk = "@@ -1,2 +1,2 @@\n-old line of some length\n+new line of some length\n same\n"
    patch = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n{hunk * 3}diff --git a/y b/y\n--- a/y\n+++ b/y\n{hunk}"
    chunks = texts("diff", patch, 120)
    assert [item.splitlines()[0][:12] for item in chunks] == [
        "diff --git a",
        "@@ -1,2 +1,2",
        "@@ -1,2 +1,2",
        "diff --git a",
    ]
    assert "+++ b/y" in chunks[-1]


def test_json_is_cut_between_values_and_names_their_path() -> None:
    data = {
        "name": "harbour",
        "berths": [{"id": i, "note": f"note {i} " * 5} for i in range(9)],
        "港": {"a b": 1},
    }
    for indent in (None, 2):
        text = json.dumps(data, indent=indent, ensure_ascii=False)
        chunks = cut("json", text, 180)
        symbols = [item.place.symbol or "" for item in chunks]
        assert all(symbol.startswith("$") for symbol in symbols)
        assert any(symbol.startswith("$.berths[3]") or symbol == "$.berths" for symbol in symbols)
        for i in range(9):
            assert sum(f'"id": {i},' in item.text and f"note {i} " * 5 in item.text for item in chunks) == 1
    deep = json.dumps({"a": {"b": [{"id": i, "text": "word " * 20} for i in range(4)]}})
    assert [item.place.symbol for item in cut("json", deep, 180)] == [f"$.a.b[{i}]" for i in range(4)]
    [chunk] = cut("json", '{"a": 1}', 180)
    assert chunk.place.symbol == "$"
    records = "\n".join(json.dumps({"id": i, "text": "word " * 20}) for i in range(9))
    chunks = cut("json", records, 180)
    assert [item.place.symbol for item in chunks] == [f"$[{i}]" for i in range(9)]
    assert [item.place.line for item in chunks] == list(range(1, 10))


def test_python_is_cut_by_its_syntax_tree_and_names_definitions() -> None:
    methods = "".join(f"    def move_{i}(self):\n        x = {i}\n\n        return x\n\n" for i in range(6))
    code = (
        '"""Boats."""\n\nimport os\n\n# Of wood.\n@final\nclass Boat:\n    """A boat."""\n\n'
        f"{methods}def main():\n    pass\n"
    )
    chunks = cut("code", code, 150)
    symbols = [item.place.symbol for item in chunks]
    assert symbols == [
        "Boat, Boat.move_0",
        "Boat.move_1, Boat.move_2",
        "Boat.move_3, Boat.move_4",
        "Boat.move_5, main",
    ]
    assert "# Of wood.\n@final\nclass Boat" in chunks[0].text
    assert all(item.text.count("def move") == item.text.count("return x") for item in chunks)


def test_other_languages_are_cut_at_the_top_level_and_name_what_they_define() -> None:
    code = (
        "package boats\n\nfunc (b *Boat) Sail() int {\n\n\treturn 1\n}\n\ntype Boat struct {\n\tName string\n}\n\n"
        "func Main() {\n}\n"
    )
    chunks = cut("code", code, 60)
    assert [item.place.symbol for item in chunks] == ["Sail", "Boat, Main"]
    assert chunks[0].text.endswith("return 1\n}")
    script = "export async function load() {\n  return 1;\n}\n\nexport class Boat {\n}\n"
    assert [item.place.symbol for item in cut("code", script, 50)] == ["load", "Boat"]


def test_formulas_are_never_cut() -> None:
    text = "Energy is $E = mc^2. x$ here. So\n\n$$a = b. c = d.$$\n\nand on. " * 20
    chunks = texts("formula", text, 150)
    assert len(chunks) > 5
    assert all(item.count("$$") % 2 == 0 and item.replace("$$", "").count("$") % 2 == 0 for item in chunks)
    assert all(not item.startswith("$$") for item in chunks)


def test_topics_are_distinguished_by_their_words() -> None:
    ships = (
        "The harbour master counts the ships. Ships enter the harbour at dawn. A ship needs the harbour pilot. "
        * 3
    )
    bread = (
        "The baker kneads the dough slowly. Dough rests before baking. Bakers salt their dough for bread. "
        * 3
    )
    chunks = texts("topic", ships + bread, 2_000)
    assert [("harbour" in item, "dough" in item) for item in chunks] == [(True, False), (False, True)]


def test_numbered_headings_of_plain_text_make_sections() -> None:
    text = "Foreword.\n\n第一章 启程\n\n天亮了。船出港。\n\nChapter II\n\nThe sea.\n\n3.1 Scope of work\n\nAll boats.\n"
    chunks = cut("outline", text)
    assert [item.place.heading for item in chunks] == [
        (),
        ("第一章 启程",),
        ("Chapter II",),
        ("3.1 Scope of work",),
    ]
    assert chunks[1].text == "第一章 启程\n\n天亮了。船出港。"


def test_a_wide_table_repeats_its_header() -> None:
    table = "| Boat | Fee |\n| --- | ---: |\n" + "".join(f"| dinghy {i} | {i} |\n" for i in range(30))
    chunks = texts("table", f"Before.\n\n{table}\nAfter.\n", 150)
    assert (chunks[0], chunks[-1]) == ("Before.", "After.")
    assert all(item.startswith("| Boat | Fee |\n| --- | ---: |\n| dinghy") for item in chunks[1:-1])
    assert sum(item.count("dinghy") for item in chunks) == 30


def test_a_slide_that_is_too_wide_repeats_its_title() -> None:
    text = "Fees\n" + "".join(f"Point {i} says something here.\n" for i in range(30))
    chunks = cut("slides", text, 200, page=4)
    assert len(chunks) > 3
    assert all(item.text.startswith("Fees\nPoint") and item.place.page == 4 for item in chunks)
    assert [item.place.page for item in cut("slides", "Fees\nAll.", page=2)] == [2]


def test_the_page_chunker_joins_sections_but_never_pages() -> None:
    pages = [Part("one.", Place(page=1, end=4)), Part("two.", Place(page=2, start=5, end=9))]
    assert [item.text for item in CHUNKERS["page"].chunk(pages, 400, 0)] == ["one.", "two."]
    halves = [Part("one.", Place(page=1, end=4)), Part("more.", Place(page=1, start=5, end=10))]
    assert [item.text for item in CHUNKERS["page"].chunk(halves, 400, 0)] == ["one.\nmore."]


def test_window_chunks_cover_text_twice_and_fixed_chunks_have_the_given_size() -> None:
    text = " ".join(f"Sentence number {i}." for i in range(60))
    chunks = cut("window", text, 200)
    inner = text[chunks[1].place.start : chunks[-1].place.start]
    assert sum(len(item.text) for item in chunks) > 1.7 * len(inner)
    assert {len(item) for item in texts("fixed", "x" * 1000, 100, 20)[:-1]} == {100}
    assert cut("fixed", "x" * 1000, 100, 20)[1].place.start == 80


@pytest.mark.parametrize(
    ("name", "first"), [("paragraph", "One. Two.\n\nThree."), ("lines", "One. Two.\n\nThree.")]
)
def test_paragraph_and_lines_chunkers_keep_their_units_whole(name: str, first: str) -> None:
    text = "One. Two.\n\nThree.\n\n" + "Four is a longer paragraph here.\n\n" * 3
    assert texts(name, text, 50)[0] == first


def test_recursive_takes_the_coarsest_cut_that_fits() -> None:
    text = "A b c.\n\nD e f. G h i.\nJ k l.\n\n\nM n o.\n"
    assert texts("recursive", text, 34) == ["A b c.\n\nD e f. G h i.\nJ k l.", "M n o."]
    assert texts("recursive", text, 15) == ["A b c.", "D e f. G h i.", "J k l.", "M n o."]
