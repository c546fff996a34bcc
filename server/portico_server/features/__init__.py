"""Parts of the daemon that are imported when something needs them. `portico_server.feature_table` lists them."""
