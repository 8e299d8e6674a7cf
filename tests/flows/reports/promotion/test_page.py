"""The page and its short form: what must be on them, that untrusted text is harmless, and their size and equality."""

import re
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from flows.reports.digest import escape
from flows.reports.promotion.composition import evidence_of
from flows.reports.promotion.evidence import Evidence
from flows.reports.promotion.page import html_page, markdown_page
from flows.reports.worth import worth_lines
from tests.fakes.hostile import HOSTILE, active_signs, elements_of
from tests.flows.reports.promotion.synthetic import failing, review_inputs

MOST_BYTES, MOST_MARKDOWN_BYTES = 2_000_000, 60_000
# SVG and HTML that a page without scripts, requests and forms is made of.
DRAWN = {"svg", "g", "path", "text", "tspan", "use", "defs", "clippath", "rect", "title", "desc"}
WRITTEN = {
    *{"html", "head", "meta", "style", "body", "header", "main", "footer", "section", "nav", "article", "figure"},
    *{"figcaption", "details", "summary", "h1", "h2", "h3", "p", "a", "b", "i", "br", "code", "pre", "span", "small"},
    *{"div", "dl", "dt", "dd", "ol", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td"},
}


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, its texts, and what is left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return evidence_of(review_inputs())


@pytest.fixture(scope="module")
def html(evidence: Evidence) -> str:
    return html_page(evidence)


def test_above_the_fold_are_verdict_numbers_gate_cause_and_commands(html, evidence):
    text = Page(html).text
    places = [
        text.index(part)
        for part in (
            "Router 42 → champion? (replaces router 41)",
            "Gate passed",
            "score at equal cost",
            "cost at equal score",
            "prompts that change their LLM",
            "gate prompts with a score from every LLM",
            f"uniroute promotion approve {evidence.challenger.digest[:12]}",
            f"uniroute promotion rollback --to {evidence.champion.digest[:12]}",
            "Each new LLM is left out",
            "Score against cost",
        )
    ]
    assert places == sorted(places)
    assert text.count("95 %:") == 3


def test_every_part_of_the_report_is_there(html, evidence):
    page = Page(html)
    ids = page.attributes("id")
    assert {
        "gate",
        "why",
        "curves",
        "errors",
        "traffic",
        "prompts",
        "topics",
        "new",
        "money",
        "certainty",
        "limits",
    } <= {*ids}
    assert {
        "figure-deferral",
        "figure-frontier",
        "figure-heat",
        "figure-shift",
        "figure-agreement",
        "figure-trend",
    } <= {*ids}
    assert {f"cluster-{cluster.number}" for cluster in evidence.clusters} <= {*ids}
    assert {f"prompt-{change.digest[:12]}" for change in evidence.changes} <= {*ids}
    for text in ("refused_content 2", "median 1.24 s", "gap +3.0 points", "3.8400 of 10.00", "hatched cells"):
        assert text in page.text
    assert "Prices that no catalog has confirmed for more than 7 days: maker/llm-05" in page.text
    assert all(sentence in page.text for sentence in evidence.limitations)
    worth = worth_lines(evidence.worth)
    assert worth[0].startswith("Against always using the best single LLM (")
    assert all(" ".join(line.split()) in page.text for line in worth)
    assert all(escape(line, 400) in markdown_page(evidence, "0" * 64) for line in worth)


def test_links_within_the_page_lead_somewhere_and_no_identifier_is_given_twice(html):
    page = Page(html)
    ids = Counter(page.attributes("id"))
    assert [name for name, times in ids.items() if times > 1] == []
    anchors = page.attributes("href") + page.attributes("xlink:href")
    assert anchors and all(anchor.startswith("#") and anchor[1:] in ids for anchor in anchors)
    assert all(name in ids for names in page.attributes("aria-labelledby") for name in names.split())


def test_every_figure_says_how_to_read_it_what_it_rests_on_and_what_not_to_conclude(html):
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        text = Page(figure).text
        assert re.search(r"n = \d+", text) and "Caution:" in text
        assert "<table" in figure
        if "<svg" in figure:
            assert re.search(r'<svg role="img" aria-labelledby="(\w+)-title \1-desc"', figure)
            assert re.search(r"<title[^>]*>[^<]{5,}</title><desc[^>]*>[^<]{5,}</desc>", figure)


def test_the_page_has_no_script_and_makes_no_request(html):
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= DRAWN | WRITTEN
    assert not [
        name for _, attrs in page.elements for name in attrs if name.startswith("on") or name in ("src", "srcset")
    ]
    policies = [
        attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    addresses = set(re.findall(r"[a-z]+://[^\"'\s<]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html


def test_colours_are_the_pages_own_so_that_light_and_dark_both_work(html):
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        assert not re.findall(r"#[0-9a-fA-F]{6}\b(?!\))", re.sub(r'(href|url\()="?#[^")]*', "", drawing))
        assert "var(--" in drawing


def test_the_same_inputs_give_the_same_bytes(html):
    assert html_page(evidence_of(review_inputs())) == html
    assert html_page(evidence_of(review_inputs(seed=1))) != html


def test_a_failed_check_comes_first_and_is_named_in_the_verdict():
    evidence = evidence_of(failing(review_inputs()))
    page = Page(html_page(evidence))
    assert not evidence.checks[0].passed
    assert "Gate failed" in page.text and "The gate refuses it: score at the champion's cost" in page.text
    assert "FAILED" in markdown_page(evidence, "0" * 64)


def test_the_first_router_has_a_report_without_a_comparison():
    evidence = evidence_of(review_inputs(has_champion=False))
    html = html_page(evidence)
    assert "No router serves yet" in html
    assert "replaces" not in Page(html).text
    assert "uniroute promotion rollback --reason" in markdown_page(evidence, "0" * 64)
    assert not {"figure-shift", "traffic", "prompts", "why"} & {*Page(html).attributes("id")}


def test_f102_hostile_names_prompts_and_completions_are_harmless(html):
    """Every string of the corpus is the name of an LLM, the end of prompts and completions, and a fact of a new LLM."""
    texts = tuple(HOSTILE.values())
    given = review_inputs(3 * len(texts), len(texts), n_new=len(texts) // 2, suffixes=texts)
    hostile = [
        replace(given.new_llms[0], name=text, catalog=text, served_as=(text,), drift=text, failures=((text, 1),))
        for text in texts
    ]
    evidence = evidence_of(replace(given, new_llms=tuple(hostile)))
    page = html_page(evidence)
    plain, found = Page(html), Page(page)
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in plain.elements}
    assert {name for _, attrs in found.elements for name in attrs} <= {n for _, attrs in plain.elements for n in attrs}
    assert all(anchor.startswith("#") for anchor in found.attributes("href") + found.attributes("xlink:href"))
    assert not active_signs(page)
    page.encode()
    short = markdown_page(evidence, "0" * 64)
    assert elements_of(short) == elements_of(markdown_page(evidence_of(review_inputs()), "0" * 64))
    assert not active_signs(short)
    assert len(short.encode()) < MOST_MARKDOWN_BYTES


def test_412_prompts_and_40_llms_make_a_small_page_quickly(capsys):
    given = review_inputs(412, 40, n_new=5, n_clusters=24, answer="Let us think at length. " * 60)
    started_s = time.process_time()
    evidence = evidence_of(given)
    html = html_page(evidence)
    took_s = time.process_time() - started_s
    n_bytes, n_short = len(html.encode()), len(markdown_page(evidence, "0" * 64).encode())
    with capsys.disabled():
        print(
            f"\nreport of 412 prompts x 40 LLMs: {n_bytes:,} bytes, Markdown {n_short:,} bytes, {took_s:.2f} s of CPU"
        )
    assert n_bytes < MOST_BYTES
    assert n_short < MOST_MARKDOWN_BYTES
    assert took_s < 5
