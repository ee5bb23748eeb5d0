"""Transformer encoders in torch: validation, precision, batching and the model."""
