"""Numbers for people: the digest of a night and its figures."""
