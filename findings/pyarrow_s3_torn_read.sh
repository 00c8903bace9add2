#!/usr/bin/env bash
# pyarrow 26.0.1, moto 5.2.5: one `read()` of an S3 object may return half of an old and half of a new object.
#
# `S3FileSystem.open_input_stream(path).read()` asks for an object of more than 64 KiB in several ranges, each in a
# request of its own and without an If-Match header. S3 replaces objects atomically, and one GET returns one of them whole. An object that
# another process replaces between two of these requests is nevertheless read as a mixture, without an error, as long as
# the new object is not shorter. JSON files that a program renews, such as leases and manifests, are read so by default.
# `open_input_file(path)`, then `read_at(file.size(), 0)`, sends one GET and returns one object.
#
# Output seen:
#   stream.read(): 2 GET requests
#   replaced while a stream is read: 65536 x a, 234464 x b
#   file.read_at(): 1 GET request
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pyarrow==26.0.1 "moto[server]==5.2.5"
cat >"$folder/read.py" <<'PYTHON'
import logging

from moto.server import ThreadedMotoServer
from pyarrow import fs

SIZE = 300_000
requests = []


class Requests(logging.Handler):
    def emit(self, record):
        requests.append(record.getMessage())


log = logging.getLogger("werkzeug")
log.handlers = [Requests()]
log.propagate = False
log.setLevel(logging.INFO)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
store = fs.S3FileSystem(
    access_key="key",
    secret_key="secret",
    region="us-east-1",
    endpoint_override=f"{host}:{port}",
    scheme="http",
    allow_bucket_creation=True,
)
store.create_dir("bucket")


def write(letter):
    with store.open_output_stream("bucket/object") as stream:
        stream.write(letter * SIZE)


def num_gets():
    found = sum("GET /bucket/object" in request for request in requests)
    requests.clear()
    return found


write(b"a")
num_gets()
with store.open_input_stream("bucket/object") as stream:
    assert stream.read() == b"a" * SIZE
print("stream.read():", num_gets(), "GET requests")

with store.open_input_stream("bucket/object") as stream:
    content = stream.read(65536)
    write(b"b")
    content += stream.read()
print(f"replaced while a stream is read: {content.count(b'a')} x a, {content.count(b'b')} x b")

num_gets()
with store.open_input_file("bucket/object") as file:
    assert file.read_at(file.size(), 0) == b"b" * SIZE
print("file.read_at():", num_gets(), "GET request")
server.stop()
PYTHON
"$folder/venv/bin/python" "$folder/read.py" | tee "$folder/seen"
diff - "$folder/seen" <<'SEEN'
stream.read(): 2 GET requests
replaced while a stream is read: 65536 x a, 234464 x b
file.read_at(): 1 GET request
SEEN
