"""The backend beside torch's that calls RAPIDS: cuML's UMAP, HDBSCAN and DBSCAN, and cuVS's graph of all neighbours."""
