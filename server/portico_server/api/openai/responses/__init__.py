"""``/v1/responses`` as HTTP; what a response is and does lives in `portico_server.apps.responses`."""
