"""Evaluations: items asked of anything with a name, answers judged, and searches over the settings of what is asked.

May import runs, grading, db and core. What it needs of apps comes through the protocols in core.
"""
