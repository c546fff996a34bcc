"""Every execution is a Run: an id, a status, events in order, a result, cancel, a usage row.

May import db and core. Knows Servables by their protocol alone.
"""
