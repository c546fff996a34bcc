"""The core of the daemon: servables, contexts, events, the registry, errors and ids. No I/O and no framework."""
