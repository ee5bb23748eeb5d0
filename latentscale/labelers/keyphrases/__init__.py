"""Labels from distinctive words and phrases of clusters, by class-based TF-IDF."""
