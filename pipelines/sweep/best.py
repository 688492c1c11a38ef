"""Save the best pipeline of a sweep as a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from pipelines.sweep.work import SweepWork
from valence.config import Config
from valence.run import Run
from valence.storage.location import Location
from valence.sweep.fitting import assemble
from valence.sweep.grid import Combination
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.kept.serialization import save_regressor
from valence.sweep.transforms import Division, training_target, transform, untransformed


def keep_best(
    run: Run,
    folder: Location,
    best: Combination,
    outcomes: Mapping[Combination, TrialOutcome],
    division: Division,
    selection: Mapping[str, Any],
    config: Config,
    work: SweepWork,
) -> float:
    """Save the best combination with a description in `folder/best`.

    The combination is fitted on the training rows again, except for a regressor that its trial has
    kept. The result is the largest difference between its new predictions for validation rows and
    those of its trial.
    """
    with threadpool_limits(limits=1):
        raw, y = untransformed(division), training_target(division.training)
        seed, shared = config.sweep.seed, work.read_information_for(best)
        data = transform(best.scaler, best.reducer, raw, y, seed=seed, shared=shared)
        recording = division.training.recording
        pipeline = assemble(
            best,
            data,
            y,
            recording=recording,
            config=config.sweep,
            kept=work.read_fitted(str(best)),
        )
        again = np.asarray(pipeline.predict(raw.validation), np.float64)
    difference = float(np.max(np.abs(again - outcomes[best].validation)))
    features = run.stage("features").require()
    save_regressor(
        folder / "best",
        pipeline,
        columns=raw.training.shape[1],
        about={
            "target": division.training.targets[0],
            "steps": {
                "scaler": best.scaler.model_dump(mode="json"),
                "reducer": best.reducer.model_dump(mode="json"),
                "regressor": best.regressor.model_dump(mode="json"),
            },
            "engine": outcomes[best].engine,
            "rows": outcomes[best].rows,
            "select_on": selection["select_on"],
            "scores": selection["best"],
            "largest_difference_to_trial": difference,
            "model": features["made_of"].get("model"),
            "features": features["summary"]["digest"],
            # The regressor of a feature set takes its functionals, in this order.
            **({"feature_set": described} if (described := selection.get("feature_set")) else {}),
        },
    )
    return difference
