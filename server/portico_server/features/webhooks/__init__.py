"""Webhooks: who is notified when work is finished, and the task that sends the events.

``db`` writes the events in the transactions that finish the work.
"""
