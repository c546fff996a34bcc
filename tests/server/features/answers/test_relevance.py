"""Which passages, and which sentences in them, are about the question."""

import pytest

from portico_server.features.answers.language import language
from portico_server.features.answers.relevance import excerpt, headings_for, terms
from portico_server.features.answers.repetition import repeats


def test_terms_are_stems_without_stop_words_and_pairs_of_characters() -> None:
    assert terms("How does the daemon handle uploads?") == {"daemon", "handle", "upload"}
    assert terms("端口是什么？") == {"端口"}
    assert terms("雪莲花") == {"雪莲", "莲花"}


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


@pytest.mark.parametrize(
    ("text", "limit", "excerpt_text"),
    [
        ("port = 1\nsea = 2\nsky = 3\nport = 4\n", 24, "port = 1\n…\nport = 4"),
        ("if port:\n    port()\nsea = 2222222", 28, "if port:\n    port()"),
        ("if port:\n    sea()\n    port()\n", 25, "if port:\n…\n    port()"),
        ("A port.\nThe port.\n\n\n\nOne port. Whales sing.", 36, "A port.\nThe port.\n\nOne port."),
        ("Port 1. Whales.\nWhales sing. Port 2.", 24, "Port 1.\n…\nPort 2."),
    ],
)
def test_an_excerpt_keeps_the_lines_of_its_text(text: str, limit: int, excerpt_text: str) -> None:
    assert excerpt(text, "port", limit) == excerpt_text


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
def test_the_language_of_a_question_is_detected(text: str, expected: str) -> None:
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
def test_a_text_that_repeats_itself_is_detected(text: str, expected: bool) -> None:
    assert repeats(text) is expected


@pytest.mark.parametrize(
    ("heading", "question", "is_asked"),
    [
        ("Installation", "How do I install it?", True),
        ("How do I install it?", "how do I install it", True),
        ("Virtual DOM", "What is the virtual DOM?", True),
        ("虚拟 DOM", "虚拟 DOM 是什么？", True),
        ("Installation on Windows", "How do I install it?", False),
        ("Overview", "What is this about?", False),
    ],
)
def test_a_question_asks_about_a_heading(heading: str, question: str, is_asked: bool) -> None:
    assert headings_for(question)(heading) is is_asked


def test_a_question_is_a_heading_with_the_same_words() -> None:
    assert headings_for("when was it built", exactly=True)("When was it built?")
    assert not headings_for("When was it built?", exactly=True)("It was built")
