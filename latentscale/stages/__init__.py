"""The stages of a map, one a module: ingest, embed, neighbors, project, cluster, label, publish."""
