"""Schedules: apps that run, and stores that sync, at given times. Imports only ``runs``, ``db`` and ``core``.

Apps are called by name, through the context of a run; the composition root injects the sync of stores.
"""
