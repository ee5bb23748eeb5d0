"""The backend ``cuml``: UMAP, HDBSCAN and DBSCAN of cuML, and the all-neighbours graph of cuVS (RAPIDS)."""
