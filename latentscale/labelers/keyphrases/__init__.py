"""Labels from the words and phrases that set clusters apart, by class-based TF-IDF."""
