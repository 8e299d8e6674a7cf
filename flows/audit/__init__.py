"""Questions of auditors: which router served when and why, is the evidence intact, can it be computed again."""
