"""The numerical stages on processors."""
