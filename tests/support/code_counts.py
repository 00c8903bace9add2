"""Counts of the source tree that tell how easy it is to extend: `python tests/support/code_counts.py [TREE]`.

`tests/test_imports.py` and `tests/test_code_counts.py` hold their limits. TREE is another checkout to compare with.
"""

import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

PACKAGES: Final = ("renalnet", "study", "cluster")
ENTRY_MODULES: Final = {"renalnet/__init__.py", "renalnet/__main__.py"}
"""Modules that may import from later folders: the command line, and public names that are loaded when they are used."""
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: str
    """Relative to the tree, with slashes."""
    text: str

    @property
    def name(self) -> str:
        """Dotted name; a package's `__init__` has the package's name."""
        return self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def folder(self) -> str:
        """Folder, with slashes."""
        return self.path.rpartition("/")[0]

    @property
    def tree(self) -> ast.Module:
        """Syntax tree."""
        return ast.parse(self.text)

    @property
    def is_entry(self) -> bool:
        """Whether the file only opens or starts a package."""
        return self.path.endswith(("/__init__.py", "/__main__.py"))


def read_modules(tree: Path) -> list[Module]:
    """Return every module of the packages, sorted by path."""
    paths = sorted(path for package in PACKAGES for path in tree.glob(f"{package}/**/*.py"))
    return [Module(path.relative_to(tree).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def imported_names(module: Module) -> Iterator[str]:
    """Yield the dotted names that a module imports, also inside of functions."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_imports(modules: list[Module]) -> set[tuple[str, str]]:
    """Return the pairs (folder that imports, folder that is imported), without `ENTRY_MODULES`."""
    folders = {module.name: module.folder for module in modules}
    pairs = set()
    for module in modules:
        if module.path not in ENTRY_MODULES:
            targets = {folders[name] for name in imported_names(module) if name in folders}
            pairs |= {(module.folder, target) for target in targets if target != module.folder}
    return pairs


def mutual_pairs(modules: list[Module]) -> list[tuple[str, str]]:
    """Return the pairs of folders that import each other."""
    pairs = folder_imports(modules)
    return sorted((source, target) for source, target in pairs if (target, source) in pairs and source < target)


def folder_sizes(modules: list[Module]) -> Counter[str]:
    """Return the number of modules in each folder; `__init__` and `__main__` are not counted."""
    return Counter(module.folder for module in modules if not module.is_entry)


def functions(modules: list[Module]) -> list[Function]:
    """Return every function and method."""
    nodes = (node for module in modules for node in ast.walk(module.tree))
    return [node for node in nodes if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Return the number of lines of a function after its docstring; 0 where there is only a docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def typed_share(found: list[Function]) -> float:
    """Return the share of parameters (without self and cls) and return values that have an annotation."""
    slots: list[bool] = []
    for function in found:
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        slots += [bool(item.annotation) for item in parameters if item and item.arg not in ("self", "cls")]
        slots.append(function.returns is not None)
    return sum(slots) / len(slots)


def tuple_assignments(modules: list[Module]) -> int:
    """Return the number of assignments from a written tuple to a written tuple, `a, b = x, y`."""
    nodes = (node for module in modules for node in ast.walk(module.tree))
    return sum(
        isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple)
        for node in nodes
    )


def comment_lines(modules: list[Module]) -> int:
    """Return the number of comments; those that only steer a tool do not count."""
    count = 0
    for module in modules:
        tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
        comments = (token.string for token in tokens if token.type == tokenize.COMMENT)
        count += sum(not comment.startswith(("# noqa", "# type:")) for comment in comments)
    return count


def code_lines(modules: list[Module]) -> int:
    """Return the number of lines that hold code or documentation, not blank ones."""
    return sum(bool(line.strip()) for module in modules for line in module.text.splitlines())


def sentences(markdown: str) -> list[str]:
    """Return the sentences of a Markdown text; code blocks, tables, headings and pictures are left out."""
    text = re.sub(r"```.*?```", "\n\n", markdown, flags=re.DOTALL)
    kept = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "![", "<"))]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", "\n".join(kept))
    return [found for block in blocks for found in _split_block(" ".join(block.split()))]


def _split_block(block: str) -> list[str]:
    text = re.sub(r"^(?:[-*]|\d+\.)\s+", "", block)
    return [part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z`*\[(])", text) if len(part.split()) > 1]


def report(tree: Path) -> Iterator[str]:
    """Yield one line for each count of a tree."""
    modules = read_modules(tree)
    sizes = folder_sizes(modules)
    folder, most = sizes.most_common(1)[0]
    found = functions(modules)
    lengths = sorted(map(body_lines, found))
    lines = sum(len(module.text.splitlines()) for module in modules)
    words = [len(sentence.split()) for sentence in sentences((tree / "README.md").read_text(encoding="utf-8"))]
    yield f"modules                       {len(modules)} in {len(sizes)} folders, {lines} lines"
    yield f"modules in the fullest folder {most} ({folder})"
    yield f"folder pairs importing each other {len(mutual_pairs(modules))}"
    yield f"imports between folders       {len(folder_imports(modules))}"
    yield f"function bodies               median {statistics.median(lengths):.0f}, p95 {percentile(lengths, 95)} lines"
    yield f"typed share                   {typed_share(found):.1%}"
    yield f"tuple-to-tuple assignments    {tuple_assignments(modules) / lines * 1000:.1f} per 1000 lines"
    yield f"comments                      {comment_lines(modules) / code_lines(modules) * 100:.1f} per 100 lines"
    yield f"README sentences              mean {statistics.mean(words):.1f}, longest {max(words)} words"


def percentile(values: list[int], percent: int) -> int:
    """Return the nearest-rank percentile of sorted values."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]
    sys.stdout.writelines(f"{line}\n" for line in report(chosen))
