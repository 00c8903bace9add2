"""Creation of a file only if it does not exist, so that exactly one of many concurrent processes succeeds.

On a mounted file system, including NFS, this uses a hard link. On S3 it uses a conditional put, which boto3 offers
(`pip install ".[s3]"`) and pyarrow does not. Elsewhere the file is written without this guarantee, and the
outcome says so.
"""

import errno
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from renalnet.runtime import storage

Outcome: TypeAlias = Literal["created", "exists", "unsure"]
"""`unsure` means that the file was written, but another process may have written it at the same time. The later one is
kept."""
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Error numbers of a file system without hard links."""
_TAKEN: Final = (409, 412)
"""HTTP codes that mean that another put is in progress, or that the object exists."""


def create(path: str, content: bytes) -> Outcome:
    """Write a whole file if it does not exist. An existing file is not changed.

    Raises:
        OSError: the file system or the storage refuses the write, or cannot be reached.
    """
    if not storage.is_remote(path):
        return _link(Path(storage.absolute(path)), content)
    if path.startswith("s3://") and find_spec("boto3"):
        return _put_if_absent(path, content)
    return _write_if_absent(path, content)


def _link(path: Path, content: bytes) -> Outcome:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = storage.temporary_name(path)
    try:
        storage.write_through(temporary, content)
        os.link(temporary, path)  # appears with its whole content, even if this process is killed
    except FileExistsError:
        return "exists"
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _write_if_absent(str(path), content)
    finally:
        temporary.unlink(missing_ok=True)
    return "created"


def _put_if_absent(path: str, content: bytes) -> Outcome:
    # Imported here, because boto3 is an optional dependency.
    from botocore.exceptions import BotoCoreError, ClientError

    filesystem, inner = storage.resolve(path)
    bucket, _, key = inner.partition("/")
    try:
        _client(_server(path), filesystem.region).put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in _TAKEN:
            return "exists"
        if status == 501:  # the server does not implement the conditional put
            return _write_if_absent(path, content)
        raise OSError(f"{path}: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"{path}: {error}") from error
    return "created"


def _server(uri: str) -> str:
    """Return the address of the server that the query of an S3 URI names, empty for Amazon's."""
    query = {name: values[-1] for name, values in parse_qs(urlsplit(uri).query).items()}
    endpoint = query.get("endpoint_override", "")
    return endpoint if "://" in endpoint or not endpoint else f"{query.get('scheme', 'https')}://{endpoint}"


@lru_cache(maxsize=4)
def _client(address: str, region: str) -> Any:
    """Return a boto3 client of a server. It finds credentials where pyarrow does: in the environment or in files."""
    import boto3
    from botocore.config import Config

    # The same style as pyarrow. A server other than Amazon's has no host name for each bucket.
    style = "path" if address else "auto"
    # By default, boto3 adds a checksum to each put, which some other servers do not accept.
    config = Config(s3={"addressing_style": style}, request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=address or None, region_name=region, config=config)


def _write_if_absent(path: str, content: bytes) -> Outcome:
    if storage.exists(path):
        return "exists"
    storage.write_bytes(path, content)
    return "unsure"
