"""Python environments separate from the daemon's: uv builds each environment as a draft, which becomes visible only
when it is complete.

Large engines, notebooks and the operator's functions run in these environments. May import only core.
"""
