"""Zip archives as streams: written piece by piece, read only after their outside has been checked.

Stores travel in them, and backups. May import core.
"""
