"""Services that are asked over HTTP, whatever for: one request and its endings, the pace, what it costs."""
