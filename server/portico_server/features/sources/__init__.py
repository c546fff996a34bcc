"""Sources that a store can follow, such as a folder, web addresses, a bucket, a repository or a mailbox.

`spec` parses the source of a store. `folder`, `web`, `bucket`, `repository`, `webdav` and `mailbox` are sources;
`pages`, `listing` and `fetch` support them.
"""
