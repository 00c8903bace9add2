"""The page wide, at 420 pixels and printed: it cuts nothing. On A4, it shows no controls and no dark areas."""

import base64
import re
from dataclasses import dataclass
from typing import Any

import pytest
from support.browser import BROWSER, Page, browse

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium to print the page with")]
WIDTH_PX = 703
"""A4 without its margins: 210 - 2 · 12 mm, at 96 pixels per 25.4 mm."""
HEIGHT_PX = 1016
"""297 - 13 - 15 mm."""
SHOWN = "[...document.querySelectorAll('body *')].filter(each => each.getClientRects().length)"
TOO_WIDE = f"{SHOWN}.filter(each => each.getBoundingClientRect().right > {WIDTH_PX} + 1).map(each => each.outerHTML)"
TOO_HIGH = f"{SHOWN}.filter(each => ['IMG', 'FIGURE', 'TR'].includes(each.tagName)" + (
    f" && each.getBoundingClientRect().height > {HEIGHT_PX}).map(each => each.outerHTML.slice(0, 200))"
)
DARK = f"""{SHOWN}.filter(each => {{
  const [red, green, blue, alpha = 1] = getComputedStyle(each).backgroundColor.match(/[0-9.]+/g).map(Number);
  return alpha > 0.1 && (red + green + blue) / 3 < 128;
}}).map(each => each.outerHTML.slice(0, 200))"""
CLIPPED = f"""{SHOWN}.filter(each => getComputedStyle(each).overflow !== 'visible' && each.tagName !== 'svg'
  && (each.scrollHeight > each.clientHeight + 1 || each.scrollWidth > each.clientWidth + 1)
).map(each => each.outerHTML.slice(0, 200))"""
CONTROLS = f"{SHOWN}.filter(each => each.matches('nav a, select, input, canvas, .controls *')).length"
BREAKS = """['table', 'tr', 'thead'].map(name => {
  const style = getComputedStyle(document.querySelector(`#case-table${name === 'table' ? '' : ' ' + name}`));
  return [style.breakInside, style.display].join(' ');
})"""
BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels by which the page is wider than the screen."""
FIGURES = """[...document.querySelectorAll('figure.chart img, figure.overlays img')].map(each => {
  const box = each.getBoundingClientRect();
  return [box.left >= 0, box.right <= document.documentElement.clientWidth,
          Math.abs(box.width / box.height - each.naturalWidth / each.naturalHeight) < 0.05];
})"""
"""Whether each figure is within the screen at both sides, and in its own proportions."""
TAPPED = """(() => {
  const [picture] = document.querySelectorAll('figure.chart img');
  const before = picture.width;
  picture.click();
  const figure = picture.closest('figure'), large = [picture.width, figure.scrollWidth > figure.clientWidth];
  picture.click();
  return [before, ...large, picture.width];
})()"""
"""Width of a figure before, during and after it is enlarged, and whether it then scrolls in its place."""
PLANS = "[...document.querySelectorAll('details.plan')].every(each => each.open)"


@dataclass
class Printed:
    """What the browser finds on the page as it is printed."""

    found: dict[str, Any]
    pdf: bytes


@pytest.fixture(scope="module")
def printed(page: str, tmp_path_factory: pytest.TempPathFactory) -> Printed:
    folder = tmp_path_factory.mktemp("print")
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    result = Printed({}, b"")

    async def visit(tab: Page) -> None:
        await tab.open(file.as_uri(), "document.readyState === 'complete' && location.protocol === 'file:'")
        for width in (1400, 420):
            screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            await tab.call("Emulation.setDeviceMetricsOverride", **screen)
            for name, script in (("beyond", BEYOND), ("figures", FIGURES), ("tapped", TAPPED)):
                result.found[f"{name} {width}"] = await tab.value(script)
        await tab.call("Emulation.setEmulatedMedia", media="print")
        size = {"width": WIDTH_PX, "height": HEIGHT_PX, "deviceScaleFactor": 1, "mobile": False}
        await tab.call("Emulation.setDeviceMetricsOverride", **size)
        await tab.value("dispatchEvent(new Event('beforeprint'))")
        scripts = {"wide": TOO_WIDE, "high": TOO_HIGH, "dark": DARK, "clipped": CLIPPED, "controls": CONTROLS}
        for name, script in (scripts | {"breaks": BREAKS, "plans": PLANS}).items():
            result.found[name] = await tab.value(script)
        document = await tab.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        result.pdf = base64.b64decode(document["data"])

    browse(folder, visit)
    return result


@pytest.mark.parametrize("width", [1400, 420])
def test_no_figure_is_cut_on_a_screen(printed: Printed, width: int) -> None:
    assert printed.found[f"beyond {width}"] == 0
    assert len(printed.found[f"figures {width}"]) >= 11
    assert all(fits == [True, True, True] for fits in printed.found[f"figures {width}"])


def test_a_tap_enlarges_a_figure_on_a_narrow_screen_alone(printed: Printed) -> None:
    before, large, scrolls, after = printed.found["tapped 420"]
    assert before == after < 420 and (large, scrolls) == (860, True)
    before, large, scrolls, _ = printed.found["tapped 1400"]
    assert before == large and not scrolls


def test_nothing_is_wider_than_the_page_or_cut_off(printed: Printed) -> None:
    assert printed.found["wide"] == []
    assert printed.found["high"] == []
    assert printed.found["clipped"] == []


def test_nothing_dark_and_no_control_is_printed(printed: Printed) -> None:
    assert printed.found["dark"] == []
    assert printed.found["controls"] == 0


def test_tables_break_between_rows_and_planning_sheets_are_open(printed: Printed) -> None:
    assert printed.found["breaks"] == ["auto table", "avoid table-row", "avoid table-header-group"]
    assert printed.found["plans"] is True


def test_the_document_has_pages_of_a4(printed: Printed) -> None:
    assert printed.pdf.startswith(b"%PDF-") and printed.pdf.rstrip().endswith(b"%%EOF")
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([0-9.]+) ([0-9.]+)\s*\]", printed.pdf)
    assert len(boxes) > 3
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
