"""Label sets in the configuration of a study: what is searched, what is compared, and what is refused."""

from pathlib import Path

import pytest
import yaml

from renalnet.config import KIDNEY_TUMOR, KITS23, LabelSet, chosen_labels, fingerprint, label_set, merge, override
from renalnet.errors import ConfigError
from study.config.changes import refused_changes
from study.config.presets import study_preset
from study.config.sections import StudyConfig
from study.config.space import Real, configure, domains, first_point

FIVE = {
    "name": "five",
    "labels": [
        {"name": "kidney", "value": 1, "crop_share": 0.3},
        {"name": "tumor", "value": 2, "lesion_of": "kidney", "loss_weight": 2, "crop_share": 0.3},
        {"name": "cyst", "value": 3, "lesion_of": "kidney", "crop_share": 0.1},
        {"name": "renal_artery", "value": 4},
        {"name": "renal_vein", "value": 5},
    ],
}


def test_a_study_on_narrow_phantoms_is_that_of_the_versions_before() -> None:
    # Of the version before label sets and wide phantoms; a study of it is resumed only by an equal fingerprint.
    narrow = override(study_preset("quick"), ["phantom.contrast=narrow", "resources.gpus_per_trial=1"])
    assert fingerprint(narrow) == "0d2c4aa2983368d5" != fingerprint(study_preset("quick"))


def test_weights_of_all_lesions_are_searched() -> None:
    config = study_preset("quick", KITS23)
    found = domains(config.space, "fcn_ppm")
    # From a quarter of the label's weight of 2 to four times that weight.
    assert found["cyst_weight"] == Real(0.5, 8.0)
    point = first_point(config.train, config.space, "fcn_ppm")
    assert point is not None and point["cyst_weight"] == 2.0
    train = configure(config.train, "fcn_ppm", {16: 16}, {**point, "cyst_weight": 3.5, "tumor_weight": 1.5})
    assert train.loss.weights(KITS23) == (0.2, 1.0, 1.5, 3.5)
    assert "cyst_weight" not in domains(study_preset("quick").space, "fcn_ppm")


def test_other_structures_keep_their_weight_unless_it_is_searched() -> None:
    labels = label_set(FIVE)
    config = study_preset("quick", labels)
    assert "renal_vein_weight" not in domains(config.space, "fcn_ppm")
    wider = override(config, ["space.renal_vein_weight=[1, 4]", "space.renal_artery_share=[0.05, 0.1]"])
    found = domains(wider.space, "fcn_ppm")
    assert found["renal_vein_weight"] == Real(1.0, 4.0)
    assert found["renal_artery_share"] == Real(0.05, 0.1, log=False)
    assert not wider.space.is_within(config.space) and wider.space.is_within(wider.space)
    point = first_point(
        merge(wider, {"train": {"patch": {"renal_artery_share": 0.1}}}, "t").train, wider.space, "unet3d"
    )
    assert point is not None and (point["renal_vein_weight"], point["renal_artery_share"]) == (1.0, 0.1)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("prepare.labels=kits23", "prepare.labels: differs from labels; set only labels"),
        ("space.cyst_weight=[1, 2]", "unknown key 'space.cyst_weight'"),
        ("space.kidney_weight=[1, 2]", "unknown key 'space.kidney_weight'"),
        ("train.loss.cyst=2", "unknown key 'loss.cyst'"),
        ("train.patch.cyst_share=0.1", "unknown key 'patch.cyst_share'"),
        ("labels=kits32", "unknown label set 'kits32'"),
    ],
)
def test_what_the_default_set_refuses(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(study_preset("quick"), [assignment])


def test_shares_of_all_labels_are_at_most_one() -> None:
    with pytest.raises(ConfigError, match=r"space.cyst_share, train.patch.tumor_share, .* add up to 1.05"):
        override(study_preset("quick", KITS23), ["space.cyst_share=[0.1, 0.3]"])


def test_a_study_goes_on_with_its_own_labels_only() -> None:
    before = study_preset("quick")
    refused = refused_changes(before.model_dump(mode="json"), study_preset("quick", KITS23))
    assert refused[0] == "labels kidney, tumor → kidney, tumor, cyst"
    assert not any("color" in words or "code" in words for words in refused)
    assert refused_changes(before.model_dump(mode="json"), before) == []


def test_a_study_from_before_label_sets_goes_on() -> None:
    config = study_preset("quick")
    values = config.model_dump(mode="json")
    for section in (values, values["phantom"], values["prepare"], values["train"]):
        del section["labels"]
    del values["phantom"]["other_lesion_share"]
    assert refused_changes(values, config) == []


def test_the_set_of_a_command_is_read_before_its_other_values(tmp_path: Path) -> None:
    path = tmp_path / "five.yaml"
    path.write_text(yaml.safe_dump(FIVE))
    five = label_set(FIVE)
    assert chosen_labels([f"labels={path}"]) == five
    assert chosen_labels(["seed=3"], {"labels": FIVE}) == five
    # The last assignment wins, and assignments come after the file.
    assert chosen_labels(["labels=kits23", "labels=kidney_tumor"], {"labels": FIVE}) == KIDNEY_TUMOR
    config = override(study_preset("quick", five), [f"labels={path}", "train.loss.renal_vein=3"])
    assert config.train.loss.weights(five) == (0.2, 1.0, 2.0, 1.0, 1.0, 3.0)
    assert _sets(config) == {five}


def test_a_configuration_file_states_a_set() -> None:
    config = merge(study_preset("quick", label_set(FIVE)), {"labels": FIVE, "seed": 4}, "file")
    assert _sets(config) == {label_set(FIVE)} and config.seed == 4


def _sets(config: StudyConfig) -> set[LabelSet]:
    return {config.labels, config.phantom.labels, config.prepare.labels, config.train.labels}
