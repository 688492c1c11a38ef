#!/usr/bin/env bash
# pyarrow 26.0.1
# Five bytes written to S3 go out in three requests, one after the other: create an upload in parts,
# send one part, complete it. A setting that only the reference names makes one request of them.
# Who is hurt: whoever writes many small files, such as records and tables; each waits three times.
# Way around: allow_delayed_open=True, or the same word in the query of an s3:// address.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 "moto[server]==5.1.22" boto3
venv/bin/python - <<'PY'
import threading

import boto3
import pyarrow
from moto.server import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import WSGIRequestHandler, make_server

requests = []
serve = DomainDispatcherApplication(create_backend_app)


def counted(request, start_response):
    requests.append(request["REQUEST_METHOD"])
    return serve(request, start_response)


class Silent(WSGIRequestHandler):
    def log_request(self, *_):
        pass


server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=Silent)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"127.0.0.1:{server.server_port}"
boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1",
             aws_access_key_id="key", aws_secret_access_key="secret").create_bucket(Bucket="here")


def written(**options):
    store = fs.S3FileSystem(access_key="key", secret_key="secret", endpoint_override=endpoint,
                            scheme="http", region="us-east-1", **options)
    requests.clear()
    with store.open_output_stream("here/file") as file:
        file.write(b"small")
    return list(requests)


plain, delayed = written(), written(allow_delayed_open=True)
print("version: pyarrow", pyarrow.__version__)
print("expected: one PUT for a file of five bytes")
print("seen: as it comes:", ", ".join(plain))
print("seen: allow_delayed_open=True:", ", ".join(delayed))
if plain != ["POST", "PUT", "POST"] or delayed != ["PUT"]:
    raise SystemExit("The behaviour is no longer as stated.")
PY
