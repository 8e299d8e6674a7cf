"""Day 0: what is expected of an LLM before its first answer, from facts that catalogs and names give away."""

from .regression import LEAST_KNOWN, DayZero, KnownFacts, LevelPrior, LLMFacts

__all__ = ["LEAST_KNOWN", "DayZero", "KnownFacts", "LLMFacts", "LevelPrior"]
