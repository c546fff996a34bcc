"""The native face at ``/api``, one file per resource: FastAPI routers over the daemon's parts."""
