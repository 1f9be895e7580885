"""The `zapgate` command."""
