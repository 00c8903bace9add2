"""The page in a real browser: sorting and the viewer work, and nothing complains."""

import re
import shutil
import subprocess

import pytest
from fake_results import CASES

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
DRIVE = """<script>
const heads = [...document.querySelectorAll("#patient-table th button")];
heads.find(head => head.textContent.startsWith("Dice tumour")).click();
const box = document.getElementById("view-case");
box.value = "1";
box.dispatchEvent(new Event("change"));
</script>"""


@pytest.fixture(scope="module")
def browsed(page: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The document after clicks, and what the browser logged."""
    if BROWSER is None:
        pytest.skip("no Chromium here to open the page with")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page.replace("</body>", DRIVE + "</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={folder / 'profile'}"]
    wanted = [
        "--virtual-time-budget=3000",
        "--enable-logging=stderr",
        "--dump-dom",
        f"{folder / 'page.html'}",
    ]
    done = subprocess.run([BROWSER, *flags, *wanted], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout, done.stderr


def test_a_click_sorts_by_numbers(browsed: tuple[str, str]) -> None:
    table = re.search(r'id="patient-table">.*?</table>', browsed[0], re.DOTALL)
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
    assert 'id="view-number">z ' in browsed[0]


def test_the_browser_has_nothing_to_complain_about(browsed: tuple[str, str]) -> None:
    assert "CONSOLE" not in browsed[1]


def test_a_name_with_markup_stays_text(browsed: tuple[str, str]) -> None:
    assert "&lt;b&gt;bold" in browsed[0]
    assert "<b>bold" not in browsed[0]
