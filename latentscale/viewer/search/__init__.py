"""The words of a map's documents as small static files, in which the page finds documents."""
