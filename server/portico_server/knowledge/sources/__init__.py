"""Sources besides folders: addresses on the web and buckets that speak S3's protocol. May import what knowledge may.

`spec` reads what a store is to follow, `web` and `bucket` are the sources, `listing` and `signature` what they need.
"""
