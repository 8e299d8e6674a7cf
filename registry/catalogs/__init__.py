"""What catalogs list: how several are combined (`offers`), recorded (`fetches`), and what changed (`diffs`)."""
