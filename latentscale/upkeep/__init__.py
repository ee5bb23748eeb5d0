"""Maintenance of a workspace: verification, garbage collection, migration, inspection."""
