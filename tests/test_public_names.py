"""The public names of `renalnet` and `study`."""

import pytest

import renalnet
import study


def test_every_public_name_is_there() -> None:
    assert set(renalnet.__all__) == set(renalnet._HOMES)
    for name in renalnet.__all__:
        assert getattr(renalnet, name).__name__ == name
        assert name in dir(renalnet)
    assert study.Results.__name__ == "Results"


@pytest.mark.parametrize("package", [renalnet, study])
def test_another_name_is_no_attribute(package: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'segmenter'"):
        _ = package.segmenter
