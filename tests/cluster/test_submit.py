"""A submission is checked before the upload, and a refusal is one line."""

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from support.dicom_files import write_series

from cluster.local import LocalCluster
from cluster.upload import check_upload, packed_sizes, upload_bytes
from renalnet.data.images.grid import Grid
from renalnet.data.images.volume import IMAGE_ENDINGS
from renalnet.errors import ClusterError

ROOT = Path(__file__).parents[2]


def submit(
    environment: Mapping[str, str], *job: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.submit", *options, "--", *job]
    return subprocess.run(
        command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, timeout=120, check=False
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2 and done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    return lines[0]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a small folder whose job prints where it runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "job.py").write_text(
        "import pathlib, sys; print('job in', pathlib.Path.cwd()); sys.exit(len(sys.argv) - 1)"
    )
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with files that Ray ignores for each of its reasons."""
    texts = {
        ".gitignore": "*.so\nresults/*\n!results/README.md\nbuild/\n",
        ".rayignore": "/scans\n",
        "kept.py": "x" * 1000,
        "results/README.md": "kept",
        "results/large": "left out",
        "library.so": "left out",
        "build/object": "left out",
        "scans/case": "left out",
        "nested/scans/kept": "the rule names the top alone",
        "nested/.gitignore": "local\n",
        "nested/local": "left out",
        "nested/ä long näme": "kept",
        ".git/config": "left out",
        ".venv/lib": "left out",
        "nested/__pycache__/a.pyc": "left out",
    }
    for name, text in texts.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


def test_the_files_and_bytes_are_those_that_ray_packs(tree: Path, tmp_path: Path) -> None:
    from zipfile import ZipFile

    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    target = tmp_path / "package.zip"
    create_package(str(tree), target, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with ZipFile(target) as package:
        names = [name for name in package.namelist() if not name.endswith("/")]
    sizes = packed_sizes(tree)
    assert sorted(sizes) == sorted(names)
    assert {"kept.py", "nested/scans/kept", "nested/ä long näme"} < set(sizes)
    assert not [name for name in sizes if "left out" in (tree / name).read_text()]
    assert 0 <= target.stat().st_size - upload_bytes(sizes) < 200  # an ignored folder may have an empty entry


def test_gitignore_is_not_read_if_ray_is_configured_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    assert {"library.so", "nested/local"} < set(packed_sizes(tree))


def test_a_clone_of_this_project_is_small() -> None:
    upload = check_upload(ROOT)
    assert upload.num_bytes < 20 << 20 and upload.left_out == ()


@pytest.fixture
def with_patients(project: Path) -> Path:
    """Return the project with files of patients of all kinds, some of them between other files."""
    write_series(project / "scans" / "a [1]", np.zeros((3, 8, 8), np.int16), Grid.axis_aligned((3, 8, 8), (1, 1, 1)))
    (slice_,) = list((project / "scans" / "a [1]").iterdir())[:1]
    for name in (
        "cohort/case_0/imaging.nii.gz",
        "masks/a.nii.gz",
        "masks/a.kidney.stl",
        "notes/#1!.MHD",
        "notes/ä?.raw",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("left out")
    (project / "notes" / "IM0001").write_bytes(slice_.read_bytes())
    (project / "store" / "shards").mkdir(parents=True)
    (project / "store" / "shards" / "train-0.parquet").write_text("left out")
    for name in ("masks/a.json", "notes/a.txt", "store/manifest.json"):
        (project / name).write_text("kept")
    return project


def test_files_of_patients_are_not_uploaded(with_patients: Path, tmp_path: Path) -> None:
    from zipfile import ZipFile

    from ray._private.runtime_env.packaging import create_package

    upload = check_upload(with_patients)
    target = tmp_path / "package.zip"
    create_package(str(with_patients), target, include_gitignore=True, excludes=list(upload.excludes))
    with ZipFile(target) as package:
        names = {name for name in package.namelist() if not name.endswith("/")}
    assert names == {"job.py", "masks/a.json", "notes/a.txt", "store/manifest.json"}
    assert 0 <= target.stat().st_size - upload.num_bytes < 1000  # a folder that is left out may have an empty entry
    assert set(upload.left_out) == set(packed_sizes(with_patients)) - names
    # A folder of slices is one pattern.
    assert {"/cohort/", "/scans/", "/store/shards/", "/masks/a.nii.gz", "/notes/\\#1\\!.MHD"} < set(upload.excludes)
    assert len(upload.excludes) == 8
    assert upload.line.startswith("10 files that may show patients are not uploaded: ") and "\n" not in upload.line


def test_what_the_documents_write_is_ignored_by_git(tmp_path: Path) -> None:
    """Each folder and file that a command of the README and of docs/ names, and scans anywhere."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    text = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    outputs = set(re.findall(r"(?:--out|--results) ([a-z][\w./-]*)", text)) - {"s3"}
    # Tables and figures of synthetic cases, which are published.
    outputs = {name for name in outputs if not name.startswith("results/evidence/")}
    assert {"cohort", "store", "masks", "masks-mine", "kidney", "run", "results/mine"} <= outputs
    files = {f"{name}/file" for name in outputs} | {"kidney.onnx", "kidney.json", "metrics.json", "metrics.csv"}
    files |= {f"anywhere/scan{end}" for end in (*IMAGE_ENDINGS, ".img", ".img.gz", ".raw", ".zraw", ".dcm", ".stl")}
    assert ignored(tmp_path, files) == files
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    assert ignored(tmp_path, set(tracked.split())) == set()


def ignored(clone: Path, names: set[str]) -> set[str]:
    command = ["git", "-C", str(clone), "check-ignore", "--no-index", "--stdin"]
    told = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=False)
    return set(told.stdout.splitlines())


