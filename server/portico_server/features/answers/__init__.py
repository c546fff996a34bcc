"""Answers from stores: a model that cites passages, or quotations, and values computed from tables.

The first answer imports NumPy.
"""
