"""A package from outside, as ``docs/extend.md`` describes it: an embedder and a backend that compute with torch."""
