"""The backend for GPUs in PyTorch: one code for CUDA, Apple's Metal and, to prove it, processors."""
