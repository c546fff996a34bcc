"""Sources that a store can follow: a folder, web addresses, a bucket, a repository, a mailbox. May import what
knowledge may.

`spec` parses the source of a store. `folder`, `web`, `bucket`, `repository`, `webdav` and `mailbox` are sources;
`pages`, `listing` and `fetch` support them.
"""
