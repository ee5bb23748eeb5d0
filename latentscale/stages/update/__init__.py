"""Update: place new documents on a map, and extend the map with them."""
