"""Chunk groups for which a model is asked, and the runs that generate them."""
