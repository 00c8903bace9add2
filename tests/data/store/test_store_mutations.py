"""A store from elsewhere: whatever its files state, it is read equal or refused with a StoreError of one line."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.mutations import json_mutations

from renalnet.config import PrepareConfig
from renalnet.data.images.volume import Grid
from renalnet.data.store.manifest import FileEntry
from renalnet.data.store.reader import MANIFEST, Roi, Store, open_store
from renalnet.data.store.shards import FOOTER_KEY
from renalnet.data.store.writer import StoreWriter, write_store
from renalnet.errors import StoreError
from renalnet.types import Split

CONFIG = PrepareConfig(slab_slices=4)


def roi(case: str, split: Split) -> Roi:
    rng = np.random.default_rng(len(case))
    grid = Grid.axis_aligned((6, 4, 5), (1.0, 0.65, 0.65))
    image = rng.integers(-1024, 2000, grid.shape).astype(np.int16)
    return Roi(case, split, image, rng.integers(0, 3, grid.shape).astype(np.uint8), grid, grid)


ROIS = [roi("a", "train"), roi("bb", "validation")]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("store"), ROIS, CONFIG)


@pytest.fixture
def folder(sound: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound.path, tmp_path / "store"))


def sealed(values: Any) -> Any:
    """A manifest with a right checksum, whatever it states."""
    plain = {name: value for name, value in values.items() if name != "checksum"}
    return {**plain, "checksum": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def outcome(folder: Path) -> str:
    """Read the whole store; return `refused` or `equal`."""
    try:
        store = open_store(folder)
        store.verify()
        store.describe()
        for case in store.cases():
            store.class_locations(case)
        found = [store.read(case) for case in store.cases()]
    except StoreError as error:
        message = str(error)
        assert message and "\n" not in message and len(message) < 2000, message
        return "refused"
    for one in found:
        (whole,) = [each for each in ROIS if each.case == one.case]
        np.testing.assert_array_equal(one.image, whole.image)
        np.testing.assert_array_equal(one.label, whole.label)
    return "equal"


@pytest.mark.parametrize(
    ("change_json", "every"),
    [
        pytest.param(sealed, 5, id="some sealed"),
        pytest.param(sealed, 1, id="sealed", marks=pytest.mark.slow),
        pytest.param(lambda values: values, 1, id="edited", marks=pytest.mark.slow),
    ],
)
def test_every_field_of_a_manifest(folder: Path, change_json: Callable[[Any], Any], every: int) -> None:
    content = (folder / MANIFEST).read_bytes()
    found = []
    for what, damaged in json_mutations(content, change_json, every):
        (folder / MANIFEST).write_bytes(damaged)
        try:
            found.append(outcome(folder))
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert found.count("refused") > 300 / every
    # A field that no ROI depends on, such as a note, may have another value.
    assert ("equal" in found) == (change_json is sealed)


def with_index(folder: Path, table: pa.Table) -> None:
    """Put an index into a store, and state it in the manifest."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content = bytes(sink.getvalue())
    entry = FileEntry.of("index", content)
    (folder / entry.name).write_bytes(content)
    values = json.loads((folder / MANIFEST).read_text())
    about = {"name": entry.name, "num_bytes": entry.num_bytes, "sha256": entry.sha256}
    (folder / MANIFEST).write_text(json.dumps(sealed({**values, "index": about})))


def changed_tables(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield an index with another value in the first row, for each column, then without the column."""
    numbers = (None, -1, 0, 1, 7, 2**31 - 1)
    for place, field in enumerate(table.schema):
        own = table.column(place).to_pylist()
        texts = (None, "", "../x", "bb", "{}", "[", '{"size_xyz": [1, 2]}', "[" * 5000)
        lists = (None, [], [None], ["x"])
        values = numbers if pa.types.is_integer(field.type) else texts if pa.types.is_string(field.type) else lists
        for value in values:
            column = pa.array([value, *own[1:]], field.type)
            yield f"{field.name} = {value!r:.40}", table.set_column(place, field, column)
        yield f"{field.name} of another type", table.set_column(place, field.name, pa.array([True] * len(own)))
        yield f"no {field.name}", table.remove_column(place)


@pytest.mark.slow
def test_every_field_of_an_index(sound: Store, folder: Path) -> None:
    found = {}
    for what, table in changed_tables(sound.index.table):
        with_index(folder, table)
        try:
            found[what] = outcome(folder)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert found["depth = 7"] == found["num_rows = 7"] == found["first_row = 1"] == found["shard = '../x'"] == "refused"
    assert found["stamp = ''"] == "equal"


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_every_field_of_a_footer_of_an_interrupted_preparation(sound: Store, tmp_path: Path, every: int) -> None:
    """A shard whose footer is not understood is prepared again; a sound one is taken over."""
    whole = next(Path(sound.path, "shards").glob("train-*.parquet")).read_bytes()
    with pq.ParquetFile(pa.BufferReader(whole)) as file:
        table = file.read()
        footer = file.metadata.metadata[FOOTER_KEY]
    taken = [adopted(tmp_path, table, content) for _, content in json_mutations(footer, every=every)]
    assert adopted(tmp_path, table, footer) == {"a"}
    assert taken.count(set()) > 100 / every


def adopted(folder: Path, table: pa.Table, footer: bytes) -> set[str]:
    """Return the cases that a preparation takes over from a shard with this footer."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        for row in range(table.num_rows):
            writer.write_table(table.slice(row, 1))
        writer.add_key_value_metadata({FOOTER_KEY: footer})
    content = bytes(sink.getvalue())
    name = FileEntry.of("train", content).name
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards" / name).write_bytes(content)
    cases = StoreWriter(folder, CONFIG).adopt("", lambda _: True)
    (folder / "shards" / name).unlink()
    return cases
