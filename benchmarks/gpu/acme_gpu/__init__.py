"""An external package, as described in ``docs/extend.md``: an embedder and a backend that compute with torch."""
