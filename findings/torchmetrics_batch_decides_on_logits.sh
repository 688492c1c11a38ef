#!/usr/bin/env bash
# torchmetrics 1.9.0
# A binary metric applies the sigmoid to a batch only if some score in that batch lies outside 0 to 1.
# A logit of 0.3 counts as class 1 beside a score of -0.2, and as class 0 beside 0.2: batch mates decide.
# Who is hurt: high or low arousal from a calibrated or weak model is scored by two rules, and batch size moves the result.
# Way around: apply the sigmoid yourself before every update.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
import torchmetrics

logits = torch.tensor([0.4, -0.2, 0.3, 0.2])
labels = torch.tensor([1, 0, 1, 1])
print("version: torchmetrics", torchmetrics.__version__)
print("expected: one accuracy, however the four scores are batched")
seen = {}
for size in (4, 2, 1):
    metric = torchmetrics.Accuracy(task="binary")
    for x, y in zip(logits.split(size), labels.split(size)):
        metric.update(x, y)
    seen[size] = float(metric.compute())
    print(f"seen: batches of {size}: accuracy {seen[size]:.2f}")
if seen != {4: 1.0, 2: 0.5, 1: 0.25}:
    raise SystemExit("The behaviour is no longer as stated.")
PY
