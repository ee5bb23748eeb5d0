"""The checks of verify: shards, receipts, snapshots, artifacts, maps."""
