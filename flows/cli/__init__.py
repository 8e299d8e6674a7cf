"""The `uniroute` command."""
