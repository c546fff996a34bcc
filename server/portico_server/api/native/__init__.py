"""The native protocol adapter at ``/api``, one file per resource: FastAPI routers over the daemon's parts."""
