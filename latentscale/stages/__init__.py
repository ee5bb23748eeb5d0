"""The stages of a map, one module each: ingest, embed, neighbors, project, cluster, label, publish."""
