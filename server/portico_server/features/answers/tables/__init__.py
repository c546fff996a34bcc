"""Answers computed from tables: a question becomes one query by rules, or no query if anything in it is unclear.

``lexicon`` has the words, ``items`` divides a question into them, ``rules`` builds the query, ``wording`` writes the
answer.
"""
