"""``/v1/responses`` over HTTP; the response logic is in `portico_server.features.responses`."""
