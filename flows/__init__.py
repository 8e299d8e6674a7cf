"""The night: what touches the outside, and the orchestration over it."""
