#!/usr/bin/env bash
# torch 2.13.0
# A sequence that is padding throughout gives finite output from TransformerEncoderLayer in training, and NaN in evaluation.
# Evaluation without gradients takes another path through the code, and its softmax over no frames is 0 / 0.
# Who is hurt: a model trains without trouble on turns with no voiced frame, and then predicts NaN for such turns.
# Way around: leave empty sequences out of every batch, or unmask their first frame and drop the result.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

import torch

warnings.simplefilter("ignore")
torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
x = torch.randn(2, 6, 8)
padding = torch.zeros(2, 6, dtype=torch.bool)
padding[0] = True                               # the first sequence has no frame
layer.train()
trained = layer(x, src_key_padding_mask=padding).detach()
layer.eval()
with torch.no_grad():
    evaluated = layer(x, src_key_padding_mask=padding)
print("version: torch", torch.__version__)
print("expected: the same output in both modes, since dropout is 0")
seen = [torch.isnan(y).any(dim=(1, 2)).tolist() for y in (trained, evaluated)]
print(f"seen: NaN by sequence: training {seen[0]}, evaluation {seen[1]}")
print(f"seen: the second sequence differs by {float((trained - evaluated)[1].abs().max()):.1e}")
if seen != [[False, False], [True, False]]:
    raise SystemExit("The behaviour is no longer as stated.")
PY
