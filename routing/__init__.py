"""The mathematics: prompts in, decision out. No database, no network, no clock."""
