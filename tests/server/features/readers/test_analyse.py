"""The analyser: which questions find which texts, in English, Chinese, Japanese and Korean."""

import pytest

from portico_server.features.readers.analyse import (
    MAX_QUESTION_TERMS,
    MAX_TERM_CHARS,
    analyse,
    analyse_question,
)


def found_by(text: str, asked: str) -> bool:
    """Return whether a question shares a term with a text."""
    indexed, looked_for = analyse(text), analyse_question(asked)
    return bool({*indexed.words} & {*looked_for.words} or {*indexed.grams} & {*looked_for.grams})


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("The runners were running", "run"),
        ("Connections to the database", "how do I connect"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("the oﬃce opens at nine", "office"),
        ("漢語資訊處理", "汉语"),
        ("汉语信息处理", "漢語"),
        ("他研究量子计算机", "计算机"),
        ("使用Python编程", "python"),
        ("こんにちは世界", "世界"),
        ("カタカナの文書", "カタカナ"),
        ("텍스트를 검색한다", "검색"),
        ("IL-10 levels", "il-10"),
        ("snake_case_name", "case"),
        ("édition française", "ÉDITION"),
    ],
)
def test_a_text_is_found_by_a_question(text: str, asked: str) -> None:
    assert found_by(text, asked)


@pytest.mark.parametrize(
    ("text", "asked"), [("北京天安门", "上海"), ("a red door", "window"), ("a door", "the")]
)
def test_a_text_is_not_found_by_a_question_about_something_else(text: str, asked: str) -> None:
    assert not found_by(text, asked)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("1,234.50", "1234.5"),
        ("1.234,50 €", "1,234.50"),
        ("1234.50", "1.234,5"),
        ("1'234.50 CHF", "1234.5"),
        ("1,234,567", "1234567"),
        ("37,5 %", "37.5%"),
        ("37.50", "37,5"),
        ("１２３４．５", "1,234.5"),
        ("共１，２３４．５０元", "1234.5"),
        ("共1,234.50元", "1234.5"),
        ("2026-03-15", "15.03.2026"),
        ("15 March 2026", "March 15th, 2026"),
        ("15. März 2026", "2026/3/15"),
        ("2026年3月15日", "2026-03-15"),
        ("15. 3. 2026", "Mar. 15 2026"),
        ("03/15/2026", "15/03/2026"),
        ("15/03/2026", "2026-03-15"),
    ],
)
def test_numbers_and_dates_are_found_in_each_form(text: str, question: str) -> None:
    common_terms = {*analyse(text).words} & {*analyse_question(question).words}
    assert any("." in term or "-" in term or len(term) > 4 for term in common_terms)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("0,234", "234"),
        ("192.168.1.10", "192168"),
        ("1.2.3", "12.3"),
        ("2026-13-15", "15.03.2026"),
        ("v1,234", "1234"),
        ("mark 15 2026", "15 March 2026"),
    ],
)
def test_versions_and_addresses_are_no_numbers(text: str, question: str) -> None:
    values = {term for term in analyse(text).words if "." in term or "-" in term or len(term) > 4}
    assert not values & {*analyse_question(question).words}


def test_chinese_becomes_words_and_bigrams_in_simplified_characters() -> None:
    terms = analyse("計算機")
    assert "计算机" in terms.words
    assert terms.grams == ["计算", "算机"]


def test_kana_and_hangul_become_bigrams() -> None:
    assert analyse("ひらがな").grams == ["ひら", "らが", "がな"]
    assert analyse("검색").grams == ["검색"]


def test_words_between_chinese_are_kept_whole() -> None:
    assert "10" in analyse("il-10和full-term").words
    assert {"full", "term"} <= {*analyse("il-10和full-term").words}


def test_repeated_words_count_in_a_text_and_once_in_a_question() -> None:
    assert analyse("bread bread").words == ["bread", "bread"]
    assert analyse_question("bread bread").words == ["bread"]


def test_stop_words_are_dropped_from_questions_only() -> None:
    assert analyse_question("what is the bread").words == ["bread"]
    assert "the" in analyse("the bread").words
    assert analyse_question("什么是面包").words == ["面包"]


def test_a_question_of_stop_words_alone_keeps_its_words() -> None:
    assert analyse_question("to be or not to be").words == ["to", "be", "or", "not"]


def test_overlong_words_and_questions_are_truncated() -> None:
    assert analyse("x" * 1_000).words == ["x" * MAX_TERM_CHARS]
    assert len(analyse_question(" ".join(f"w{i}" for i in range(5_000))).words) == MAX_QUESTION_TERMS


@pytest.mark.parametrize("text", ["", "   ", "!?…—", "\ud800", "🙂"])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    terms = analyse(text)
    assert not terms.words
    assert not terms.grams


def test_a_verb_with_a_particle_is_also_looked_for_as_one_word() -> None:
    analysis = analyse_question("How do I back up my data?")

    assert set(analyse("backup").words) <= set(analysis.words)
    assert analyse("back up").words == ["back", "up"]
