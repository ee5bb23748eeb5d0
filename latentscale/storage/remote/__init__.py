"""Remote stores; the only code that touches fsspec."""
