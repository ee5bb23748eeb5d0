"""Benchmarks: every number in the docs comes from a case here, measured beside a named baseline in the same run."""
