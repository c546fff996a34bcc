"""Canaries: aliases whose calls are split between two targets. Imports only ``runs``, ``db`` and ``core``.

The composition root injects the judge of answers.
"""
