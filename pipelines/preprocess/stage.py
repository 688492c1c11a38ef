"""The stage `segments`: every recording of a corpus into the segment store, by Ray Data.

A task takes some recordings from their files in the corpus to their files in the store and returns
a small row for each. The driver merges what the rows tell in the order of the Ids, so that the
outputs do not depend on who did what and when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.preprocess.summary import Tally, tell_remarks
from pipelines.preprocess.tasks import process_recordings
from pipelines.runtime.console import Console
from pipelines.runtime.nodes import cpu_nodes, require_cpus, tell_of_absence
from pipelines.runtime.prometheus import stage_metrics
from pipelines.runtime.shared_storage import require_shared
from valence.audio.standardization import MelMoments
from valence.chain import FREE
from valence.config import Config
from valence.corpus.muse import Corpus, read_corpus
from valence.corpus.splits import assign_splits
from valence.corpus.synthetic import SYNTHETIC
from valence.errors import CorpusError, DamagedError, MissingStageError, StaleError
from valence.formatting import some
from valence.provenance import fingerprint
from valence.run import Run
from valence.segments.jobs import Job, PartOutcome, RecordingOutcome
from valence.segments.store import SegmentStore
from valence.stage import FORMAT, Opening, Stage
from valence.storage.location import Location

# Sections on which the segments depend only by what came of them, and which they note beside it.
_BESIDE = ("corpus", "labels", "split")


@dataclass(frozen=True)
class PreprocessingPlan:
    """The work of preprocessing, decided before anything is changed.

    Attributes
    ----------
    run, config
        What it works on.
    opening
        What stands in `RUN/segments`.
    jobs
        The recordings of the corpus.
    sizes, listing
        Sizes of the corpus's files by path, and a fingerprint that tells when one was touched.
    stock
        Bytes of each file of segments that stands there, by Id.
    amiss
        Files of finished segments that are not as they were written, and what is wrong.
    source
        What `config.toml` says of the corpus.
    subjects
        How the subjects are known.
    """

    run: Run
    config: Config
    opening: Opening
    jobs: tuple[Job, ...]
    sizes: Mapping[str, int]
    listing: str
    stock: Mapping[str, int]
    amiss: Mapping[str, str]
    source: Mapping[str, Any]
    subjects: Mapping[str, Any]

    @property
    def store(self) -> SegmentStore:
        """The run's segments."""
        return SegmentStore(self.opening.stage.folder)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the summary notes beside the segments."""
        beside = {name: getattr(self.config, name).model_dump(mode="json") for name in _BESIDE}
        return {**beside, "run": dict(self.source)}

    @property
    def replaces(self) -> bool:
        """Whether what was made from other audio, labels or settings is made again.

        A call that began to replace may have ended half-way; the next one goes on.
        """
        return self.opening.overwrite or self.opening.standing == "replacing"

    @property
    def is_current(self) -> bool:
        """Whether finished segments are whole and made of these very files.

        No recording is compared then. The store's own tables are looked at later, and mended.
        """
        record = self.opening.record
        if record is None or self.opening.overwrite or self.amiss:
            return False
        summary = record["summary"]
        # An older version noted no files: sizes are all that is known.
        if not record.get("files") and summary["stock"] != _stock(self.stock):
            return False
        return bool(summary["listing"] == self.listing and not summary["unread"])


def plan_preprocessing(
    corpus: Corpus, run: Run, config: Config, *, overwrite: bool
) -> PreprocessingPlan:
    """Look at the files of a corpus and at the segments that stand there; nothing is changed.

    Parameters
    ----------
    corpus
        Its recordings.
    run
        What stands in its store as it would be made is left there.
    config
        The whole configuration.
    overwrite
        Whether what was made with another configuration, or from other files, is made again; the
        rest stays.

    Raises
    ------
    SplitError
        If the corpus cannot be divided as configured.
    StaleError
        If outputs of another configuration or corpus stand there and `overwrite` is False.
    DamagedError
        If the record of the segments is damaged and `overwrite` is False.
    """
    jobs = _jobs(corpus, config)
    sizes, listing = _list_files(corpus)
    stage = run.stage("segments")
    opening = stage.opened(_made_of(jobs, config), overwrite=overwrite, wipe=False)
    return PreprocessingPlan(
        run=run,
        config=config,
        opening=opening,
        jobs=tuple(jobs),
        sizes=sizes,
        listing=listing,
        stock=SegmentStore(stage.folder).sizes(),
        amiss=stage.amiss() if opening.standing == "done" and stage.noted() else {},
        source={"corpus": str(corpus.root), "synthetic": (corpus.root / SYNTHETIC).exists()},
        subjects={"known_by": corpus.subjects, "remark": corpus.subjects_remark},
    )


def preprocess(
    corpus: Location, run: Run, config: Config, *, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Bring every recording of `corpus` into `run`'s segment store.

    Parameters
    ----------
    corpus
        Its root, in the MuSe layout.
    run, config, overwrite
        As for `plan_preprocessing`.
    console
        Progress output.

    Returns
    -------
    The summary that also stands in `stage.json`.

    Raises
    ------
    CorpusError
        If the corpus cannot be read; or, once all that can be done is done, if more than
        `preprocess.max_rejected_share` of the recordings were rejected or none is left to train or
        validate on.
    ValenceError
        As `plan_preprocessing`; or if the store cannot be read or written.
    StaleError
        If the audio or labels of a recording have changed since and `overwrite` is False.
    ClusterError
        If no node can run a task, or one does not see the files.
    """
    tally = Tally()
    found = read_corpus(corpus, config.corpus.subjects)
    # A remark may be the very reason why the plan is refused, so it is said before.
    for remark in found.remarks:
        console.say(f"  remark: {remark}")
    plan = plan_preprocessing(found, run, config, overwrite=overwrite)
    done = plan.opening.standing == "done"
    if not done:
        plan.opening.begin()
    # Accepted: from here on the run is one of this configuration, and is resumed as such.
    run.accept("segments", config, plan.source)
    if done:
        summary = _leave(plan, console)
        if summary is not None:
            return summary
        console.say("preprocess: comparing the files of the corpus with what is stored")
        # Segments that are only compared stay finished, also if a file turns out to be stale.
        if overwrite:
            plan.opening.begin()
    plan.store.remove_partial_files()
    return _finish(plan, _process(plan, tally, console), tally)


