"""Canaries: an alias whose calls are split between two targets. Imports ``runs``, ``db`` and ``core`` alone.

What judges answers is put in by the composition root.
"""
