"""All access to disks and buckets: objects, parquet, inputs, snapshots, artifacts."""
