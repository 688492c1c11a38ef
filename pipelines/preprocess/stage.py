"""The stage `segments`: every recording of a corpus into the segment store, by Ray Data.

A task takes some recordings from their files in the corpus to their files in the store and returns
a small row for each. The driver merges what the rows tell in the order of the Ids, so that the
outputs do not depend on who did what and when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from valence.run import FORMAT, Run, Stage
from valence.segments.jobs import Job, PartOutcome, RecordingOutcome
from valence.segments.store import SegmentStore
from valence.storage.location import Location

# Sections on which the segments depend only by what came of them, and which they note beside it.
_BESIDE = ("corpus", "labels", "split")


def preprocess(
    corpus: Location, run: Run, config: Config, *, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Bring every recording of `corpus` into `run`'s segment store.

    Parameters
    ----------
    corpus
        Its root, in the MuSe layout.
    run
        What stands in its store as it would be made is left there.
    config
        The whole configuration.
    overwrite
        Whether what was made with another configuration, or from other files, is made again; the
        rest stays.
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
    SplitError
        If the corpus cannot be divided as configured.
    StaleError
        If outputs of another configuration, corpus or file stand there and `overwrite` is False.
    ClusterError
        If no node can run a task, or one does not see the files.
    ValenceError
        If the store cannot be read or written.
    """
    tally = Tally()
    found = read_corpus(corpus, config.corpus.subjects)
    known = {"known_by": found.subjects, "remark": found.subjects_remark}
    for remark in found.remarks:
        console.say(f"  remark: {remark}")
    jobs = _jobs(found, config)
    sizes, listing = _list_files(found)
    store = SegmentStore(run.folder("segments"))
    stage = run.stage("segments")
    made_of = _made_of(jobs, config)
    state = stage.begin(made_of, overwrite=overwrite, wipe=False)
    # Accepted: from here on the run is one of this configuration, and is resumed as such.
    source = {"corpus": str(corpus), "synthetic": (corpus / SYNTHETIC).exists()}
    run.accept("segments", config, source)
    settings = {
        **{name: getattr(config, name).model_dump(mode="json") for name in _BESIDE},
        "run": source,
    }
    stock = store.sizes()
    if state == "done":
        record = stage.record()
        assert record is not None, "what is done has a record"
        summary: dict[str, Any] = {**record["summary"], "settings": settings}
        if summary != record["summary"]:
            # Another place of the corpus, or another rule that divides it alike.
            stage.amend(summary)
        amiss = _set_aside_what_is_amiss(stage, summary, stock, console)
        untouched = summary["listing"] == listing and not amiss
        held = untouched and not summary["unread"] and not overwrite
        if held and _holds_tables(store, stage, summary, config, console):
            if summary.get("subjects") != known:
                # A table of subjects that changes no subject still says how they are known.
                summary = {**summary, "subjects": known}
                stage.amend(summary)
            frame = store.recordings()
            usable = frame[frame["status"] == "ok"]
            tell_remarks(console, dict(zip(usable["Id"], usable["remarks"], strict=True)))
            console.say(
                f"preprocess: nothing to do, {summary['recordings']} recordings are in "
                f"'{store.root}'"
            )
            return summary
        console.say("preprocess: comparing the files of the corpus with what is stored")
        if overwrite:
            state = stage.begin(made_of, wipe=False, again=True)
    store.remove_partial_files()
    cpus = config.preprocess.cpus_per_task
    asked = f"preprocess.cpus_per_task = {cpus:g}"
    require_cpus(cpus, config.cluster, asked=asked, console=console)
    require_shared(store.root, known=[jobs[0].recording.audio])
    # A node that was lost before it could answer must not be what the work waits for.
    selector, _ = cpu_nodes(config.cluster)
    outcomes: list[RecordingOutcome] = []
    # A call that began to replace may have ended half-way; this one goes on.
    replaces = overwrite or state == "replacing"
    try:
        with (
            console.bar("preprocess", len(jobs)) as bar,
            tell_of_absence(selector, {"CPU": cpus}, console),
        ):
            for told in process_recordings(
                jobs, store, config, sizes=sizes, selector=selector, replace=replaces
            ):
                if isinstance(told, PartOutcome):
                    tally.add_part(told)
                    bar.advance(0, tally.note())
                    continue
                # What was made in this call by a worker that died before it could tell.
                here = told.skipped and told.id not in stock
                outcome = replace(told, skipped=False) if here else told
                outcomes.append(outcome)
                tally.add(outcome)
                bar.advance(1, tally.note())
                stage_metrics().count_recording("preprocess", outcome.verdict)
                stage_metrics().left("preprocess", len(jobs) - len(outcomes))
    finally:
        outcomes.sort(key=lambda outcome: outcome.id)
        tally.tell(console, outcomes)
    _refuse_stale(outcomes, store)
    _remove_others(store, jobs)
    store.remove_parts()
    moments = MelMoments.empty(config.mel.n_mels)
    for outcome in outcomes:
        if outcome.split == "train" and outcome.moments is not None:
            moments = moments.merge(outcome.moments)
    store.write_recordings([outcome.row() for outcome in outcomes])
    if moments.count:
        store.write_standardizer(moments, config.standardize.scope)
    summary = tally.summary() | {
        "digest": store.digest(),
        "listing": listing,
        "stock": _stock(store.sizes()),
        "subjects": known,
        "settings": settings,
    }
    _refuse_unusable(outcomes, config, store)
    files = {f"{each.id}.parquet": each.stored_sha256 for each in outcomes if each.status == "ok"}
    stage.finish(summary, files | _tables(store))
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
    """What the stage as a whole depends on; each recording's files have their own fingerprints."""
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
    """Sizes of the corpus's files by path, and a fingerprint that tells when one was touched.

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
    """A fingerprint that tells when a file of the store was lost or cut off."""
    return fingerprint({"sizes": dict(sizes)})


def _tables(store: SegmentStore) -> dict[str, str]:
    """The store's own files, as a manifest is asked for them."""
    return {file.name: "" for file in store.tables() if file.exists()}


def _set_aside_what_is_amiss(
    stage: Stage, summary: Mapping[str, Any], stock: Mapping[str, int], console: Console
) -> bool:
    """Rename the files that are not what was written, and say so; returns whether any is lost."""
    if not stage.noted():
        # Made by an older version: sizes are all that is known.
        return bool(summary["stock"] != _stock(stock))
    amiss = stage.amiss()
    for name, what in sorted(amiss.items()):
        file = stage.folder / name
        console.say(f"preprocess: '{file}' {what}, and is made again")
        if file.exists() and file.set_aside() is None:
            file.delete()
    return bool(amiss)


def _holds_tables(
    store: SegmentStore,
    stage: Stage,
    summary: Mapping[str, Any],
    config: Config,
    console: Console,
) -> bool:
    """Whether the store's own tables are whole, of the scope that is asked for, and all is noted.

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
