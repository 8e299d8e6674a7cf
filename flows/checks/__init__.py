"""What is checked before and between nights: preflight, settings, prompts, and the whole with `doctor`."""
