"""Every execution is a Run: an id, a status, events in order, a result, cancellation, a usage row.

Can import db and core. Knows Servables only by their protocol.
"""
