"""The Portico daemon: ``assembly.py`` assembles the parts and ``app.py`` runs them. All other modules import only from
layers below their own.
"""

__version__ = "0.1.0"
