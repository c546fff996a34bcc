"""The terminal UI: a screen for each noun of a running daemon.

``daemon`` speaks to the daemon, ``link`` keeps the line to it, ``screens`` are what one sees, ``widgets`` what they
are made of. Imports Textual and the client.
"""
