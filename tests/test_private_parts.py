"""Private attributes of other libraries stay in the modules that adapt to them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ADAPTERS = {"study/search/ray_private.py", "study/search/optuna_private.py", "cluster/ray_private.py"} | {
    "study/execution/ray_private.py"
}
"""Modules that need more of Ray and Optuna than these publish; a test beside each names the attributes."""
DOCUMENTED = {"_replace", "_asdict", "_exit", "_typeshed", "_foreach_copy_"}
"""Names that Python or PyTorch documents in spite of the underscore."""
MODULES = sorted(path for package in ("renalnet", "study", "cluster") for path in ROOT.glob(f"{package}/**/*.py"))


def foreign_private_parts(source: str) -> list[str]:
    """Return every private attribute that is not read from `self` or `cls`, and every private module imported."""
    tree = ast.parse(source)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)]
    foreign = [node for node in attributes if not (isinstance(node.value, ast.Name) and node.value.id in OWN)]
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    private_modules = [name for name in modules if any(map(is_private, name.split(".")))]
    return [*(ast.unparse(node) for node in foreign), *private_modules]


OWN = ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def test_what_counts_as_private() -> None:
    source = "from ray._private import x\nself._own = rule._brackets[0]._rungs + parts._asdict() + os.__name__"
    assert foreign_private_parts(source) == ["rule._brackets[0]._rungs", "rule._brackets", "ray._private"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_parts_stay_in_the_adapters(path: Path) -> None:
    if str(path.relative_to(ROOT)) not in ADAPTERS:
        assert foreign_private_parts(path.read_text(encoding="utf-8")) == []
