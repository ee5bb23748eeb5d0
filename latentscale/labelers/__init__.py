"""What names clusters: keyphrases counted from their texts, and exemplars chosen from their vectors."""
