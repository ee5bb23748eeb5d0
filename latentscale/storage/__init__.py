"""The only code that touches a disk or a bucket: objects, parquet, inputs, snapshots, artifacts."""
