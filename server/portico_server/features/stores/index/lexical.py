"""The lexical index of a store: a tantivy index of the analyser's terms, without positions and without the texts.

All methods block, so call them in a worker thread. Only one thread writes at a time; searches continue meanwhile.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import tantivy
from tantivy import Document, FieldType, Occur, Query

from portico_server.core.glosses import GlossedWord, chinese_glosses, english_glosses
from portico_server.core.words import HAN_RUN, has_cjk
from portico_server.features.readers.analyse import ANALYSER_VERSION, Terms, analyse, analyse_question
from portico_server.features.readers.pool import JoinedTerms, TermPrefetch
from portico_server.features.stores.index.name_terms import ANY_FILE, name_clauses, name_terms
from portico_server.features.stores.index.offset import NAME_FIELDS, TEXT_FIELDS, DamagedIndex, LogOffset

GRAM_WEIGHT = 0.5
"""Weight of a matching bigram relative to a matching word. The value was measured."""

HEADING_WEIGHT = 0.3
"""Weight of a word in a heading above a chunk relative to a word in its text."""

HEADING_CACHE_SIZE = 4_096
"""Number of headings whose terms are cached: all chunks of a section have the same headings."""

WRITER_HEAP_BYTES = 32_000_000
"""Size of the data, in bytes, that the writer collects before it writes a segment."""

TIE_FACTOR = 10
"""Factor by which more hits are examined if the last included chunk and the first excluded chunk have equal scores."""

MIN_LANGUAGE_SHARE = 0.2
"""Minimum share of chunks in a language at which questions in the other language are searched with its glosses."""

MAX_SEARCHED_GLOSSES = 8
"""Maximum number of glosses of a word that are searched: the first ones that the index contains."""

MIXED_GLOSS_WEIGHT = 0.7
"""Weight of a gloss relative to a word of the question, in an index with texts in both languages."""

_COMMON_WORDS: Mapping[str, tuple[str, ...]] = {
    "English": ("the", "of", "and", "to", "is"),
    "Chinese": ("的", "是", "在", "和", "了"),
}
"""Words that almost every longer text in the language contains."""

_LETTER = re.compile(r"[a-z]{2}", re.IGNORECASE)

_FOOTER_MAGIC_NUMBER = 1337
"""The last four bytes of every tantivy file, after the length of its footer."""


class LexicalIndex:
    """A lexical index in ``folder``, created if it does not exist. Without a folder, the index is in memory.

    Raises `DamagedIndex` if the existing index cannot be used. The chunks of renamed files
    (`portico_server.db.changes.Op` ``name``) are added again. ``ahead`` may contain terms that were computed in
    advance.
    """

    def __init__(self, folder: Path | None, ahead: TermPrefetch | None = None) -> None:
        self._folder = folder
        self._ahead = ahead
        self.has_names = True
        self._schema = _schema()
        self._writer: tantivy.IndexWriter | None = None
        with _damage():
            if folder is not None and folder.is_dir() and tantivy.Index.exists(str(folder)):
                _verify(folder)
                self._index = tantivy.Index(self._schema, str(folder), reuse=True)
                self._index.config_reader("manual")
                self._index.reload()
                self.mark = self._read_mark()
            else:
                self._create()
            self._languages = self._read_languages()

    def _create(self) -> None:
        if self._folder is None:
            self._index = tantivy.Index(self._schema)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._index = tantivy.Index(self._schema, str(self._folder))
        self._index.config_reader("manual")
        self.mark = LogOffset(ANALYSER_VERSION, seq=-1)
        """The sequence number −1 marks an index that was never filled."""

    def __len__(self) -> int:
        """Return the number of chunks that searches can find."""
        return max(0, self._index.searcher().num_docs - 1)

    def put(self, rows: Sequence[tuple[int, str, str, str, str, int]]) -> None:
        """Add chunks, each as (id, file id, text, headings above it, file name, ordinal in the file).

        Searches find the chunks after the next `commit`.
        """
        with _damage():
            writer = self._writing()
            for chunk_id, file_id, text, head, name, ordinal in rows:
                words, grams = self._terms(text)
                document = Document()
                document.add_unsigned("chunk", chunk_id)
                document.add_text("file", file_id)
                document.add_text("words", words)
                document.add_text("grams", grams)
                if head:
                    document.add_text("heads", _heading_terms(head))
                if name:
                    document.add_text("names", name_terms(name))
                if ordinal == 0:
                    document.add_text("firsts", f"{ANY_FILE} {name_terms(name)}")
                writer.add_document(document)

    def _terms(self, text: str) -> JoinedTerms:
        analysed_terms = self._ahead.take(text) if self._ahead is not None else None
        return analyse(text).joined() if analysed_terms is None else analysed_terms

    def delete(self, first: int, last: int) -> None:
        """Remove the chunks ``first`` to ``last``, effective after the next `commit`."""
        with _damage():
            self._writing().delete_documents_by_query(
                Query.range_query(
                    self._schema, "chunk", FieldType.Unsigned, first, last, use_inverted_index=True
                )
            )

    def commit(self, mark: LogOffset) -> None:
        """Write additions and removals to disk with the log offset, and make them visible to searches."""
        with _damage():
            writer = self._writing()
            writer.delete_documents_by_term("file", "")
            document = Document()
            document.add_text("file", "")
            document.add_text("mark", mark.to_json())
            writer.add_document(document)
            writer.commit()
            self._index.reload()
            self.mark = mark
            self._languages = self._read_languages()

    def clear(self) -> None:
        """Delete everything."""
        with _damage():
            self.close()
            self._create()
            self._languages = self._read_languages()

    def rollback(self) -> None:
        """Discard additions and removals since the last `commit`."""
        with _damage():
            if self._writer is not None:
                self._writer.rollback()

    def close(self) -> None:
        """Close the files, after running merges have finished."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.wait_merging_threads()

    def _writing(self) -> tantivy.IndexWriter:
        if self._writer is None:
            self._writer = self._index.writer(heap_size=WRITER_HEAP_BYTES, num_threads=1)
        return self._writer

    def _read_mark(self) -> LogOffset:
        searcher = self._index.searcher()
        hits = searcher.search(Query.term_query(self._schema, "file", "", "basic"), limit=1).hits
        if not hits:
            return LogOffset(ANALYSER_VERSION, seq=-1)
        return LogOffset.from_json(str(searcher.doc(hits[0][1]).get_first("mark")), ANALYSER_VERSION)

    def _read_languages(self) -> frozenset[str]:
        """Return the languages, of English and Chinese, in which enough chunks are written."""
        searcher = self._index.searcher()
        common = {
            language: Query.boolean_query(
                [(Occur.Should, Query.term_query(self._schema, "words", word, "basic")) for word in words]
            )
            for language, words in _COMMON_WORDS.items()
        }
        min_count = max(1.0, MIN_LANGUAGE_SHARE * len(self))
        languages: set[str] = set()
        for language, foreign in (("English", "Chinese"), ("Chinese", "English")):
            query = Query.boolean_query([(Occur.Must, common[language]), (Occur.MustNot, common[foreign])])
            matches: Any = searcher.search(query, limit=1, count=True)  # the stubs lack ``count``
            if matches.count >= min_count:
                languages.add(language)
        return frozenset(languages)

    def gloss_language(self, text: str) -> str:
        """Return the language whose glosses a search for ``text`` includes: ``English`` for a Chinese question if the
        index has English texts, ``Chinese`` for an English question, ``""`` for none.
        """
        if HAN_RUN.search(text):
            language = "English"
        elif _LETTER.search(text) and not has_cjk(text):
            language = "Chinese"
        else:
            language = ""
        return language if language in self._languages else ""

    def is_foreign(self, text: str) -> bool:
        """Return whether the index has texts only in the other language than ``text``, of English and Chinese."""
        return bool(self.gloss_language(text)) and len(self._languages) == 1

    def search(self, text: str, limit: int, files: Sequence[str] | None = None) -> list[tuple[int, float]]:
        """Return the best ``limit`` chunks for a question as (id, BM25 score), best first, equal scores by id.

        ``files`` limits the search to chunks of these files. For glosses, see `gloss_language`. Raises `DamagedIndex`
        if the index cannot be read.
        """
        terms = analyse_question(text)
        if not terms.words and not terms.grams:
            return []
        language = self.gloss_language(text)
        glossed_words = (
            (english_glosses if language == "English" else chinese_glosses)(text) if language else []
        )
        with _damage():
            searcher = self._index.searcher()
            query = self._query(searcher, terms, glossed_words, files)
            hits = searcher.search(query, limit=limit + 1, count=False).hits
            if len(hits) > limit and hits[limit][0] == hits[limit - 1][0]:
                # The order of hits with equal scores depends on how the index has grown, so more hits are
                # examined and those with the lowest ids are chosen.
                hits = searcher.search(query, limit=TIE_FACTOR * limit, count=False).hits
                last = hits[limit - 1][0]
                hits = [hit for hit in hits if hit[0] >= last]
            chunks = searcher.fast_field_values("chunk", [address for _, address in hits])
        scored_chunks = [
            (-float(hit[0]), int(chunk)) for chunk, hit in zip(chunks, hits, strict=True) if chunk is not None
        ]
        return [(chunk, -negative) for negative, chunk in sorted(scored_chunks)[:limit]]

    def postings(
        self, tokens: Sequence[tuple[str, str]], limit: int, files: Sequence[str] | None
    ) -> list[frozenset[int] | None]:
        """Return, for each term of a field, the chunks that contain it, or ``None`` if there are more than ``limit``.

        ``files`` limits the chunks to those of these files. Raises `DamagedIndex` if the index cannot be read.
        """
        with _damage():
            searcher = self._index.searcher()
            return [self._chunks(searcher, field, term, limit, files) for field, term in tokens]

    def _chunks(
        self, searcher: tantivy.Searcher, field: str, term: str, limit: int, files: Sequence[str] | None
    ) -> frozenset[int] | None:
        document_count = searcher.doc_freq(field, term)
        if not 0 < document_count <= limit:
            return None if document_count else frozenset()
        query = self._among(Query.term_query(self._schema, field, term, "basic"), files)
        hits = searcher.search(query, limit=limit, count=False).hits
        chunks = searcher.fast_field_values("chunk", [address for _, address in hits])
        return frozenset(int(chunk) for chunk in chunks if chunk is not None)

    def _query(
        self,
        searcher: tantivy.Searcher,
        terms: Terms,
        glossed_words: Sequence[GlossedWord],
        files: Sequence[str] | None,
    ) -> Query:
        parts = [
            *self._clauses(terms),
            *name_clauses(searcher, self._schema, terms, GRAM_WEIGHT),
            *((Occur.Should, self._gloss_query(searcher, word)) for word in glossed_words if word.glosses),
        ]
        return self._among(Query.boolean_query(parts), files)

    def _clauses(self, terms: Terms) -> list[tuple[Occur, Query]]:
        fields = (
            ("words", terms.words, 1.0),
            ("grams", terms.grams, GRAM_WEIGHT),
            ("heads", terms.words, HEADING_WEIGHT),
        )
        return [
            (Occur.Should, Query.boost_query(Query.term_query(self._schema, field, term, "freq"), weight))
            for field, field_terms, weight in fields
            for term in field_terms
        ]

    def _gloss_query(self, searcher: tantivy.Searcher, word: GlossedWord) -> Query:
        """Return a query for the glosses of a word, of which the best match counts. The score of a gloss of several
        words grows with the square root of their number, so that long glosses do not outweigh short ones.
        """
        queries: list[Query] = []
        for gloss in word.glosses:
            terms = analyse_question(gloss)
            if any(searcher.doc_freq("words", term) for term in terms.words):
                query = Query.boolean_query(self._clauses(terms))
                queries.append(Query.boost_query(query, 1 / math.sqrt(len(terms.words))))
            if len(queries) == MAX_SEARCHED_GLOSSES:
                break
        weight = 1.0 if len(self._languages) == 1 else MIXED_GLOSS_WEIGHT
        return (
            Query.boost_query(Query.disjunction_max_query(queries), weight)
            if queries
            else Query.empty_query()
        )

    def _among(self, query: Query, files: Sequence[str] | None) -> Query:
        """Return ``query``, limited to chunks of ``files`` if given."""
        if files is None:
            return query
        allowed_query = Query.const_score_query(Query.term_set_query(self._schema, "file", list(files)), 0.0)
        return Query.boolean_query([(Occur.Must, query), (Occur.Must, allowed_query)])


