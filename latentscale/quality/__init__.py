"""Quality of a map: metrics, figures and drift since its fit."""