@pytest.mark.slow
def test_a_large_folder_is_refused_before_anything_is_sent(project: Path) -> None:
    for name, size in (("weights.bin", 140 << 20), ("notes.bin", 9 << 20), ("small.bin", 1 << 20)):
        with (project / name).open("wb") as file:
            file.truncate(size)
    environment = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"}  # no head is needed
    refusal = one_line(submit(environment, "python", "job.py", options=("--working-dir", str(project))))
    assert "would upload 150.0 MiB, but a Ray head takes at most 100 MiB; move files away" in refusal
    assert "move files away or name them in .rayignore: weights.bin" in refusal
    assert refusal.endswith(": weights.bin (140.0 MiB), notes.bin (9.0 MiB), small.bin (1.0 MiB), job.py (0.0 MiB)")


def test_only_the_largest_files_are_named(project: Path) -> None:
    for number in range(8):
        (project / f"file{number}").write_bytes(b"x" * (1000 * number + 1000))
    with pytest.raises(ClusterError, match=r"file7 .*file6 .*file5 .*file4 .*file3 \([^)]*\), and 4 smaller files$"):
        check_upload(project, limit_bytes=1000)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="is not a folder; name a clone of the project"):
        check_upload(tmp_path / "missing")


@pytest.mark.slow
def test_the_output_of_a_job_is_shown_and_its_end_is_the_exit_code(ray_head: LocalCluster, project: Path) -> None:
    where = ("--working-dir", str(project))
    done = submit(ray_head.environment, "python", "job.py", options=where)
    assert done.returncode == 0, done.stderr
    assert "job in " in done.stdout and str(project) not in done.stdout
    failed = submit(ray_head.environment, "python", "job.py", "a word", "another", "third", options=where)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].endswith("failed: Job entrypoint command failed with exit code 3")


@pytest.mark.slow
def test_without_waiting_the_job_s_name_is_printed(ray_head: LocalCluster, project: Path) -> None:
    done = submit(ray_head.environment, "python", "job.py", options=("--no-wait", "--working-dir", str(project)))
    assert done.returncode == 0 and done.stdout == ""
    assert "`ray job logs --follow raysubmit_" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"RAY_AUTH_TOKEN": "f" * 64},
            "refuses the token, which is another cluster's; put its own token into RAY_AUTH_TOKEN",
        ),
        ({"RAY_AUTH_TOKEN": ""}, "asks for a token and none was found; put the cluster's token into RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled"}, "asks for a token and none was found"),
    ],
    ids=["wrong", "none", "off"],
)
def test_a_submission_without_the_token_is_refused(
    ray_head: LocalCluster, project: Path, changes: dict[str, str], expected: str
) -> None:
    environment = ray_head.environment | changes | {"HOME": str(project)}
    refusal = one_line(submit(environment, "python", "job.py", options=("--working-dir", str(project))))
    assert expected in refusal and ray_head.dashboard in refusal


@pytest.mark.slow
def test_a_missing_head_is_reported(project: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "disabled"}
    options = ("--address", "127.0.0.1:9", "--working-dir", str(project))
    assert "no Ray head answers at http://127.0.0.1:9; start one" in one_line(
        submit(environment, "true", options=options)
    )


@pytest.fixture
def other_server() -> Iterator[str]:
    """Yield the address of a web server that is not Ray."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_another_server_is_reported(other_server: str, project: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "disabled"}
    done = submit(environment, "true", options=("--address", other_server, "--working-dir", str(project)))
    assert f"{other_server} takes no jobs: 501" in one_line(done)
