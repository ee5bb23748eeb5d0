"""Keep a workspace sound: verify, garbage collection, inspection."""
