#!/usr/bin/env bash
# torch 2.13.0, on the CPU
# Under autocast to bfloat16 a GRU returns float32, and an LSTM and a plain RNN return bfloat16.
# The GRU's numbers are those of bfloat16 arithmetic none the less: its dtype hides a thousandfold larger error.
# Who is hurt: code that trusts the dtype takes the GRU for exact, or fails where an LSTM takes its place.
# Way around: cast outputs with .float() after any recurrent layer, and leave autocast off to get float32 accuracy.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch

torch.manual_seed(0)
x = torch.randn(4, 50, 16)
print("version: torch", torch.__version__)
print("expected: one output dtype for the three recurrent layers")
dtype, error = {}, {}
for name in ("RNN", "LSTM", "GRU"):
    layer = getattr(torch.nn, name)(16, 32, batch_first=True)
    with torch.no_grad():
        exact = layer.double()(x.double())[0]
        plain = layer.float()(x)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = layer(x)[0]
    dtype[name] = mixed.dtype
    error[name] = float((mixed - exact).abs().max()), float((plain - exact).abs().max())
    print(f"seen: {name}: {mixed.dtype}, error {error[name][0]:.1e}; without autocast {error[name][1]:.1e}")
holds = dtype["GRU"] == torch.float32 and dtype["LSTM"] == dtype["RNN"] == torch.bfloat16
if not (holds and error["GRU"][0] > 100 * error["GRU"][1]):
    raise SystemExit("The behaviour is no longer as stated.")
PY
