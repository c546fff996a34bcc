"""Canaries: aliases whose calls are split between two targets. May import runs, db and core.

The composition root injects the function that judges answers.
"""
