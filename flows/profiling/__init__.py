"""Plan which LLMs are asked what, ask them, and record their answers."""
