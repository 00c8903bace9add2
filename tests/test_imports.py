"""The architecture: which module may import which, and what stays unimported until it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "renalnet",
    "renalnet.runtime",
    "renalnet.config",
    "renalnet.bundles",
    "renalnet.nets",
    "renalnet.precision",
    "renalnet.data.images",
    "renalnet.data.dicom",
    "renalnet.data.mask_formats",
    "renalnet.data.cases",
    "renalnet.data.localise",
    "renalnet.data.checks",
    "renalnet.data.phantom.imaging",
    "renalnet.data.phantom",
    "renalnet.data.store",
    "renalnet.data.batches",
    "renalnet.train.losses",
    "renalnet.localiser",
    "renalnet.data.prepare",
    "renalnet.evaluation",
    "renalnet.inference.backends",
    "renalnet.inference",
    "renalnet.prediction",
    "renalnet.train",
    "renalnet.planning",
    "renalnet.commands",
    "cluster",
    "study.config",
    "study.records",
    "study.search",
    "study.search.importance",
    "study.search.pruners",
    "study.search.samplers",
    "study.finalists",
    "study.progress",
    "study.final",
    "study.integrity",
    "study.execution",
    "study.report.analysis",
    "study.report.pictures",
    "study.report.pages",
    "study.report",
    "study.dashboard",
    "study.bench.measuring",
    "study.bench.data",
    "study.bench.networks",
    "study.bench.parts",
    "study.bench.search",
    "study.bench.faults",
    "study.bench",
    "study.evidence",
    "study",
)
"""Folders in the order of their imports: a module imports from its own folder and from those before it."""
MAY_IMPORT_ITK = {
    "renalnet.data.images.volume",
    "renalnet.data.images.image_file",
    "renalnet.data.dicom.pixels",
    "renalnet.data.localise.outline",
}
MAY_IMPORT_PYDICOM = {
    f"renalnet.data.dicom.{name}"
    for name in ("file", "pixels", "segmentation", "headers", "segmentation_writer", "source_series")
} | {"renalnet.data.mask_formats.structure_set_writer"}
MAY_IMPORT_RAY = {"cluster.submit", "cluster.ray_private"} | {
    f"study.{name}"
    for name in (
        "search.extension",
        "search.importance.write",
        "search.journal",
        "search.optuna_private",
        "search.pruner",
        "search.ray_private",
        "search.sampler",
        "search.scheduler",
        "search.searcher",
        "final.post_processing",
        "integrity.rebuilt_journal",
        "execution.connection",
        "execution.interruption",
        "execution.ray_private",
        "execution.repeat_searcher",
        "execution.slots",
        "execution.tasks",
        "execution.trainable",
        "execution.tuner",
        "bench.search.overhead",
        "bench.search.replay",
        "bench.search.sleeper",
    )
}
FOLDERS_THAT_MAY_IMPORT_RAY = ("study.search.pruners", "study.search.samplers")
"""Folders whose modules are imported when a study names them; every module there may use Ray and Optuna."""
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


def folder_of(module: str) -> str:
    """The folder of a module; a package's own `__init__` belongs to the package."""
    return module if module in FOLDERS else module.rpartition(".")[0]


def is_entry(path: Path) -> bool:
    """Whether a module only opens the package: `__main__`, and the public names that `renalnet` loads when used."""
    return path.name == "__main__.py" or name_of(path) == "renalnet"


@pytest.mark.parametrize("path", [path for path in MODULES if not is_entry(path)], ids=name_of)
def test_imports_go_one_way_between_folders(path: Path) -> None:
    module = name_of(path)
    if module == "renalnet.data":
        return
    folder = folder_of(module)
    assert folder in FOLDERS, f"{module} is in a folder that FOLDERS does not name"
    for name in sorted(name for name in imported_by(path) if name.startswith(PACKAGES)):
        assert FOLDERS.index(folder_of(name)) <= FOLDERS.index(folder), f"{module} imports {name} of a later folder"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_only_where_they_may(path: Path) -> None:
    module, names = name_of(path), {name.split(".")[0] for name in imported_by(path)}
    if module.startswith("renalnet"):
        assert not names & {"ray", "optuna", "matplotlib", "study"}
    if not module.startswith("cluster"):
        assert "cluster" not in names
    if module not in MAY_IMPORT_RAY and folder_of(module) not in FOLDERS_THAT_MAY_IMPORT_RAY:
        assert not names & {"ray", "optuna"}
    if module not in MAY_IMPORT_ITK:
        assert "SimpleITK" not in names
    if module not in MAY_IMPORT_PYDICOM:
        assert "pydicom" not in names
    if module.startswith("study.report"):
        assert not names & {"torch", "ray"}
    if module.startswith("renalnet.evaluation"):
        assert not names & {"torch", "pyarrow", "SimpleITK"}
    if module in {f"renalnet.inference.{name}" for name in ("crf", "components", "post_processing")}:
        assert not names & {"torch", "scipy"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("renalnet", ("torch", "ray", "optuna", "matplotlib", "SimpleITK", "pydicom", "pydensecrf")),
        ("renalnet.data.prepare.preparation", ("torch", "ray", "optuna", "matplotlib")),
        ("study.run", ("torch", "ray.tune", "optuna", "matplotlib", "SimpleITK")),
        ("renalnet.train.run", ("ray", "optuna", "matplotlib", "SimpleITK", "pydensecrf", "cc3d")),
        ("renalnet.evaluation.table", ("torch", "ray", "optuna", "pyarrow", "SimpleITK")),
        ("renalnet.planning", ("torch", "ray", "optuna", "pyarrow", "SimpleITK")),
        ("renalnet.inference.post_processing", ("torch", "scipy", "pydensecrf", "cc3d")),
        ("renalnet.inference.pipeline", ("ray", "optuna", "matplotlib", "SimpleITK", "pydensecrf")),
        ("renalnet.commands.app", ("torch", "ray", "optuna", "SimpleITK", "pydicom")),
        # Ray starts processes of these two for trials and tasks, and each of them pays for the imports.
        ("study.execution.trainable", ("optuna", "scipy", "matplotlib", "SimpleITK")),
        ("study.execution.tasks", ("ray.tune", "pandas", "optuna", "scipy", "matplotlib", "SimpleITK")),
        ("study.report", ("torch", "ray", "optuna")),
        ("study.bench.__main__", ("ray", "optuna", "monai", "torchio")),
        ("study.bench.data.loader", ("torch", "ray", "optuna", "monai", "torchio")),
    ],
)
def test_import_is_light(module: str, unwanted: tuple[str, ...]) -> None:
    probe = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
