"""How far a map can be trusted: metrics, what is measured of a map, and drift since its fit."""
