"""The architecture: which module may import which, and what stays unimported until it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {
    0: ("types", "errors", "log", "storage", "exclusive", "tabular"),
    1: ("config", "presets", "checkpoint", "command", "device", "lease", "workers", "machine"),
    2: ("data", "nets", "losses", "metrics", "infer.batches", "infer.stitch", "infer.crf", "infer.components"),
    3: ("train", "plan", "quality"),
    4: ("infer.pipeline", "evaluate", "export"),
    5: ("predict",),
    6: ("cli",),
    7: ("__main__",),
}
HOME_OF_ITK = {
    "renalnet.data.images.volume",
    "renalnet.data.images.image_file",
    "renalnet.data.dicom.pixels",
    "renalnet.data.localise.outline",
    "renalnet.inference.pipeline",
}
HOME_OF_PYDICOM = {f"renalnet.data.dicom.{name}" for name in ("file", "pixels", "segmentation", "series", "write")}
HOME_OF_RAY = {"cluster.submit", "cluster.upload"} | {
    f"study.{name}"
    for name in (
        "extend",
        "search",
        "repeat_search",
        "samplers",
        "schedule",
        "trainable",
        "tuner",
        "tasks",
        "steps",
        "run",
        "journal",
        "importance",
        "bench.overhead",
        "bench.replay",
        "bench.sleeper",
    )
}
PACKAGES = ("renalnet", "study", "cluster")
MODULES = sorted(path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_by(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    known = {name_of(module) for module in MODULES}
    return {name for name in names if name in known or not name.startswith(PACKAGES)}


def layer_of(module: str) -> int:
    inner = module.removeprefix("renalnet.")
    matching = [layer for layer, names in LAYERS.items() for name in names if f"{inner}.".startswith(f"{name}.")]
    return max(matching, default=-1)


def package_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_layers(path: Path) -> None:
    module = name_of(path)
    ours = {name for name in imported_by(path) if name.startswith("renalnet.")}
    if module.startswith(("study", "cluster")) or module in (
        "renalnet",
        "renalnet.data",
        "renalnet.inference",
        "renalnet.evaluation",
    ):
        return
    assert layer_of(module) >= 0, f"{module} has no layer"
    for name in ours:
        same_layer = layer_of(name) == layer_of(module)
        may_share = package_of(name) == package_of(module) or layer_of(module) <= 1
        assert layer_of(name) < layer_of(module) or (same_layer and may_share), f"{module} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    module, names = name_of(path), {name.split(".")[0] for name in imported_by(path)}
    if module.startswith("renalnet"):
        assert not names & {"ray", "optuna", "matplotlib", "study"}
    if not module.startswith("cluster"):
        assert "cluster" not in names
    if module not in HOME_OF_RAY:
        assert not names & {"ray", "optuna"}
    if module not in HOME_OF_ITK:
        assert "SimpleITK" not in names
    if module not in HOME_OF_PYDICOM:
        assert "pydicom" not in names
    if module.startswith("study.report"):
        assert not names & {"torch", "ray"}
    if module.startswith("renalnet.evaluation"):
        assert not names & {"torch", "pyarrow", "SimpleITK"}
    if module in ("renalnet.inference.crf", "renalnet.inference.components"):
        assert not names & {"torch", "scipy"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("renalnet", ("torch", "ray", "optuna", "matplotlib", "SimpleITK", "pydicom", "pydensecrf")),
        ("renalnet.train", ("ray", "optuna", "matplotlib", "SimpleITK", "pydensecrf", "cc3d")),
        ("renalnet.inference.pipeline", ("ray", "optuna", "matplotlib", "SimpleITK", "pydensecrf")),
        ("renalnet.commands.app", ("torch", "ray", "optuna", "SimpleITK", "pydicom")),
        ("study.report", ("torch", "ray", "optuna")),
        ("study.bench.__main__", ("ray", "optuna", "monai", "torchio")),
        ("study.bench.data.loader", ("torch", "ray", "optuna", "monai", "torchio")),
    ],
)
def test_import_is_light(module: str, unwanted: tuple[str, ...]) -> None:
    probe = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
