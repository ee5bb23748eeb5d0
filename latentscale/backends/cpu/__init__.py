"""The numerical stages on processors: neighbours, layouts, clusters, densities and outlines, a module each."""
