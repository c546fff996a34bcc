"""Which passages speak of what was asked, and which sentences of them."""

from dataclasses import replace

import pytest
from tests.house import passage

from portico.wire import Place
from portico_server.apps.language import language
from portico_server.apps.relevance import excerpt, ground, terms
from portico_server.apps.repetition import repeats


def test_terms_are_stems_without_stop_words_and_pairs_of_characters() -> None:
    assert terms("How does the daemon handle uploads?") == {"daemon", "handle", "upload"}
    assert terms("端口是什么？") == {"端口"}
    assert terms("雪莲花") == {"雪莲", "莲花"}


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Which port does the daemon listen on?", "It listens on port 80.", True),
        ("Who won the chess olympiad?", "Bread is baked at 230 degrees.", False),
        ("守护进程监听哪个端口？", "The daemon listens on port 80.", False),
        ("SmolLM2 的许可证是什么？", "SmolLM2 is licensed under Apache-2.0.", True),
        ("谁赢得了奥林匹克？", "面包在烤箱里烤四十分钟。", False),
        ("What is it?", "Anything at all.", True),
        ("", "Anything at all.", True),
    ],
    ids=["shared", "nothing", "other-script", "a-shared-name", "chinese-nothing", "stop-words", "empty"],
)
def test_ground(question: str, text: str, expected: bool) -> None:
    found = passage(1, text, filename="a.txt")
    assert ground(question, [found]) == ((found,) if expected else ())
    assert ground(question, [found], trusted=True) == (found,)


def test_no_passage_is_no_ground() -> None:
    assert ground("anything", []) == ()


def test_passages_that_share_nothing_or_lie_far_behind_are_left_out() -> None:
    best = passage(1, "The port is 80.", score=1.0)
    other = replace(passage(2, "Bread is baked.", score=0.4), place=Place())
    behind = passage(3, "Any port in a storm.", score=0.05)
    near = passage(4, "Ports can be changed.", score=0.3)
    assert ground("Which port?", [best, other, near, behind]) == (best, near)


def test_the_file_name_counts_as_text() -> None:
    assert ground("What about invoices?", [passage(1, "Due in June.", filename="invoices.csv", score=0.1)])


def test_an_excerpt_keeps_the_nearest_sentences_in_order() -> None:
    text = (
        "Whales sing. " * 10 + "The daemon listens on port 7419. It can be changed. " + "Whales sing. " * 10
    )
    cut = excerpt(text, "Which port does the daemon listen on?", 80)
    assert "port 7419. It can be changed." in cut and len(cut) <= 80


def test_a_point_within_an_address_or_a_number_ends_no_sentence() -> None:
    text = (
        "All data is in `~/.local`. The daemon listens on port 8642 of `127.0.0.1`. Version 1.2 came later."
    )
    cut = excerpt(text, "Which port does the daemon listen on?", 60)
    assert cut == "The daemon listens on port 8642 of `127.0.0.1`."


def test_an_excerpt_marks_what_it_leaves_out() -> None:
    text = "Port 1 is first. " + "Whales sing in the deep sea. " * 9 + "Port 2 is second."
    assert excerpt(text, "port", 45) == "Port 1 is first. … Port 2 is second."


def test_a_short_text_is_kept_whole_and_a_long_sentence_is_cut() -> None:
    assert excerpt(" short ", "x", 100) == "short"
    assert excerpt("雪莲花" * 100, "雪莲", 20) == ("雪莲花" * 100)[:19] + "…"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Which port is it?", "en"),
        ("7419?", "en"),
        ("端口是什么？", "zh-Hans"),
        ("這個檔案在哪裡？", "zh-Hant"),
        ("ポートは何番ですか", "ja"),
        ("포트는 무엇입니까", "ko"),
        ("Какой порт?", "ru"),
        ("Quel est le port ?", "fr"),
        ("¿Cuál es el puerto?", "es"),
    ],
)
def test_languages(text: str, expected: str) -> None:
    assert language(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 7419. " * 3, True),
        ("First. " + "\n\nThe answer is: Khalkhorum" * 3, True),
        ("The answer is 7419. " * 2, False),
        ("ha ha ha ha", False),
        (" " * 200, False),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\n", False),
        ("", False),
    ],
)
def test_going_in_circles_is_noticed(text: str, expected: bool) -> None:
    assert repeats(text) is expected
