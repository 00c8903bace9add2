"""The live views of a study whose trials are reported by hand, served on loopback and opened in a browser."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from optuna_dashboard import wsgi
from support.browser import BROWSER, Page, browse
from support.study_records import end, keep_epochs, searcher

from renalnet.errors import ConfigError, ResultsError
from study.config.sections import Slots, StudyConfig
from study.dashboard.overview import Overview, StudyWindow, ray_dashboard, slots_of
from study.dashboard.server import LiveViews, open_server, render
from study.records.manifest import StudyManifest
from study.records.results import Results
from study.search.journal import read_journal

TO_READ_S = 30.0


class Study:
    """A study as its driver writes it: four trials of 3D_FCN_PPM and one of each baseline."""

    def __init__(self, config: StudyConfig, folder: Path) -> None:
        self.folder = folder
        self.manifest = StudyManifest(Results(str(folder)), config, None)
        self.manifest.update(machine={"num_cpus": 2, "num_gpus": 0})
        self.search = searcher(config, folder)

    def begin(self, number: int) -> str:
        asked = self.search.suggest(str(number))
        assert isinstance(asked, dict)
        return str(asked["name"])

    def end(self, number: int, name: str, *objectives: float) -> None:
        end(self.search, self.folder, str(number), name, *objectives)

    def finish(self) -> None:
        for number in range(6):
            name = self.begin(number)
            self.end(number, name, *[0.1 + 0.1 * number + 0.01 * epoch for epoch in range(5 if number % 3 else 3)])
        self.manifest.update(finished=True)


@pytest.fixture
def study(tiny_study: StudyConfig, tmp_path: Path) -> Study:
    return Study(tiny_study, tmp_path / "results")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    views = LiveViews(wsgi(read_journal(Results(str(folder)))), *views_of(Results(str(folder))))
    with open_server(views, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def answer(url: str, method: str = "GET", host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=TO_READ_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def views_of(results: Results) -> tuple[Callable[[], Overview], Callable[[], bytes | None]]:
    window = StudyWindow(results)
    return window.look, window.report


def test_the_report_is_linked_once_it_is_written(study: Study) -> None:
    study.begin(0)
    with served(study.folder) as url:
        status, text = answer(f"{url}/report")
        assert (status, "no report was written yet" in text) == (404, True)
        assert 'href="/report"' not in answer(f"{url}/")[1]
        (study.folder / "report.html").write_text("<p>the report</p>")
        assert answer(f"{url}/report") == (200, "<p>the report</p>")
        assert 'href="/report"' in answer(f"{url}/")[1]


def test_nothing_is_written(study: Study) -> None:
    study.begin(0)
    before = (study.folder / "optuna.journal").read_bytes()
    with served(study.folder) as url:
        assert answer(f"{url}/api/studies/0")[0] == 200
        for path, method in (("api/studies/0", "DELETE"), ("api/studies", "POST"), ("api/trials/0/tell", "POST")):
            status, body = answer(f"{url}/{path}", method)
            assert (status, json.loads(body)["reason"][:26]) == (403, "the dashboard is read-only")
    assert (study.folder / "optuna.journal").read_bytes() == before
    assert {path.name for path in study.folder.iterdir()} == {"manifest.json", "optuna.journal", "trials"}


def test_only_this_machine_is_answered(study: Study) -> None:
    with served(study.folder) as url:
        assert answer(url, host="localhost:8080")[0] == 200
        assert answer(url, host="elsewhere.example")[0] == 403


def test_the_first_page_shows_the_progress(study: Study) -> None:
    study.manifest.update(ray_dashboard="http://head:8265")
    name = study.begin(0)
    study.end(0, name, 0.1, 0.2)
    study.begin(1)
    with served(study.folder) as url:
        page = answer(url)[1]
        for words in ("searching", "0 complete", "1 pruned", "1 running", "6 planned", 'href="http://head:8265"'):
            assert words in page
        assert f"tensorboard --logdir {study.folder}/tune" in page
        assert 'http-equiv="refresh"' in page
        study.manifest.update(finished=True)
        assert 'http-equiv="refresh"' not in answer(url)[1]


def test_the_first_page_shows_the_best_dice_of_each_label(study: Study) -> None:
    name = study.begin(0)
    study.end(0, name, 0.1, 0.2)
    overview = StudyWindow(Results(str(study.folder))).look()
    assert f"best objective: {name}, Dice kidney 0.200, tumor 0.200</span>" in render(overview)
    best = overview.progress.best
    assert best is not None and best.best is not None
    dice = {"kidney": 0.9, "tumor": 0.5, "renal_vein": 0.25}
    changed = replace(best, best=replace(best.best, dice=dice))
    page = render(replace(overview, progress=replace(overview.progress, best=changed)))
    assert "Dice kidney 0.900, tumor 0.500, renal vein 0.250</span>" in page


def test_a_resumed_study_is_read_again(study: Study) -> None:
    name = study.begin(0)
    study.end(0, name, *[0.5] * 5)
    window = StudyWindow(Results(str(study.folder)))
    assert window.look().progress.spent_hours == 2.5
    keep_epochs(study.folder, name, [0.5] * 6)
    assert window.look().progress.spent_hours == 2.5
    study.manifest.update(finished=False, durations_s={"search": 1.0})
    assert window.look().progress.spent_hours == 3.0


@pytest.mark.parametrize(
    ("noted", "address", "url"),
    [
        ("http://head:8265", "", "http://head:8265"),
        ("", "http://head:8265", "http://head:8265"),
        ("", "ray://head:10001", "http://head:8265"),
        ("", "10.0.0.1:6379", "http://10.0.0.1:8265"),
        ("", "auto", ""),
        ("", "", ""),
    ],
)
def test_where_rays_dashboard_is(noted: str, address: str, url: str) -> None:
    assert ray_dashboard({"ray_dashboard": noted}, {"RAY_ADDRESS": address}) == url


@pytest.mark.parametrize(
    ("machine", "slots"),
    [
        ({}, Slots(2, 0.0, 1)),
        ({"num_cpus": 9, "num_gpus": 0}, Slots(2, 0.0, 4)),
        ({"num_cpus": 64, "num_gpus": 3}, Slots(2, 0.5, 6)),
        ({"num_cpus": 64, "num_gpus": 3, "num_slots": 5}, Slots(2, 0.5, 5)),
        ({"num_cpus": 64, "num_gpus": 3, "num_slots": 5, "are_gpus_fake": True}, Slots(2, 0.5, 5, True)),
    ],
)
def test_slots_are_those_of_the_cluster_that_ran_it(
    tiny_study: StudyConfig, machine: dict[str, int], slots: Slots
) -> None:
    resources = tiny_study.resources.model_copy(update={"cpus_per_trial": 2, "gpus_per_trial": 0.5})
    assert slots_of({"machine": machine}, tiny_study.model_copy(update={"resources": resources})) == slots


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no study"):
        StudyWindow(Results(str(tmp_path)))
    with pytest.raises(ResultsError, match=r"holds no optuna\.journal"):
        read_journal(Results(str(tmp_path)))


def test_a_port_that_is_taken_is_refused(study: Study) -> None:
    results = Results(str(study.folder))
    views = LiveViews(wsgi(read_journal(results)), *views_of(results))
    with (
        open_server(views, 0) as server,
        pytest.raises(ConfigError, match=f"--port {server.server_port}.*another port"),
    ):
        open_server(views, server.server_port)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium to open the page")
@pytest.mark.slow
def test_a_finished_study_in_a_browser(study: Study, tmp_path: Path) -> None:
    study.finish()

    async def visit(page: Page) -> None:
        await page.open(f"{url}/", "document.body.innerText.includes('finished')")
        await page.open(f"{url}/dashboard", "document.body.innerText.includes('pspnet2d')")
        assert "fcn_ppm" in await page.text() and "unet3d" in await page.text()
        await page.open(f"{url}/dashboard/studies/0", "document.querySelectorAll('.plot-container').length >= 4")
        await page.wait("document.body.innerText.includes('background_weight')")
        await page.open(f"{url}/dashboard/studies/0/trials", "document.body.innerText.includes('Trial 3')")
        assert "4 Trials" in await page.text()

    with served(study.folder) as url:
        page = browse(tmp_path, visit)
        assert page.complaints == []
        assert all(asked.startswith((url, "data:", "blob:", "chrome:")) for asked in page.asked)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium to open the page")
@pytest.mark.slow
def test_a_running_study_in_a_browser(study: Study, tmp_path: Path) -> None:
    first = study.begin(0)

    async def visit(page: Page) -> None:
        await page.open(f"{url}/", "document.body.innerText.includes('searching')")
        await page.open(f"{url}/dashboard/studies/0/trials", "document.body.innerText.includes('Trial 0')")
        assert "Running" in await page.text()
        await asyncio.to_thread(study.end, 0, first, 0.1, 0.2, 0.3, 0.4, 0.5)
        await asyncio.to_thread(study.begin, 1)
        await page.wait("document.body.innerText.includes('2 Trials')")
        await page.wait("document.body.innerText.includes('Complete')")

    with served(study.folder) as url:
        assert browse(tmp_path, visit).complaints == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{}", "study, config, machine"),
        ("[1]", "study, config, machine"),
        ('{"config": {}, "machine": {}}', "study"),
        ('{"study": "quick", "config": [], "machine": {}}', "config"),
    ],
)
def test_a_manifest_that_no_study_wrote_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ResultsError, match=f"manifest.json is no study's: {wrong} missing or damaged; name the folder"):
        StudyWindow(Results(str(tmp_path)))
