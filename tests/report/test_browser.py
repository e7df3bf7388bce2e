"""The report as a picture: drawn by a real browser at desktop and phone width, and read back box by box."""

import shutil

import pytest
from hand_made import make_evaluation, make_facts

from fieldwright.problems import Field
from fieldwright.report import write_report

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = {"desktop": 1280, "phone": 390}

# One rectangle per line of HTML text and one per text of a figure, with what they say.
TEXT_BOXES = """() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.textContent.trim() || node.parentElement.closest("svg, style, thead")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      if (r.width > 1 && r.height > 1)
        boxes.push({text: node.textContent.trim(), x: r.x, y: r.y, w: r.width, h: r.height});
    }
  }
  for (const node of document.querySelectorAll("svg text")) {
    const r = node.getBoundingClientRect();
    boxes.push({text: node.textContent.trim(), x: r.x, y: r.y, w: r.width, h: r.height});
  }
  return boxes;
}"""

# Elements whose content is wider or higher than they are, and figure texts that leave their figure.
CUT_TEXT = """() => {
  const cut = [];
  for (const node of document.querySelectorAll("main *:not(svg):not(svg *)")) {
    if (node.closest("thead")) continue;
    if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0 && getComputedStyle(node).display !== "inline")
      cut.push(node.tagName + ": " + node.textContent.trim().slice(0, 60));
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    for (const node of svg.querySelectorAll("text")) {
      const r = node.getBoundingClientRect();
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1)
        cut.push("svg: " + node.textContent);
    }
  }
  return cut;
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Pages by name: the usual one, and one with long names, several channels and three dimensions."""
    folder = tmp_path_factory.mktemp("reports")
    several = {
        "inputs": (Field("permeability", "m²"), Field("anisotropic_permeability_ratio", "1")),
        "outputs": (Field("pressure", "Pa"), Field("velocity_magnitude", "m/s")),
    }
    pages = {
        "usual": (make_evaluation(), make_facts()),
        "lines": (make_evaluation(dimension=1, points=64), make_facts()),
        "several": (
            make_evaluation(dimension=3, points=12, surrogate_seconds=1e-5, **several),
            make_facts(
                title="a_run_with_a_very_long_name_that_has_no_place_to_break_in_it_at_all",
                command="fieldwright run " + "/a/very/long/path" * 12,
                recipe="problem: {kind: 'my_module:" + "MyProblem" * 20 + "'}\n",
            ),
        ),
    }
    for name, (evaluation, facts) in pages.items():
        write_report(evaluation, facts, folder / f"{name}.html")
    return folder


@pytest.fixture(params=["usual", "lines", "several"])
def name(request):
    return request.param


@pytest.fixture(params=WIDTHS)
def page(request, browser, reports, name):
    page = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 900})
    page.requested, page.complaints = [], []
    page.on("request", lambda r: page.requested.append(r.url))
    page.on("console", lambda m: page.complaints.append(m.text))
    page.goto((reports / f"{name}.html").as_uri())
    yield page
    page.close()


def overlap(a, b):
    """How far two boxes reach into each other, less a pixel of tolerance for rounding and tall line boxes."""
    across = min(a["x"] + a["w"], b["x"] + b["w"]) - max(a["x"], b["x"])
    down = min(a["y"] + a["h"], b["y"] + b["h"]) - max(a["y"], b["y"])
    slack = 0.3 * min(a["h"], b["h"])  # a line's box is higher than its letters
    return across > 1 and down > slack


def test_the_page_is_no_wider_than_the_window(page):
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]


def test_no_text_is_cut(page):
    assert page.evaluate(CUT_TEXT) == []


def test_no_texts_overlap(page):
    boxes = sorted(page.evaluate(TEXT_BOXES), key=lambda box: box["y"])
    assert len(boxes) > 200
    clashes = []
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            if b["y"] > a["y"] + a["h"]:
                break
            if overlap(a, b):
                clashes.append((a["text"][:40], b["text"][:40]))
    assert clashes == []


def test_text_is_large_enough_to_read(page):
    heights = [box["h"] for box in page.evaluate(TEXT_BOXES) if box["text"]]
    assert min(heights) >= 8


def test_every_figure_is_seen(page):
    boxes = "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect())"
    sizes = page.evaluate(f"{boxes}.map(r => [r.width, r.height, r.right])")
    assert len(sizes) >= 13
    for width, height, right in sizes:
        assert width >= 130
        assert height >= 100
        assert right <= page.viewport_size["width"]


def test_nothing_is_requested_but_the_page_itself(page):
    page.wait_for_load_state("networkidle")
    assert [url for url in page.requested if not url.startswith("data:")] == [page.url]
    assert page.complaints == []


def test_images_of_fields_have_more_than_one_colour(page, name):
    if name == "lines":
        pytest.skip("a problem in one dimension is drawn as lines")
    picture = page.locator(".panels svg").nth(1).screenshot()
    assert len(picture) > 1500  # a PNG of one colour is smaller
