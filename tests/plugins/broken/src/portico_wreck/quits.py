"""Ends the program that imports it."""

raise SystemExit("no licence")
