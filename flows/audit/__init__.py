"""Answers for auditors: which router served when and why, whether the evidence is intact, whether it can be rebuilt."""
