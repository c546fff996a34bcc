"""Answers by quotation: which sentences of the passages answer a question, and whether any does.

Imports the core and the wire alone; NumPy is imported by the first answer.
"""
