"""Names of cases stay inside the folder that they are joined to."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.balls import ball_roi

from renalnet.config import PrepareConfig
from renalnet.data.cases.names import MAX_BYTES, name_fault
from renalnet.data.store.reader import Store, open_store
from renalnet.data.store.writer import write_store
from renalnet.errors import StoreError


@pytest.mark.parametrize("name", ["case_00000", "Patient 12, left", "Müller", "患者1", "a" * MAX_BYTES, "1.2.840.113"])
def test_usual_names(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "1 to 180 bytes"),
        ("a" * (MAX_BYTES + 1), "1 to 180 bytes"),
        ("患" * 61, "1 to 180 bytes"),
        ("../up", "no slash"),
        ("a\\b", "backslash"),
        ("/tmp/x", "no slash"),
        ("a\nb", "control character"),
        ("a\x1b[2J", "control character"),
        ("..", "begin with a dot"),
        (".hidden", "begin with a dot"),
        (" a", "no space at its ends"),
    ],
)
def test_names_that_are_none(name: str, reason: str) -> None:
    assert reason in (name_fault(name) or "")


def test_a_writer_refuses_a_name_that_leads_out_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"case '\.\./up': a name has no slash, backslash or control character; rename"
    ):
        write_store(tmp_path / "s", [ball_roi("../up", "train", 0)], PrepareConfig(localise="cut"))


def renamed(store: Store, folder: Path, column: str, value: str) -> Path:
    """Return a copy of a store in whose index the first value of a column is another one, with right checksums."""
    copy = Path(shutil.copytree(store.path, folder / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    index = pq.read_table(copy / manifest["index"]["name"])
    values = [value, *index.column(column).to_pylist()[1:]]
    changed = index.set_column(index.column_names.index(column), index.schema.field(column), pa.array(values))
    pq.write_table(changed, copy / manifest["index"]["name"])
    content = (copy / manifest["index"]["name"]).read_bytes()
    manifest["index"] |= {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return signed(copy, manifest)


def signed(store: Path, manifest: dict[str, object]) -> Path:
    manifest.pop("checksum")
    checksum = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (store / "manifest.json").write_text(json.dumps({**manifest, "checksum": checksum}))
    return store


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("case", "../../../../ESCAPED", r"case '\.\./\.\./\.\./\.\./ESCAPED': a name has no slash"),
        ("split", "trian", "split 'trian': must be one of train, validation, test"),
    ],
)
def test_a_store_from_elsewhere_is_refused(
    ball_store: Store, tmp_path: Path, column: str, value: str, reason: str
) -> None:
    with pytest.raises(StoreError, match=reason):
        open_store(renamed(ball_store, tmp_path, column, value))


def test_a_file_of_a_store_lies_in_it(ball_store: Store, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ball_store.path, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["shards"][0]["name"] = "../../x.parquet"
    with pytest.raises(
        StoreError, match=r"manifest\.json: not understood \(file '\.\./\.\./x\.parquet': a name has no"
    ):
        open_store(signed(copy, manifest))
