"""The terms by which a question and a sentence are compared."""

import pytest

from portico_server.apps.answer.terms import pieces


def test_a_name_that_is_spelled_otherwise_shares_pieces_with_itself() -> None:
    assert set(pieces("ctenohore")) & set(pieces("ctenophores")) == {"cte", "ten", "eno", "hor", "ore"}
    assert set(pieces("谁命名了氧气？")) >= {"命", "名", "氧", "气"}


@pytest.mark.parametrize("text", ["jv", "ctenophores", "the jv", "氧"])
def test_the_pieces_of_a_word_count_as_one(text: str) -> None:
    assert sum(pieces(text).values()) == pytest.approx(1.0)


def test_words_that_tell_nothing_have_no_pieces() -> None:
    assert pieces("what is the 什么") == {}
