"""Label sets: the rules and their messages, where a set comes from, its order of importance, and what depends on it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.sr.codedict import codes
from support.label_sets import VESSELS, VESSELS_YAML

from renalnet.config import (
    KIDNEY_TUMOR,
    KITS23,
    Label,
    LabelSet,
    LossConfig,
    PatchConfig,
    PhantomConfig,
    PrepareConfig,
    TrainConfig,
    chosen_labels,
    fingerprint,
    label_set,
    merge,
    override,
    parse,
)
from renalnet.config.labels import LABEL_SETS, require_same_labels
from renalnet.errors import ConfigError, StoreError

KIDNEY = {"name": "kidney", "value": 1}
TUMOR = {"name": "tumor", "value": 2, "lesion_of": "kidney"}


def a_set(*labels: dict[str, Any], name: str = "mine") -> dict[str, Any]:
    return {"name": name, "labels": list(labels)}


def test_the_built_in_sets_are_those_of_kits() -> None:
    assert list(LABEL_SETS) == ["kidney_tumor", "kits23"]
    assert KIDNEY_TUMOR.class_names == ("background", "kidney", "tumor")
    assert KITS23.class_names == ("background", "kidney", "tumor", "cyst")
    assert (len(KITS23), KITS23.num_classes) == (3, 4)
    assert [label.value for label in KITS23.labels] == [1, 2, 3]
    assert str(KITS23) == "kits23 (1 kidney, 2 tumor, 3 cyst)"


def test_the_codes_of_dicom_are_those_of_the_standard() -> None:
    cyst, kidney = KITS23["cyst"].type_code, KITS23.kidney.type_code
    assert (cyst.value, cyst.scheme, cyst.meaning) == tuple(codes.SCT.Cyst)[:3]
    assert (kidney.value, kidney.scheme, kidney.meaning) == tuple(codes.SCT.Kidney)[:3]
    lesion = tuple(codes.SCT.MorphologicallyAbnormalStructure)[:3]
    assert (KITS23.tumor.category.value, KITS23.tumor.category.scheme, KITS23.tumor.category.meaning) == lesion
    # A label without a code has that of its category.
    assert VESSELS["renal_vein"].type_code == VESSELS["renal_vein"].category == KITS23.kidney.category
    # What is known of a name applies to every set, unless the set states something else.
    assert VESSELS["cyst"].type_code == KITS23["cyst"].type_code
    own = label_set(a_set(KIDNEY, {**TUMOR, "words": ["blob"], "code": {"value": "1", "meaning": "Blob"}}))
    assert (own.tumor.words, own.tumor.type_code.meaning) == (("blob",), "Blob")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (a_set({**KIDNEY, "value": 2}, {**TUMOR, "value": 3}), "labels have the values [2, 3]; number them 1, 2, 3"),
        (a_set({**TUMOR, "value": 2}, KIDNEY), "labels have the values [2, 1]; number them 1, 2, 3"),
        (a_set(KIDNEY, TUMOR, {**KIDNEY, "value": 3}), "label 'kidney' is used twice or reserved; rename it"),
        (a_set(KIDNEY, TUMOR, {"name": "mass", "value": 3}), "label 'mass' is used twice or reserved"),
        (a_set(KIDNEY, TUMOR, {"name": "background", "value": 3}), "label 'background' is used twice or reserved"),
        (a_set(KIDNEY, {"name": "cyst", "value": 2, "lesion_of": "kidney"}), "a label 'tumor' with lesion_of: kidney"),
        (a_set({"name": "liver", "value": 1}, {"name": "tumor", "value": 2}), "a set must have a label 'kidney'"),
        (a_set(KIDNEY, {"name": "tumor", "value": 2}), "a label 'tumor' with lesion_of: kidney"),
        (a_set(KIDNEY, {**TUMOR, "lesion_of": "kidny"}), "'kidny' is no label that may have lesions; did you mean"),
        (
            a_set(KIDNEY, TUMOR, {"name": "thrombus", "value": 3, "lesion_of": "tumor"}),
            "label 'thrombus': lesion_of 'tumor' is no label that may have lesions; ",
        ),
        (
            a_set({**KIDNEY, "crop_share": 0.6}, {**TUMOR, "crop_share": 0.5}),
            "crop_share of all labels is 1.1 together; it must be at most 1: lower some",
        ),
        (a_set({**KIDNEY, "painted_hu": [20, -5]}, TUMOR), "painted_hu (20.0, -5.0) must be [low, high]; swap"),
        (a_set({**KIDNEY, "name": "Kidney"}, TUMOR), "labels.0.name = 'Kidney': String should match pattern"),
        (a_set({**KIDNEY, "color": "green"}, TUMOR), "labels.0.color = 'green': String should match pattern"),
        (a_set({**KIDNEY, "words": ["Kidneys"]}, TUMOR), "labels.0.words.0 = 'Kidneys': String should match pattern"),
        (a_set({**KIDNEY, "loss_weight": 0}, TUMOR), "labels.0.loss_weight = 0: Input should be greater than 0"),
        (a_set({**KIDNEY, "wieght": 1}, TUMOR), "unknown key 'labels.0.wieght'"),
        (
            a_set({**KIDNEY, "code": {"value": "12345678901234567", "meaning": "Kidney"}}, TUMOR),
            "labels.0.code.value = '12345678901234567': String should have at most 16 characters",
        ),
        (a_set(KIDNEY), "labels = [{'name': 'kidney', 'value': 1}]: Tuple should have at least 2 items"),
    ],
)
def test_a_set_that_breaks_a_rule_is_refused_in_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        label_set(values)
    assert "\n" not in str(caught.value)


def test_lesions_of_another_structure_are_no_lesions_of_the_kidney() -> None:
    labels = label_set(
        a_set(KIDNEY, TUMOR, {"name": "liver", "value": 3}, {"name": "metastasis", "value": 4, "lesion_of": "liver"})
    )
    assert [label.name for label in labels.lesions] == ["tumor"]
    assert [label.name for label in labels.body] == ["kidney", "tumor"]
    assert labels["metastasis"].category == KITS23.tumor.category


def test_labels_are_found_by_name() -> None:
    assert KITS23["cyst"].value == 3
    assert "cyst" in KITS23
    assert "cyst" not in KIDNEY_TUMOR
    with pytest.raises(KeyError, match="cyst"):
        KIDNEY_TUMOR["cyst"]
    assert VESSELS["renal_vein"].title == "renal vein"


def test_a_set_is_read_from_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "vessels.yaml"
    path.write_text(VESSELS_YAML)
    assert label_set(str(path)) == VESSELS
    assert VESSELS.names == ("kidney", "tumor", "cyst", "renal_artery", "renal_vein")
    assert parse(PrepareConfig, {"labels": str(path)}).labels == VESSELS
    path.write_text(VESSELS_YAML.replace("value: 4", "value: 7"))
    with pytest.raises(ConfigError, match=r"vessels\.yaml: labels have the values \[1, 2, 3, 7, 5\]"):
        label_set(str(path))
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        label_set(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize("source", ["kits21", "", 3, None, ["kidney"]])
def test_an_unknown_set_lists_the_known_ones(source: object) -> None:
    words = re.escape(f"unknown label set '{source}'; name a YAML file, or a built-in set: kidney_tumor, kits23")
    with pytest.raises(ConfigError, match=words):
        label_set(source)
    with pytest.raises(ConfigError, match=f"labels = .*{words}"):
        parse(PrepareConfig, {"labels": source})


def test_a_set_within_a_configuration_names_the_wrong_key() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'labels\.labels\.0\.wieght'"):
        parse(PrepareConfig, {"labels": a_set({**KIDNEY, "wieght": 1}, TUMOR)})


def test_a_configuration_goes_to_json_and_back() -> None:
    for section in (TrainConfig(labels=VESSELS), PrepareConfig(labels=KITS23), PhantomConfig(labels=VESSELS)):
        assert parse(type(section), section.model_dump(mode="json")) == section


def test_the_assignment_decides_before_the_file_and_the_file_before_the_default() -> None:
    assert chosen_labels([]) == KIDNEY_TUMOR
    assert chosen_labels(["epochs=2"], {"epochs": 3}) == KIDNEY_TUMOR
    assert chosen_labels(["epochs=2"], {"labels": "kits23"}) == KITS23
    assert chosen_labels(["labels=kidney_tumor"], {"labels": "kits23"}) == KIDNEY_TUMOR
    assert chosen_labels(["labels=kidney_tumor", "labels=kits23"]) == KITS23
    assert chosen_labels([], {"labels": a_set(KIDNEY, TUMOR)}).name == "mine"
    with pytest.raises(ConfigError, match="unknown label set 'kits'"):
        chosen_labels(["labels=kits"])


LAST_IS_KIDNEY = label_set(
    a_set(
        {"name": "tumor", "value": 1, "lesion_of": "kidney"},
        {"name": "vein", "value": 2},
        {"name": "cyst", "value": 3, "lesion_of": "kidney"},
        {"name": "stone", "value": 4, "lesion_of": "kidney"},
        {"name": "kidney", "value": 5},
    )
)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (KIDNEY_TUMOR, ["kidney", "tumor"]),
        (KITS23, ["kidney", "cyst", "tumor"]),
        (VESSELS, ["renal_artery", "renal_vein", "kidney", "cyst", "tumor"]),
        (LAST_IS_KIDNEY, ["vein", "kidney", "stone", "cyst", "tumor"]),
    ],
)
def test_the_tumor_is_the_most_important_label(labels: LabelSet, names: list[str]) -> None:
    assert [label.name for label in labels.by_rank] == names
    values = np.arange(labels.num_classes, dtype=np.uint8).reshape(1, -1)
    ranks = labels.to_ranks(values)
    assert ranks.dtype == np.uint8 and ranks.shape == values.shape
    assert [int(ranks[0, labels[name].value]) for name in names] == list(range(1, len(names) + 1))
    assert ranks[0, 0] == 0
    back = labels.from_ranks(ranks)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, values)


def test_the_maximum_of_ranks_is_the_more_important_label() -> None:
    one = np.array([0, 4, 1, 3, 2, 5], np.uint8)
    other = np.array([5, 1, 3, 2, 2, 4], np.uint8)
    merged = VESSELS.from_ranks(np.maximum(VESSELS.to_ranks(one), VESSELS.to_ranks(other)))
    assert merged.tolist() == [5, 1, 3, 2, 2, 5]


@pytest.mark.parametrize(
    ("labels", "body", "lesions"),
    [
        (KIDNEY_TUMOR, [0, 1, 1], [0, 0, 1]),
        (KITS23, [0, 1, 1, 1], [0, 0, 1, 1]),
        (VESSELS, [0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]),
        (LAST_IS_KIDNEY, [0, 1, 0, 1, 1, 1], [0, 1, 0, 1, 1, 0]),
    ],
)
def test_masks_of_the_kidney_and_its_lesions(labels: LabelSet, body: list[int], lesions: list[int]) -> None:
    values = np.arange(labels.num_classes, dtype=np.uint8).reshape(1, 1, -1)
    for mask, expected in ((labels.body_mask(values), body), (labels.lesion_mask(values), lesions)):
        assert (mask.dtype, mask.shape) == (np.bool_, values.shape)
        assert mask[0, 0].astype(int).tolist() == expected


def test_sets_of_the_same_names_fit_and_others_do_not() -> None:
    recolored = KITS23.model_copy(
        update={"name": "mine", "labels": (*KITS23.labels[:2], Label(name="cyst", value=3, lesion_of="kidney"))}
    )
    require_same_labels(recolored, KITS23, "store", "the run", StoreError)
    with pytest.raises(StoreError) as caught:
        require_same_labels(KITS23, KIDNEY_TUMOR, "store", "the run", StoreError)
    assert str(caught.value) == (
        "store: its labels are kits23 (1 kidney, 2 tumor, 3 cyst), but those of the run are kidney_tumor (1 kidney, "
        "2 tumor); use one label set for both (--set labels=kits23 for that of store)"
    )
    with pytest.raises(ConfigError, match=r"--set labels=FILE\.yaml, the file of this set, for that of store"):
        require_same_labels(VESSELS, KITS23, "store", "the run", ConfigError)


def test_a_run_has_the_weights_and_shares_of_its_labels() -> None:
    config = TrainConfig(labels=VESSELS)
    assert config.loss.weights(VESSELS) == (0.2, 1.0, 2.0, 2.0, 3.0, 3.0)
    # The last label first, because the rarest one is drawn first.
    assert list(config.patch.shares(VESSELS).items()) == [(5, 0.05), (4, 0.05), (3, 0.1), (2, 0.4), (1, 0.3)]
    assert list(TrainConfig().patch.shares(KIDNEY_TUMOR).items()) == [(2, 0.5), (1, 0.35)]
    dumped = config.model_dump()
    assert dumped["loss"]["renal_vein"] == 3.0
    assert dumped["patch"]["cyst_share"] == 0.1


def test_a_weight_of_the_configuration_replaces_that_of_the_label() -> None:
    config = override(TrainConfig(labels=KITS23), ["loss.cyst=5", "patch.cyst_share=0.2", "patch.tumor_share=0.3"])
    assert config.loss.weights(config.labels) == (0.2, 1.0, 2.0, 5.0)
    assert config.patch.shares(config.labels) == {3: 0.2, 2: 0.3, 1: 0.35}
    assert merge(config, {"loss": {"tumor": 4}}, "file").loss.weights(KITS23) == (0.2, 1.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("loss.cyst=2", r"unknown key 'loss\.cyst'; known: background, kidney, name, tumor"),
        ("loss.tumour=2", r"unknown key 'loss\.tumour'; did you mean 'tumor'\?"),
        ("loss.nam=dice_ce", r"unknown key 'loss\.nam'; did you mean 'name'\?"),
        ("loss.backgrund=1", r"unknown key 'loss\.backgrund'; did you mean 'background'\?"),
        ("patch.cyst_share=0.1", r"unknown key 'patch\.cyst_share'; did you mean"),
        ("patch.tumor=0.1", r"unknown key 'patch\.tumor'; did you mean 'tumor_share'\?"),
        ("patch.flp=0", r"unknown key 'patch\.flp'; did you mean 'flip'\?"),
        ("loss.tumor=0", r"loss\.tumor = 0: Input should be greater than 0"),
        ("loss.tumor=much", r"loss\.tumor = 'much': Input should be a valid number"),
        ("patch.tumor_share=-0.1", r"patch\.tumor_share = -0\.1: Input should be greater than or equal to 0"),
        ("patch.tumor_share=0.7", r"tumor_share 0\.7 \+ kidney_share 0\.35 must be at most 1; lower one"),
        ("labels=kits", r"labels = 'kits': unknown label set 'kits'; name a YAML file, or a built-in set"),
    ],
)
def test_weights_and_shares_of_unknown_labels_are_refused(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(TrainConfig(), [assignment])


def test_a_section_without_a_run_has_the_weights_of_the_labels() -> None:
    assert LossConfig().weights(KITS23) == (0.2, 1.0, 2.0, 2.0)
    assert PatchConfig().shares(KITS23) == {3: 0.1, 2: 0.4, 1: 0.35}


def test_a_default_run_has_the_keys_of_the_versions_before() -> None:
    dumped = TrainConfig().model_dump()
    assert set(dumped["loss"]) == {"name", "background", "kidney", "tumor"}
    assert set(dumped["patch"]) == {"shape", "tumor_share", "kidney_share", "flip"}


def test_another_set_is_another_fingerprint_and_the_default_one_is_none() -> None:
    for section in (TrainConfig, PrepareConfig, PhantomConfig):
        default = section()
        assert fingerprint(section(labels=KITS23)) != fingerprint(default)
        before = default.model_dump(mode="json")
        del before["labels"]
        assert parse(section, before) == default
    # Written down before label sets existed, see `test_loss_table`.
    assert fingerprint(TrainConfig()) == "49fb90f11373f6ca"
