"""The page in a real browser: sorting and the viewers work, and the browser logs no error."""

import re
import shutil
import subprocess

import pytest
from support.fake_results import CASES

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
DRIVE = """<script>
const heads = [...document.querySelectorAll("#case-table th button")];
heads.find(head => head.textContent.startsWith("Dice tumor")).click();
const box = document.getElementById("view-case");
box.value = "1";
box.dispatchEvent(new Event("change"));
const slider = document.getElementById("view-slice");
slider.value = "3";
slider.dispatchEvent(new Event("input"));
const bodies = document.getElementById("surface-case");
bodies.value = "2";
bodies.dispatchEvent(new Event("change"));
document.querySelector("details.plan").open = true;
function colored(canvas) {
  const copy = document.createElement("canvas"), count = { red: 0, green: 0 };
  copy.width = canvas.width;
  copy.height = canvas.height;
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] > 1.6 * data[i + 1] && data[i] > 60) count.red++;
    if (data[i + 1] > 1.3 * data[i] && data[i + 1] > 45) count.green++;
  }
  return `${count.red} ${count.green}`;
}
setTimeout(() => {
  const canvases = document.querySelectorAll("#surfaces canvas");
  canvases[0].dataset.before = colored(canvases[0]);
  canvases[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  canvases[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp" }));
  setTimeout(() => { canvases[0].dataset.after = colored(canvases[0]); }, 3000);
}, 1500);
</script>"""


@pytest.fixture(scope="module")
def browsed(page: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The document after clicks, and what the browser logged."""
    if BROWSER is None:
        pytest.skip("no Chromium to open the page with")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page.replace("</body>", DRIVE + "</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={folder / 'profile'}"]
    wanted = [
        "--virtual-time-budget=12000",
        "--enable-logging=stderr",
        "--dump-dom",
        f"{folder / 'page.html'}",
    ]
    done = subprocess.run([BROWSER, *flags, *wanted], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout, done.stderr


def test_a_click_sorts_by_numbers(browsed: tuple[str, str]) -> None:
    table = re.search(r'id="case-table">.*?</table>', browsed[0], re.DOTALL)
    assert table is not None
    assert table[0].count('aria-sort="ascending"') == 1
    cells = re.findall(r"<tr><td>.*?</td><td[^>]*>.*?</td><td>.*?</td><td>([\d.]+)</td>", table[0])
    assert len(cells) == len(CASES)
    assert cells == sorted(cells, key=float)


def test_the_viewer_draws_each_network(browsed: tuple[str, str]) -> None:
    viewer = re.search(r'id="viewer">.*?</div>', browsed[0], re.DOTALL)
    assert viewer is not None
    assert re.findall("<figcaption>(.*?)</figcaption>", viewer[0]) == [
        "image",
        "truth",
        "3D_FCN_PPM",
        "3D U-Net",
        "2D PSPNet",
    ]
    assert re.search('id="view-number">z [0-9]+<', browsed[0])


def test_the_surfaces_are_drawn_and_turn(browsed: tuple[str, str]) -> None:
    found = re.search('data-before="([0-9]+) ([0-9]+)" data-after="([0-9]+) ([0-9]+)"', browsed[0])
    assert found is not None
    red, green, red_turned, green_turned = map(int, found.groups())
    assert min(red, green, red_turned, green_turned) > 200
    assert (red, green) != (red_turned, green_turned)


def test_a_planning_sheet_opens(browsed: tuple[str, str]) -> None:
    sheet = re.search(r'<details class="plan" open="">.*?</details>', browsed[0], re.DOTALL)
    assert sheet is not None
    for words in ("R.E.N.A.L.: N", "not computed", "Contact with the kidney", "cm²", "truth", "prediction"):
        assert words in sheet[0]
    assert "not a medical device" in browsed[0]


def test_the_page_requests_nothing_from_the_network(page: str) -> None:
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page


def test_the_browser_logs_no_message(browsed: tuple[str, str]) -> None:
    assert "CONSOLE" not in browsed[1]


def test_a_name_with_markup_stays_text(browsed: tuple[str, str]) -> None:
    assert "&lt;b&gt;bold" in browsed[0]
    assert "<b>bold" not in browsed[0]
