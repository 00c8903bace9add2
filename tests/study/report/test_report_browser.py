"""The page in a real browser: sorting and the viewers work, and the browser logs no error."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.fake_results import CASES, metric_row, write_manifest, write_rows

from renalnet.config import KITS23, LabelSet
from renalnet.config.labels import Label
from study.records.results import Results
from study.report import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
pytestmark = pytest.mark.slow  # each page is opened in a browser of its own
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


FOUR_LABELS = LabelSet(name="four", labels=(*KITS23.labels, Label(name="renal_vein", value=4, color="#C040FF")))
MAPS = ["truth", "fcn_ppm", *(f"other{number}" for number in range(6))]
"""Maps of the view, in the order of the page. Each is shifted by its place, so that a wrong one shows other colors."""
READ = """<script>
setTimeout(() => {
  const read = [...document.querySelectorAll("#viewer canvas")].slice(1).map((canvas, shift) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const pixel = (x, y) => [0, 1, 2].map(c => data[4 * (y * canvas.width + x + shift) + c]).join(" ");
    return [pixel(6, 5), pixel(6, 11), pixel(6, 17), pixel(4, 17), pixel(1, 1)].join(", ");
  });
  document.getElementById("viewer").dataset.read = read.join("; ");
  const [canvas] = document.querySelectorAll("#surfaces canvas"), count = { blue: 0, violet: 0 };
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    const [red, green, blue] = data.slice(i, i + 3);
    if (blue > 1.15 * green && green > 1.4 * red && blue > 80) count.blue++;
    if (red > 1.1 * green && blue > 1.3 * red && blue > 80) count.violet++;
  }
  canvas.dataset.bodies = `${count.blue} ${count.violet}`;
}, 3000);
</script>"""


@pytest.fixture(scope="module")
def browsed(page: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The document after clicks, and what the browser logged."""
    return browse(page, DRIVE, tmp_path_factory.mktemp("browser"))


def browse(page: str, script: str, folder: Path) -> tuple[str, str]:
    """Return the document of a page after a script has run, and what the browser logged."""
    if BROWSER is None:
        pytest.skip("no Chromium to open the page with")
    (folder / "page.html").write_text(page.replace("</body>", script + "</body>"), encoding="utf-8")
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
    for words in (
        "R.E.N.A.L.: N",
        "not given",
        "R.E.N.A.L.: sum",
        "PADUA: sum",
        "Contact with the kidney",
        "cm²",
        "truth",
        "prediction",
    ):
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


@pytest.fixture(scope="module")
def four_labels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The document of a study with four labels and eight maps of its only view, and what the browser logged."""
    folder = tmp_path_factory.mktemp("four_labels")
    write_manifest(folder, config={"labels": FOUR_LABELS.model_dump(mode="json")})
    rows = [metric_row(CASES[0], "fcn_ppm", label, 0.7) for label in FOUR_LABELS.names]
    write_rows(folder / "final" / "metrics.parquet", rows)
    truth = np.zeros((8, 24, 34), np.uint8)
    truth[2:6, 2:22, 2:20] = 1
    for value, first in ((2, 3), (3, 9), (4, 15)):
        truth[3:5, first : first + 5, 4:9] = value
    maps = {name: np.roll(truth, place, axis=2) for place, name in enumerate(MAPS)}
    arrays = {f"pred_{name}": mask for name, mask in maps.items() if name != "truth"}
    (folder / "final" / "views").mkdir()
    np.savez(
        folder / "final" / "views" / f"{CASES[0]}.npz",
        image=np.zeros_like(truth),
        truth=truth,
        spacing_mm=np.array([3.0, 1.0, 1.0]),
        **arrays,
    )
    page = Path(str(write_report(Results(str(folder))).page)).read_text(encoding="utf-8")
    return browse(page, READ, folder)


def test_the_viewer_shows_each_label_of_each_map(four_labels: tuple[str, str]) -> None:
    found = re.search('data-read="([^"]+)"', four_labels[0])
    assert found is not None
    # On a black image, 0.32 of a label's color inside of it and 0.95 at its edge.
    inner = ["82 25 25", "25 45 82", "61 20 82"]
    assert found[1].split("; ") == [", ".join([*inner, "182 61 242", "0 0 0"])] * len(MAPS)


def test_each_label_is_a_body_of_the_surfaces(four_labels: tuple[str, str]) -> None:
    found = re.search('data-bodies="([0-9]+) ([0-9]+)"', four_labels[0])
    assert found is not None
    assert min(map(int, found.groups())) > 100
    assert "surfaces of kidney, tumor, cyst, and renal vein; arrow keys" in four_labels[0]
    assert "CONSOLE" not in four_labels[1]
