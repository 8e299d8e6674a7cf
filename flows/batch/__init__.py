"""Route files of prompts in constant memory."""
