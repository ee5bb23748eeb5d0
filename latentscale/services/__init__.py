"""Client of HTTP services for embeddings and labels: requests with retries, rate limits, and spending."""
