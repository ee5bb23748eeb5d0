"""Look at a map: search, export, rejects, the local server."""
