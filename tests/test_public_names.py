"""The public names of `renalnet` and `study`."""

import pytest

import renalnet
import study


def test_every_public_name_is_there() -> None:
    assert set(renalnet.__all__) == set(renalnet._HOMES)
    for name in renalnet.__all__:
        public = getattr(renalnet, name)
        # A label set is an object whose own name is in lower case.
        assert name == (public.name.upper() if isinstance(public, renalnet.LabelSet) else public.__name__)
        assert name in dir(renalnet)
    assert study.Results.__name__ == "Results"


@pytest.mark.parametrize("package", [renalnet, study])
def test_another_name_is_no_attribute(package: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'segmenter'"):
        _ = package.segmenter
