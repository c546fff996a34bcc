"""HTTP APIs of batches, and the requests that batches send to the daemon itself."""
