"""Python packages apart from the daemon's own: built by uv in a draft beside their place, whole there or not there.

Heavy engines, notebooks and functions of the operator run in them. May import core alone.
"""
