"""Schedules: apps that run, and stores that sync, at given times. Imports ``runs``, ``db`` and ``core`` alone.

Apps are called by name, through the context of a run; what syncs a store is put in by the composition root.
"""
