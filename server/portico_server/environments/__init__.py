"""Python environments separate from the daemon's: uv builds each as a draft, and it appears complete or not at all.

Heavy engines, notebooks and the operator's functions run in them. May import only core.
"""
