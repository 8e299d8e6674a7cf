"""The head of settings files for quick nights: where prompts are and for what, and an embedder without a download."""

QUICK = """
home = "home"
[prompts]
file = "prompts.jsonl"
map = 0.2
representative = 0.4
gate = 0.3
hidden = 0.1
[embedder]
name = "hashing-256"
"""
