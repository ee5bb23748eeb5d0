"""The numerical stages on CPUs: neighbours, layouts, clusters, densities and outlines, a module each."""
