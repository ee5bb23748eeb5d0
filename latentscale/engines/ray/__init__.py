"""The engine that runs stages on a Ray cluster."""
