"""Zip archives as streams: written piece by piece, and read only after their structure has been checked.

Used for store exports and backups. May import core.
"""