def _leave(plan: PreprocessingPlan, console: Console) -> dict[str, Any] | None:
    """Leave finished segments as they are, if they are all that is asked for.

    Returns their summary; None where recordings are to be looked at. Files that are not as they
    were written are set aside.
    """
    stage, store = plan.opening.stage, plan.store
    summary = plan.opening.summary | {"settings": plan.settings, "subjects": plan.subjects}
    if summary != plan.opening.summary:
        # Another place of the corpus, or another rule or table that divides it alike.
        stage.amend(summary)
    for name, what in sorted(plan.amiss.items()):
        file = stage.folder / name
        console.say(f"preprocess: '{file}' {what}, and is made again")
        if file.exists() and file.set_aside() is None:
            file.delete()
    if not (plan.is_current and _holds_tables(store, stage, summary, plan.config, console)):
        return None
    frame = store.recordings()
    usable = frame[frame["status"] == "ok"]
    tell_remarks(console, dict(zip(usable["Id"], usable["remarks"], strict=True)))
    console.say(
        f"preprocess: nothing to do, {summary['recordings']} recordings are in '{store.root}'"
    )
    return summary


def _process(plan: PreprocessingPlan, tally: Tally, console: Console) -> list[RecordingOutcome]:
    """Bring the recordings into the store on all nodes; returns their outcomes by Id."""
    cluster, cpus = plan.config.cluster, plan.config.preprocess.cpus_per_task
    asked = f"preprocess.cpus_per_task = {cpus:g}"
    require_cpus(cpus, cluster, asked=asked, console=console)
    require_shared(plan.store.root, known=[plan.jobs[0].recording.audio])
    # A node that was lost before it could answer must not be what the work waits for.
    selector, _ = cpu_nodes(cluster)
    outcomes: list[RecordingOutcome] = []
    try:
        with (
            console.bar("preprocess", len(plan.jobs)) as bar,
            tell_of_absence(selector, {"CPU": cpus}, console),
        ):
            for outcome in process_recordings(
                plan.jobs,
                plan.store,
                plan.config,
                sizes=plan.sizes,
                selector=selector,
                replace=plan.replaces,
            ):
                if isinstance(outcome, PartOutcome):
                    tally.add_part(outcome)
                    bar.advance(0, tally.note())
                    continue
                if outcome.skipped and outcome.id not in plan.stock:
                    # Made in this call, by a worker that died before it could say so.
                    outcome = replace(outcome, skipped=False)
                outcomes.append(outcome)
                tally.add(outcome)
                bar.advance(1, tally.note())
                stage_metrics().count_recording("preprocess", outcome.verdict)
                stage_metrics().left("preprocess", len(plan.jobs) - len(outcomes))
    finally:
        outcomes.sort(key=lambda outcome: outcome.id)
        tally.tell(console, outcomes)
    return outcomes


