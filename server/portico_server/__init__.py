"""The Portico daemon: ``assembly.py`` assembles the parts, ``app.py`` runs them; all other imports point downwards."""

__version__ = "0.1.0"
