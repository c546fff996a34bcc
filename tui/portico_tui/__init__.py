"""The terminal UI: Models, Documents and Chat against a running daemon.

``daemon`` speaks to the daemon, ``link`` keeps the line to it, ``screens`` are what one sees, ``widgets`` what they
are made of. Imports Textual, the client (``daemon`` alone) and the client's words for a terminal (``text`` alone).
"""