def _finish(
    plan: PreprocessingPlan, outcomes: Sequence[RecordingOutcome], tally: Tally
) -> dict[str, Any]:
    """Write the store's own tables and mark the stage done; returns its summary."""
    store, config = plan.store, plan.config
    _refuse_stale(outcomes, store)
    _remove_others(store, plan.jobs)
    store.remove_parts()
    # A task that a failed call had left at work may have been killed since this call began.
    store.remove_partial_files()
    moments = MelMoments.empty(config.mel.n_mels)
    for outcome in outcomes:
        if outcome.split == "train" and outcome.moments is not None:
            moments = moments.merge(outcome.moments)
    store.write_recordings([outcome.row() for outcome in outcomes])
    if moments.count:
        store.write_standardizer(moments, config.standardize.scope)
    summary = tally.summary() | {
        "digest": store.digest(),
        "listing": plan.listing,
        "stock": _stock(store.sizes()),
        "subjects": plan.subjects,
        "settings": plan.settings,
    }
    _refuse_unusable(outcomes, config, store)
    files = {f"{each.id}.parquet": each.stored_sha256 for each in outcomes if each.status == "ok"}
    plan.opening.stage.finish(summary, files | _tables(store))
    return summary


def _jobs(corpus: Corpus, config: Config) -> list[Job]:
    splits = assign_splits(corpus, config.split)
    return [
        Job(
            recording,
            splits[recording.id],
            config.augment.copies if splits[recording.id] == "train" else 0,
        )
        for recording in corpus.recordings
    ]


def _made_of(jobs: Sequence[Job], config: Config) -> dict[str, Any]:
    """Name what the stage as a whole depends on; the files of a recording have their own."""
    placed = [[job.recording.id, job.recording.subject, job.split] for job in jobs]
    stated = {}
    if config.labels.range is not None:
        stated["labels"] = config.labels.model_dump(mode="json")
    return {
        **stated,
        "preprocess": config.preprocess.model_dump(mode="json", exclude=set(FREE["preprocess"])),
        "mel": config.mel.model_dump(mode="json"),
        "augment": config.augment.model_dump(mode="json"),
        "sequence": {"length": config.sequence.length},
        "model": {"targets": list(config.model.targets)},
        "corpus": {"recordings": len(jobs), "splits": fingerprint({"of": placed})[:16]},
    }


