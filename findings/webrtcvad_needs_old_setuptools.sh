#!/usr/bin/env bash
# webrtcvad 2.0.10 beside setuptools 82.0.0
# webrtcvad builds and installs, but cannot be imported: it asks setuptools for pkg_resources, which 82 has dropped.
# It needs a C compiler; its metadata names no dependency, so an installer sees nothing wrong.
# Who is hurt: voice activity detection that worked for years fails after an upgrade of the packaging tools.
# Way around: pin setuptools<82 in the environment, or take the fork webrtcvad-wheels.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check webrtcvad==2.0.10 setuptools==82.0.0
venv/bin/python - <<'PY'
import importlib.metadata

print("version: webrtcvad", importlib.metadata.version("webrtcvad"),
      "setuptools", importlib.metadata.version("setuptools"))
print("expected: import webrtcvad works")
try:
    import webrtcvad
    seen = "the import works"
except ModuleNotFoundError as error:
    seen = f"ModuleNotFoundError: {error}"
print("seen:", seen)
if "pkg_resources" not in seen:
    raise SystemExit("The behaviour is no longer as stated.")
PY
