"""What a row says about itself that rules out routing: no chat LLM, not in service, another name of an LLM.

Servers that speak OpenAI's protocol add such facts to the rows of ``/v1/models`` in many ways; all that are known to be
in use are read here. A row that says nothing is a chat LLM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flows.catalogs.facts import display_name, lacks_text

NOT_CHAT: Final = "no chat LLM"
INACTIVE: Final = "not in service"

_OTHER_KINDS = re.compile(
    r"embed|image|audio|speech|tts|asr|whisper|transcri|translat|moderat|guard|rerank|ranker|video|diffusion|flumina|"
    r"classif|ocr|music|realtime|safety|detection|segment|feature.?extraction|similarity|^completions?$|^text.?completion",
    re.IGNORECASE,
)
_CHAT_KINDS = re.compile(
    r"chat|text.?(to.?)?text|text.?generation|language|llm|vlm|conversation|instruct|multimodal", re.I
)
_KIND_KEYS = (
    "type",
    "model_type",
    "modelType",
    "mode",
    "kind",
    "task",
    "category",
    "sub_type",
    "pipeline_tag",
    "usage",
)
_CHAT_FLAGS = (
    "completion_chat",
    "chat_completion",
    "chat_completions",
    "chat",
    "supports_chat",
    "supportsChat",
    "is_chat",
    "inference",
)
_ENDPOINT_KEYS = ("endpoints", "supported_endpoints", "supported_endpoint_types", "supportedGenerationMethods")
_CHAT_ENDPOINT = re.compile(r"chat|responses|messages|generatecontent|generate$|openai|anthropic|gemini", re.I)
_TRUE_WHEN_GONE = (
    "archived",
    "is_archived",
    "deprecated",
    "is_deprecated",
    "disabled",
    "is_disabled",
    "retired",
    "deleted",
)
_FALSE_WHEN_GONE = ("active", "is_active", "enabled", "is_enabled", "available", "is_available", "is_ready")
_STATUS_KEYS = ("status", "state", "lifecycle_status", "lifecycle", "availability")
_GONE = re.compile(
    r"^(inactive|disabled|deprecated|retired|archived|deleted|offline|unavailable|shut.?down|sunset|removed|suspended|"
    r"failed|error|eol|end.of.life|legacy_disabled|not.available|deleting|stopped)$",
    re.IGNORECASE,
)
_ALIAS_TARGETS = ("alias_target", "alias_of", "aliasOf", "alias_for", "aliased_to", "is_alias_of", "points_to")


def ruled_out(value: Mapping[str, Any]) -> str | None:
    """Return why a row says that it must not be routed to; None when it says nothing of the kind.

    Parameters
    ----------
    value
        The row as parsed.
    """
    if target := _alias_target(value):
        return f"alias of {target}"
    if _is_no_chat(value):
        return NOT_CHAT
    if _is_gone(value):
        return INACTIVE
    architecture = value.get("architecture")
    architecture = architecture if isinstance(architecture, dict) else {}
    read, arrow, written = str(architecture.get("modality") or "").partition("->")
    if arrow and "text" not in written:
        return "no text output"
    if arrow and "text" not in read:
        return "no text input"
    for place in (value, architecture):
        if any(lacks_text(place.get(key)) for key in ("output_modalities", "supported_output_modalities")):
            return "no text output"
        if any(lacks_text(place.get(key)) for key in ("input_modalities", "supported_input_modalities")):
            return "no text input"
    return None


def _alias_target(value: Mapping[str, Any]) -> str | None:
    for key in _ALIAS_TARGETS:
        target = value.get(key)
        if isinstance(target, dict):
            target = target.get("slug") or target.get("id")
        if target is not None and target != "" and target is not False and target != value.get("id"):
            return display_name(target, "another LLM")
    return "another LLM" if value.get("is_alias") is True else None


def _is_no_chat(value: Mapping[str, Any]) -> bool:
    kinds = [word for key in _KIND_KEYS for word in _words(value.get(key))]
    capabilities = value.get("capabilities")
    if isinstance(capabilities, dict):
        flags = [capabilities[key] for key in _CHAT_FLAGS if isinstance(capabilities.get(key), bool)]
        if flags and not all(flags):
            return True
        kinds += _words(capabilities.get("type"))
    elif isinstance(capabilities, list) and capabilities:
        named = _words(capabilities)
        if named and all(map(_OTHER_KINDS.search, named)) and "completion" not in named:
            return not any(map(_CHAT_KINDS.search, named))
    if any(value.get(key) is False for key in _CHAT_FLAGS):
        return True
    if any(_OTHER_KINDS.search(kind) for kind in kinds) and not any(map(_CHAT_KINDS.search, kinds)):
        return True
    for key in _ENDPOINT_KEYS:
        endpoints = _words(value.get(key))
        if endpoints and not any(map(_CHAT_ENDPOINT.search, endpoints)):
            return True
    return False


def _is_gone(value: Mapping[str, Any]) -> bool:
    if any(value.get(key) is True for key in _TRUE_WHEN_GONE):
        return True
    if any(value.get(key) is False for key in _FALSE_WHEN_GONE):
        return True
    return any(_GONE.search(word) for key in _STATUS_KEYS for word in _words(value.get(key)))


def _words(value: Any) -> list[str]:
    """Return the words of a value: text, the texts of a list, or the name of an object."""
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, dict):
        return _words(value.get("name") or value.get("value") or value.get("state"))
    if isinstance(value, Sequence):
        return [one.strip() for one in value if isinstance(one, str) and one.strip()]
    return []