def _list_files(corpus: Corpus) -> tuple[dict[str, int], str]:
    """List the sizes of the corpus's files by path, and a fingerprint of their times.

    One request a folder, however many recordings there are.
    """
    files = {file.path for r in corpus.recordings for file in (r.audio, *r.labels.values())}
    folders = sorted({path.rpartition("/")[0] for path in files})
    sizes: dict[str, int] = {}
    touched = []
    for folder in folders:
        place = replace(corpus.root, path=folder)
        for name, entry in place.listing().items():
            path = f"{folder}/{name}"
            if path in files:
                sizes[path] = entry.size
                touched.append([path.removeprefix(corpus.root.path), entry.size, entry.mtime_ns])
    return sizes, fingerprint({"files": sorted(touched), "format": FORMAT["segments"]})


def _stock(sizes: Mapping[str, int]) -> str:
    """Compute a fingerprint that changes when a file of the store is lost or cut off."""
    return fingerprint({"sizes": dict(sizes)})


def _tables(store: SegmentStore) -> dict[str, str]:
    """List the store's own files, as a manifest is asked for them."""
    return {file.name: "" for file in store.tables() if file.exists()}


def _holds_tables(
    store: SegmentStore,
    stage: Stage,
    summary: Mapping[str, Any],
    config: Config,
    console: Console,
) -> bool:
    """Bring the store's own tables and their manifest up to date; False if one is to be made again.

    Another scope of standardisation needs nothing but the moments that are stored.
    """
    noted = stage.noted()
    try:
        # Each is read as a later stage reads it: what that refuses is made again here.
        frame = store.recordings()
        if store.digest() != summary["digest"]:
            console.say(f"preprocess: the table of recordings in '{store.root}' is made again")
            return False
        kept = store.standardizer().scope == config.standardize.scope
        if not kept:
            store.write_standardizer(store.moments(), config.standardize.scope)
    except (DamagedError, MissingStageError) as error:
        console.say(f"preprocess: {str(error).partition('. ')[0]}. It is made again")
        return False
    if not noted:
        console.say(
            "preprocess: an older version made the segments and noted no digests; they are noted "
            "as they are now"
        )
        noted = {f"{name}.parquet": "" for name in frame["Id"][frame["status"] == "ok"]}
    if not kept or not stage.noted():
        stage.finish(summary, noted | _tables(store))
    return True


def _refuse_stale(outcomes: Sequence[RecordingOutcome], store: SegmentStore) -> None:
    stale = [outcome.id for outcome in outcomes if outcome.status == "stale"]
    if stale:
        raise StaleError(
            f"'{store.root}' holds {len(stale)} recordings whose audio or labels have changed "
            f"since: {some(stale)}. Add --overwrite to make those again (the others stay), or "
            "restore the files."
        )


def _remove_others(store: SegmentStore, jobs: Sequence[Job]) -> None:
    """Remove the files of recordings that the corpus no longer has."""
    kept = {job.recording.id for job in jobs}
    for file in store.root.files():
        if file.suffix == ".parquet" and file.stem not in kept and store.stored(file.stem):
            file.delete()


def _refuse_unusable(
    outcomes: Sequence[RecordingOutcome], config: Config, store: SegmentStore
) -> None:
    rejected = [outcome.id for outcome in outcomes if outcome.status == "rejected"]
    share = len(rejected) / len(outcomes)
    if share > config.preprocess.max_rejected_share:
        raise CorpusError(
            f"{len(rejected)} of {len(outcomes)} recordings ({share:.0%}) were rejected: "
            f"{some(rejected)}. At most {config.preprocess.max_rejected_share:.0%} may be. "
            f"The reasons stand in '{store.root}/recordings.parquet'; correct the files, or raise "
            "preprocess.max_rejected_share, and run the command again: what is stored stays."
        )
    for split, name in (("train", "training"), ("validation", "validation")):
        if not any(each.status == "ok" and each.split == split for each in outcomes):
            raise CorpusError(
                f"No usable {name} recording is left. The reasons stand in "
                f"'{store.root}/recordings.parquet'; correct the files and run the command again."
            )
