"""The Portico daemon. ``app.py`` puts the parts together; everything below it points downwards only."""

__version__ = "0.1.0"
