"""What a store can follow: a folder, addresses on the web, a bucket that speaks S3, a Git repository. May import what
knowledge may.

`spec` parses what a store follows. `folder`, `web`, `bucket` and `repository` are sources; `pages`, `listing` and
`fetch` serve them.
"""
