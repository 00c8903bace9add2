"""Creating a file only where there is none, so that of many who try at once exactly one succeeds.

On a mounted file system, NFS included, a hard link decides; on S3 a conditional put, which pyarrow lacks and boto3 has
(`pip install 'renalnet[s3]'`). Where neither is to be had the file is written all the same, and the outcome says so.
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
"""`unsure`: written, but another may have written at the same moment, and the later one stays."""
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system without hard links says."""
_TAKEN: Final = (409, 412)
"""Another's put is under way, or the object is there."""


def create(path: str, content: bytes) -> Outcome:
    """Write a whole file where there is none; one that is there stays as it is.

    Raises:
        OSError: the file system or the storage refuses, or is not reached.
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
        os.link(temporary, path)
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
    from botocore.exceptions import BotoCoreError, ClientError

    filesystem, inner = storage.resolve(path)
    bucket, _, key = inner.partition("/")
    query = {name: values[-1] for name, values in parse_qs(urlsplit(path).query).items()}
    endpoint = query.get("endpoint_override", "")
    address = endpoint if "://" in endpoint or not endpoint else f"{query.get('scheme', 'https')}://{endpoint}"
    try:
        _client(address, filesystem.region).put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in _TAKEN:
            return "exists"
        if status == 501:  # a server that knows no conditional put
            return _write_if_absent(path, content)
        raise OSError(f"{path}: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"{path}: {error}") from error
    return "created"


@lru_cache(maxsize=4)
def _client(address: str, region: str) -> Any:
    """boto3's client of a server; credentials come from where pyarrow finds them, the environment or its files."""
    import boto3
    from botocore.config import Config

    style = "path" if address else "auto"  # as pyarrow: servers of one's own have no host a bucket
    config = Config(s3={"addressing_style": style}, request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=address or None, region_name=region, config=config)


def _write_if_absent(path: str, content: bytes) -> Outcome:
    if storage.exists(path):
        return "exists"
    storage.write_bytes(path, content)
    return "unsure"
