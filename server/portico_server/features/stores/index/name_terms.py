"""How file names contribute to the scores of chunks in the lexical index."""

from __future__ import annotations

from functools import lru_cache
from math import log1p

import tantivy
from tantivy import Occur, Query

from portico_server.core.name_words import name_in_words, searched_name
from portico_server.features.readers.analyse import Terms, analyse

NAME_WEIGHT = 0.2
"""Weight of a word in the name of a chunk's file relative to a word in its text. The value was measured."""

MAX_NAME_WORDS = 8
"""Maximum number of words in a question that is treated as a possible file name. If a file name contains all words of
the question, they have the same weight as words in the text.
"""

ANY_FILE = "*"
"""Term in the field ``firsts`` of each file's first chunk, in addition to the terms of the name; used to count
files.
"""

NAME_CACHE_SIZE = 4_096
"""Number of file names whose terms are cached: all chunks of a file have the same name."""


def name_terms(name: str) -> str:
    """Return the distinct words and bigrams of a file's name, joined with spaces."""
    return _cached_name_terms(searched_name(name))


@lru_cache(NAME_CACHE_SIZE)
def _cached_name_terms(name: str) -> str:
    terms = analyse(name_in_words(name))
    return " ".join(dict.fromkeys((*terms.words, *terms.grams)))


def name_clauses(
    searcher: tantivy.Searcher, schema: tantivy.Schema, terms: Terms, gram_weight: float
) -> list[tuple[Occur, Query]]:
    """Return the clauses for file names that are added to a query for ``terms``.

    The fewer files have a term in their names, the higher is its weight, on the same scale as for words in chunks.
    Names are counted per file, so a large file does not make its own name common.
    """
    total = searcher.doc_freq("firsts", ANY_FILE)
    scale = log1p(searcher.num_docs) / log1p(total) if total else 0.0
    rare: dict[str, float] = {}
    for term in dict.fromkeys((*terms.words, *terms.grams)):
        document_count = searcher.doc_freq("firsts", term)
        if document_count:
            rare[term] = scale * log1p((max(0, total - document_count) + 0.5) / (document_count + 0.5))

    def holds(term: str) -> Query:
        return Query.term_query(schema, "names", term, "basic")

    words = set(terms.words)
    clauses = [
        (
            Occur.Should,
            Query.const_score_query(holds(term), NAME_WEIGHT * (1 if term in words else gram_weight) * count),
        )
        for term, count in rare.items()
    ]
    if 1 < len(words) <= MAX_NAME_WORDS and words <= rare.keys():
        query = Query.boolean_query([(Occur.Must, holds(word)) for word in terms.words])
        counts = sum(rare[word] for word in words)
        clauses.append((Occur.Should, Query.const_score_query(query, (1 - NAME_WEIGHT) * counts)))
    return clauses
