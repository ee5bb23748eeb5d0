"""Update: place documents that came later, and grow the map by them."""
