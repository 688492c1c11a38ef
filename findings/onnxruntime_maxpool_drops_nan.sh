#!/usr/bin/env bash
# onnxruntime 1.32.0, on the CPU
# MaxPool drops NaN: the pool of NaN and 1 is 1, where ReduceMax, NumPy and PyTorch give NaN.
# A missing input in a convolutional network disappears at the first pooling layer after export.
# Who is hurt: a damaged spectrogram gives an ordinary prediction, and a check of outputs for NaN never fires.
# Way around: check the inputs with numpy.isfinite before each run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

def run(op, x, **attributes):
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **attributes)], op,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]

x = np.array([[[np.nan, 1, 2, np.nan, 3, 4]]], dtype=np.float32)
pooled = run("MaxPool", x, kernel_shape=[2], strides=[2]).ravel()
reduced = run("ReduceMax", x).ravel()
expected = x.reshape(3, 2).max(axis=1)
print("version: onnxruntime", onnxruntime.__version__)
print(f"expected: pools of two are {expected}, as NumPy has them; ReduceMax gives {reduced}")
print(f"seen: {pooled}")
if not (np.isnan(reduced).all() and np.isfinite(pooled).all()):
    raise SystemExit("The behaviour is no longer as stated.")
PY
