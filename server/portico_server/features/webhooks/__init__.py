"""Webhooks: who is notified when work is finished, and the task that sends the events. Imports only ``db`` and
``core``.

``db`` writes the events in the transactions that finish the work.
"""
