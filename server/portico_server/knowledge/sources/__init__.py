"""What a store can follow: a folder, addresses on the web, a bucket, a repository, a mailbox. May import what
knowledge may.

`spec` parses what a store follows. `folder`, `web`, `bucket`, `repository`, `webdav` and `mailbox` are sources;
`pages`, `listing` and `fetch` serve them.
"""