@lru_cache(HEADING_CACHE_SIZE)
def _heading_terms(head: str) -> str:
    """Return the words of headings, joined with spaces."""
    return analyse(head).joined()[0]


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder().add_unsigned_field("chunk", indexed=True, fast=True)
    builder.add_text_field("file", tokenizer_name="raw", index_option="basic")
    for name in TEXT_FIELDS:
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
    for name in NAME_FIELDS:
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="basic")
    # The log offset is stored as a document of the file "", so that a commit writes either both the offset
    # and the changes or neither.
    builder.add_text_field("mark", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


@contextmanager
def _damage() -> Iterator[None]:
    """Convert tantivy's errors for unreadable files to `DamagedIndex`; a full disk remains an `OSError`."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        if "No space left" in str(error) or "StorageFull" in str(error):
            raise OSError(28, str(error)) from error
        raise DamagedIndex(str(error)) from error
    except FileNotFoundError as error:
        raise DamagedIndex(str(error)) from error
    except BaseException as error:
        # A panic inside tantivy, which does not derive from Exception, means that tantivy cannot process the
        # index.
        if type(error).__name__ == "PanicException":
            raise DamagedIndex(str(error)) from error
        raise


def _verify(folder: Path) -> None:
    """Compare each file of the committed segments with its checksum, because tantivy writes checksums but does not
    verify them.

    The last 8 bytes of a file are the length of its footer and a magic number. They follow the footer, a JSON document
    with the CRC32 of everything before the footer. Raises `DamagedIndex` that names the file.
    """
    meta = json.loads((folder / "meta.json").read_bytes())
    for segment in meta["segments"]:
        name = segment["segment_id"].replace("-", "")
        deletes = segment.get("deletes")
        dead = f"{name}.{deletes['opstamp']}.del" if deletes else None
        for path in folder.glob(f"{name}.*"):
            if path.name.endswith(".temp") or (path.suffix == ".del" and path.name != dead):
                continue  # a file that an earlier commit left behind
            if not _intact(path):
                raise DamagedIndex(f"{path.name} does not match its checksum")


def _intact(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < 8:
            return False
        file.seek(size - 8)
        length, magic = (int.from_bytes(file.read(4), "little") for _ in range(2))
        if magic != _FOOTER_MAGIC_NUMBER or length > size - 8:
            return False
        body = size - 8 - length
        file.seek(body)
        expected_crc = json.loads(file.read(length))["crc"]
        file.seek(0)
        crc = 0
        while body > 0:
            piece = file.read(min(body, 1 << 20))
            crc = zlib.crc32(piece, crc)
            body -= len(piece)
    return bool(crc == expected_crc)
