"""Turn a text corpus of any size into an explorable, labelled map."""

__version__ = "0.1.0"
