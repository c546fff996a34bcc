"""Schedules: apps that run, and stores that sync, at given times.

Apps are called by name, through the context of a run.
"""
