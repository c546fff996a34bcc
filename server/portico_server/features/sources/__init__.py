"""Sources that a store can follow, such as a folder, web addresses, a bucket, a repository or a mailbox. May import
what the knowledge package may import.

`spec` parses the source of a store. `folder`, `web`, `bucket`, `repository`, `webdav` and `mailbox` are sources;
`pages`, `listing` and `fetch` support them.
"""
