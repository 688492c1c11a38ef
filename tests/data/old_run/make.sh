#!/usr/bin/env bash
# Make the files of this folder with an older build: make.sh CHECKOUT PYTHON, where CHECKOUT is a
# clone at commit a0fb1fb and PYTHON has its packages. Of a report, figures and logs nothing is kept.
set -euo pipefail
checkout=$(realpath "$1") python=$2 here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
cd "$checkout"
"$python" - "$work/corpus" <<'PYTHON'
import sys
from valence.storage import Location
from valence.synthesis import write_corpus
corpus = Location.parse(sys.argv[1])
write_corpus(corpus, subjects=4, seconds=8.0, sr=12_000, seed=1)
parts = "Id,Proposal\n01,train\n02,devel\n03,test\n04,train\n"
(corpus / "metadata/partition.csv").write_text(parts)
PYTHON
"$python" -m pipelines run "$work/corpus" --out "$work/run" --config "$here/settings.toml"
sound="$work/corpus/raw_data/audio/03.wav"
"$python" -m pipelines predict "$sound" --model "$work/run" --out "$work/deep"
"$python" -m pipelines predict "$sound" --model "$work/run" --out "$work/best" --regressor best
# The same training, ended by SIGKILL after its third of four epochs.
mkdir "$work/cut"
cp -r "$work/run/config.toml" "$work/run/segments" "$work/cut"
setsid "$python" -m pipelines train "$work/cut" &
training=$!
until grep -qs '"epoch": 3' "$work/cut/train/state.json"; do sleep 0.02; done
kill -KILL -- "-$training"
rm -rf "$here/finished" "$here/interrupted"
cp -r "$work/run" "$here/finished"
cp -r "$work/cut/train" "$here/interrupted"
cp "$work/deep/03.csv" "$here/predicted.csv"
cp "$work/best/03.csv" "$here/predicted-by-best.csv"
cd "$here"
rm -rf finished/report {finished/train,interrupted}/{ray-*,tensorboard,state.previous.pt}
