"""Promotion reports in the home folder: built from the registry, kept by digest, and found again."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.reports.promotion.composition import evidence_of
from flows.reports.promotion.evidence import Evidence
from flows.reports.promotion.gathering import Gathering, Subject
from flows.reports.promotion.page import html_page, markdown_page
from flows.versions.store import REVIEW, publication_folder
from flows.workspace import Workspace
from registry.promotions import Promotion
from routing.errors import UnirouteError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Review:
    """A promotion report as a reviewer sees it.

    Attributes
    ----------
    evidence
        Its content.
    html
        The page.
    """

    evidence: Evidence
    html: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the page."""
        return hashlib.sha256(self.html.encode()).hexdigest()

    @cached_property
    def markdown(self) -> str:
        """The short form, which names the digest of the page."""
        return markdown_page(self.evidence, self.digest)


@dataclass(frozen=True)
class Attempt:
    """The result of writing a report: its digest and path, or why there is none."""

    digest: str | None = None
    path: Path | None = None
    error: str = ""


def build_review(workspace: Workspace, subject: Subject) -> Review:
    """Build the report of a subject from what registry and router folders hold.

    Raises
    ------
    NotFound
        There is no such router, or the ledger does not say what it was made from.
    PrerequisiteError
        There is nothing to compare on.
    """
    evidence = evidence_of(Gathering(workspace, subject).inputs())
    return Review(evidence, html_page(evidence))


def write_review(workspace: Workspace, subject: Subject) -> Review:
    """Build a report and keep it beside what is published of the router; an earlier one stays, named by its digest."""
    review = build_review(workspace, subject)
    folder = publication_folder(workspace, subject.router_digest)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / REVIEW[0]
    if page.is_file() and (earlier := _digest_of(page)) != review.digest:
        page.replace(folder / f"review-{earlier[:12]}.html")
    for name, text in zip(reversed(REVIEW), (review.markdown, review.html), strict=True):
        draft = folder / f"{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / name)
    return review


def attempt_review(workspace: Workspace, subject: Subject) -> Attempt:
    """Write a report, or return why there is none: the gate decides, and no night fails for lack of a page."""
    try:
        review = write_review(workspace, subject)
    except Exception as error:
        _LOG.exception("no promotion report for router %s", subject.router_digest[:12])
        reason = error.message if isinstance(error, UnirouteError) else f"{type(error).__name__} (see the log)"
        return Attempt(error=reason)
    return Attempt(review.digest, publication_folder(workspace, subject.router_digest) / REVIEW[0])


def kept_review(workspace: Workspace, promotion: Promotion) -> Path | None:
    """Return the page that a promotion names by its digest; None when it is not on this machine or was changed."""
    pages = kept_reviews(workspace, promotion.router_digest)
    return next((page for page in pages if _digest_of(page) == promotion.report_digest), None)


def kept_reviews(workspace: Workspace, router_digest: str) -> tuple[Path, ...]:
    """Return all pages kept for a router, one for each of its promotions."""
    return tuple(sorted(publication_folder(workspace, router_digest).glob("review*.html")))


def subject_of(promotion: Promotion) -> Subject:
    """Return the subject of a promotion's report, at the time of its request."""
    gate: dict[str, Any] = json.loads(promotion.gate.details_json)
    return Subject(promotion.router_digest, promotion.expected_champion, gate, promotion.requested_at)


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
