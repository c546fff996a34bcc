"""Evaluations: items that any named object answers, graded answers, and searches for the best settings.

May import runs, grading, db and core. The protocols in core provide what evaluations need from apps.
"""
