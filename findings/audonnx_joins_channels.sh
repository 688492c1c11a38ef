#!/usr/bin/env bash
# audonnx 1.0.1
# A model whose input is [1, -1] gets two channels of a recording as one channel of twice the length.
# The sample rate that is passed with the sound is not looked at, unless the model has a transform.
# Who is hurt: stereo files are predicted as a recording played twice, and other rates as slow or fast speech, in silence.
# Way around: give the model a transform (audonnx.Function) that checks rate and shape.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audonnx==1.0.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'PY'
from importlib.metadata import version

import audonnx
import numpy as np
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("Shape", ["signal"], ["samples"], start=1, end=2)], "length",
    [helper.make_tensor_value_info("signal", TensorProto.FLOAT, [1, "samples"])],
    [helper.make_tensor_value_info("samples", TensorProto.INT64, [1])])
proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
model = audonnx.Model(proto)
stereo = np.zeros((2, 16000), np.float32)
seen = int(model(stereo, 16000)[0])
other = int(model(stereo[:1], 44100)[0])
print("version: audonnx", version("audonnx"))
print("expected: two channels of 16000 samples are refused, or are two rows; so is a rate that does not fit")
print(f"seen: one row of {seen} samples; at 44100 Hz {other} samples, with no message")
if (seen, other) != (32000, 16000):
    raise SystemExit("The behaviour is no longer as stated.")
PY
