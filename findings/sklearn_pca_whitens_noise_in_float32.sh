#!/usr/bin/env bash
# scikit-learn 1.9.1
# PCA picks the covariance solver by itself for long tables; in float32 with a large mean its last components are wrong.
# A variance comes out as exactly 0, and whitening then blows that component up a million times; no warning appears.
# Who is hurt: features in hertz (formants, centroids) in float32 reach a regressor with one column of huge numbers.
# Way around: standardise before PCA, convert to float64, or set svd_solver="full".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
venv/bin/python - <<'PY'
import numpy as np
import sklearn
from sklearn.decomposition import PCA

rng = np.random.default_rng(0)
X = 2000 + 3 * rng.standard_normal((5000, 8)) @ rng.standard_normal((8, 8))
print("version: scikit-learn", sklearn.__version__)
print("expected: whitened components of standard deviation 1")
worst = {}
for name, data in (("float32, default", X.astype(np.float32)), ("float64, default", X)):
    pca = PCA(whiten=True)
    worst[name] = pca.fit_transform(data).std(axis=0).max()
    print(f"seen: {name}: largest deviation {worst[name]:.4g}, "
          f"least variance {pca.explained_variance_.min():.4g}")
full = PCA(whiten=True, svd_solver="full").fit_transform(X.astype(np.float32)).std(axis=0).max()
print(f"seen: float32, svd_solver='full': largest deviation {full:.4g}")
if worst["float32, default"] < 1e4 or full > 1.1 or worst["float64, default"] > 1.1:
    raise SystemExit("The behaviour is no longer as stated.")
PY
