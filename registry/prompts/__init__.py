"""Prompts and frozen prompt sets: what every LLM is asked, and the roles that prompts keep."""

from registry.prompts.prompt_sets import (
    MEASURING_ROLES,
    Member,
    Prompt,
    PromptSet,
    RoleShares,
    StoredRoles,
    prompt_set_of,
)
from registry.prompts.prompts import EmbeddingBlock, Prompts, require_known

__all__ = [
    "MEASURING_ROLES",
    "EmbeddingBlock",
    "Member",
    "Prompt",
    "PromptSet",
    "Prompts",
    "RoleShares",
    "StoredRoles",
    "prompt_set_of",
    "require_known",
]
