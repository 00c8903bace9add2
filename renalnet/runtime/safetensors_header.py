"""The metadata of safetensors files, which the library reads from local paths only, not from bytes."""

from typing import Final

from renalnet.json_text import parse_json

_LENGTH_BYTES: Final = 8


def metadata_of(content: bytes) -> dict[str, str]:
    """Return the metadata in the content of a safetensors file.

    The file starts with eight bytes that state the length of its JSON header.

    Raises:
        KeyError: the header has no metadata.
        ValueError: the header is not JSON.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    return dict(parse_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"])
