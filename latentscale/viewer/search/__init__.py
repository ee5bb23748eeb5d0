"""Full-text search on the page: an inverted index in small static files."""
