"""Reports in Chromium: they load without errors, figures show something, filters and enlarging work."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from reg_d2.report.gallery import galleries

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (Debian: apt-get install chromium)")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
WIDTHS = (1280, 390)


@pytest.fixture(scope="module", params=WIDTHS, ids=[f"{w}px" for w in WIDTHS])
def browser(request, tmp_path_factory):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": request.param, "height": 844},
        )
        yield context
        context.close()


@pytest.fixture(scope="module", params=["one.html", "two.html"])
def page(request, browser, drawn):
    """A loaded report; ``page.troubles``: console errors, exceptions and requests that leave the file."""
    page = browser.new_page()
    page.troubles = []
    page.on("console", lambda m: page.troubles.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.troubles.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else page.troubles.append(r.url))
    page.goto((drawn.folder / request.param).as_uri())
    page.runs = drawn.runs[: 1 if request.param == "one.html" else 2]
    yield page
    assert page.troubles == []
    page.close()


def visible_items(page):
    return page.locator(".item:visible")


def test_loads_and_fits(page):
    assert page.troubles == []
    assert page.title().startswith("REG & co")
    # Nothing makes the page itself scroll sideways; wide tables scroll on their own.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator("nav a").all_inner_texts()[0] == "Summary"
    broken = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
    assert page.evaluate(broken) == 0


def test_figures_have_content(page):
    plots = page.locator("figure.plot img")
    assert plots.count() >= 16
    page.evaluate("Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode(); }))")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 100)")
    for i in range(plots.count()):
        pixels = np.asarray(Image.open(io.BytesIO(plots.nth(i).screenshot())).convert("L"))
        # Axes and their numbers alone are about 2% of a figure; an empty one is white.
        assert (pixels < 200).mean() > 0.01, plots.nth(i).get_attribute("alt")


def test_filter_by_class(page):
    every = [item for gallery in galleries(page.runs) for item in gallery.items]
    assert visible_items(page).count() == len(every) > 10
    name = "bus stop"
    page.select_option("#filter-class", label=name)
    assert visible_items(page).count() == sum(name in item.classes for item in every) < len(every)
    page.select_option("#filter-class", label="all")
    assert visible_items(page).count() == len(every)


def test_filter_by_run(page):
    if len(page.runs) == 1:
        assert page.locator("#filter-run").count() == 0
        return
    page.select_option("#filter-run", label="peer")
    expected = [g for g in galleries(page.runs) if g.run in (None, "peer")]
    assert page.locator(".gallery:visible").count() == len(expected) == 4
    assert visible_items(page).count() == sum(len(g.items) for g in expected)
    page.select_option("#filter-run", label="all")


@pytest.mark.parametrize("selector", [".item", "figure.plot .enlarge"])
def test_enlarge(page, selector):
    small = page.locator(selector).first
    panels = small.locator("img").count()
    first = small.locator("img").first
    source, size = first.get_attribute("src"), first.bounding_box()
    small.click()
    assert page.locator("#viewer").evaluate("d => d.open")
    large = page.locator("#stage img")
    assert large.count() == panels and large.first.get_attribute("src") == small.locator("img").first.get_attribute(
        "src"
    )
    assert large.first.bounding_box()["width"] > 1.2 * size["width"]
    page.click("#next")
    assert large.first.get_attribute("src") != source
    page.keyboard.press("ArrowLeft")
    assert large.first.get_attribute("src") == source
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").evaluate("d => d.open")


def test_prints(page):
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator(".filters").is_visible()
    assert page.locator("table").first.is_visible()
    page.emulate_media(media="screen")
