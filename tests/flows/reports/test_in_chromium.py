"""Every page in a real browser: narrow and wide, light and dark, without overflow, errors, requests or faint texts."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from flows.reports.leaderboard import Leaderboard, Place, leaderboard_html
from flows.reports.night_record import CatalogRecord, NightRecord, NightRouterRecord, ProfileRecord
from flows.reports.nights import night_html
from flows.reports.past_night import PastNight
from flows.reports.promotion.composition import evidence_of
from flows.reports.promotion.page import html_page
from registry.runs import Run
from tests.fakes.hostile import HOSTILE
from tests.flows.reports.promotion.synthetic import failing, review_inputs

LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, for text of any size

# Boxes that stick out of the window, except inside something that scrolls by itself or is visually hidden.
STICKING_OUT = """
const found = [];
for (const box of document.body.querySelectorAll("*")) {
  if (box.closest(".scroll > *, pre.cmd") || box.closest("[style*='clip-path']")) continue;
  const place = box.getBoundingClientRect();
  if (place.width && (place.right > innerWidth + 1 || place.left < -1)) found.push(box.tagName + " " + box.className);
}
return found;
"""
# Texts with too little contrast to what is behind them; colours come as rgb() or, when they were mixed, as color().
FAINT = """
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const parse = (text) => {
  const all = numbers(text.replace("srgb", ""));
  const scale = text.startsWith("color") ? 255 : 1;
  return {rgb: all.slice(0, 3).map((value) => value * scale), alpha: all.length > 3 ? all[3] : 1};
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (box) => {
  for (let at = box; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.alpha > 0.99) return colour.rgb;
  }
  return parse(getComputedStyle(document.documentElement).backgroundColor).rgb;
};
const found = [];
for (const box of document.body.querySelectorAll("*")) {
  const own = [...box.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own.length || !box.getClientRects().length || box.closest("title, desc, [style*='clip-path']")) continue;
  const isDrawn = box.namespaceURI.endsWith("svg");
  const style = getComputedStyle(box);
  const [one, other] = [luminance(parse(isDrawn ? style.fill : style.color).rgb), luminance(behind(box))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const words = own[0].textContent.trim().slice(0, 30);
  if (contrast < LEAST) found.push([contrast.toFixed(2), box.tagName, box.className, words].join(" "));
}
return found;
"""


def review() -> str:
    return html_page(evidence_of(review_inputs(150, 24, n_new=3, n_clusters=16)))


def refused() -> str:
    return html_page(evidence_of(failing(review_inputs(150, 6))))


def first() -> str:
    return html_page(evidence_of(review_inputs(150, 6, has_champion=False)))


def hostile() -> str:
    texts = tuple(HOSTILE.values())
    return html_page(evidence_of(review_inputs(2 * len(texts), len(texts), n_new=5, suffixes=texts)))


def leaderboard() -> str:
    places = [
        Place(
            f"east:maker/{'a-rather-long-name-of-an-llm' * (at % 2 + 1)}-{at}",
            f"LLM {at}",
            date(2026, 11, 1),
            "available",
            400,
            412,
            0.9 - at / 50,
            0.85 - at / 50,
            0.93 - at / 50,
            0.0001 * (at + 1),
            0.05,
            at % 3,
            date(2026, 11, 22),
            at / 200,
        )
        for at in range(20)
    ]
    return leaderboard_html(Leaderboard("core", "7" * 64, 412, 24, tuple(places)))


def night() -> str:
    now = datetime(2026, 11, 22, 2, 40, tzinfo=UTC)
    run = Run(
        1,
        f"night:2026-11-22:{'a' * 12}",
        date(2026, 11, 22),
        "attention",
        1,
        1,
        "s" * 64,
        "{}",
        "p" * 64,
        "host",
        7,
        now,
        now,
        "Night 2026-11-22 finished — 1 thing needs attention",
        "{}",
    )
    check = {"name": "LLMs to choose from", "value": "16", "threshold": "at least 2", "passed": True}
    record = NightRecord(
        catalogs=(CatalogRecord("openrouter", new=("east:maker/new",) * 12),),
        profiles=(ProfileRecord("east:maker/new", True, 412, 400, spent_usd=0.4, coverage=0.97, mean_score=0.7),),
        router=NightRouterRecord(
            digest="d" * 64,
            n_llms=16,
            promotion="promoted",
            gate={"checks": [check]},
        ),
        attention=("east:maker/new is incomplete: " + "payment required " * 8,),
    )
    return night_html(PastNight(run, record, 4021, Decimal("3.84"), {"east": Decimal("3.84")}))


PAGES: dict[str, Callable[[], str]] = {
    made.__name__: made for made in (review, refused, first, hostile, leaderboard, night)
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, made in PAGES.items():
        (folder / f"{name}.html").write_text(made(), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


def show(chromium: Chrome, page: Path, width: int, scheme: str) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wish = {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(page.as_uri())


def requests_of(chromium: Chrome) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    return {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_is_legible_and_silent(chromium, files, name: str, width: int, scheme: str) -> None:
    show(chromium, files[name], width, scheme)
    assert chromium.execute_script("return innerWidth") == width
    chromium.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    assert chromium.execute_script(STICKING_OUT) == []
    assert chromium.execute_script(FAINT.replace("LEAST", str(LEAST_CONTRAST))) == []
    paper = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    assert requests_of(chromium) <= {files[name].as_uri()}


def test_scripts_that_got_onto_a_page_would_not_run(chromium, files, tmp_path) -> None:
    """The page's content security policy is a second line of defence."""
    page = tmp_path / "broken.html"
    attack = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    page.write_text(files["review"].read_text().replace("</main>", f"{attack}</main>"))
    show(chromium, page, 1280, "light")
    assert chromium.title.startswith("Router 42")
    said = [entry["message"] for entry in chromium.get_log("browser")]
    assert sum("Content Security Policy" in message for message in said) >= 2


def test_the_report_prints_with_what_is_folded(chromium, files) -> None:
    show(chromium, files["review"], 1280, "dark")
    printed = chromium.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(base64.b64decode(printed["data"])) > 100_000
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    folded = "[...document.querySelectorAll('details > :not(summary)')]"
    heights = chromium.execute_script(f"return {folded}.map((one) => one.getBoundingClientRect().height)")
    assert heights and all(height > 0 for height in heights)
    assert chromium.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
