"""Every request the SDK can make, by noun. Nothing here does I/O: `portico._transport` sends them."""
