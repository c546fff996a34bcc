"""The Portico daemon: ``assembly.py`` puts the parts together, ``app.py`` runs them; the rest points downwards only."""

__version__ = "0.1.0"
