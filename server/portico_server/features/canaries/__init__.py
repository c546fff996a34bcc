"""Canaries: aliases whose calls are split between two targets. May import runs, grading, db and core.

The composition root injects the functions that judge and read answers.
"""
