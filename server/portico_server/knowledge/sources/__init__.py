"""What a store can follow: a folder, addresses on the web, a bucket that speaks S3. May import what knowledge may.

`spec` parses what a store follows. `folder`, `web` and `bucket` are sources; `pages`, `listing`, `fetch` and `etags`
serve them.
"""
