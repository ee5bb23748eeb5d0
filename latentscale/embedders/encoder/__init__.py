"""The transformer encoder: its checks, its precision, its batches and the model itself, which alone imports torch."""
