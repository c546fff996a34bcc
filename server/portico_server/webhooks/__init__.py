"""Webhooks: who is notified of finished work, and the task that sends the events. Imports only ``db`` and ``core``.

``db`` writes the events, in the transactions that finish the work.
"""
