"""Answers by quotation: which sentences of the passages answer a question, if any.

Imports only the core and the wire; the first answer imports NumPy.
"""
