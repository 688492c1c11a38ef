"""Small corpora in the forms of known ones, made here: their sound is noise, their values are ours.

Each function writes a corpus below a folder. The recordings last `SECONDS`; valence is `curve(t)`
on the scale of [-1, 1] at the middle of each sample, unless a function says otherwise.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile

SECONDS = 6.0
SR = 8000


def curve(t: float) -> float:
    """A valence that changes slowly: its mean over half a second is its middle within 0.01."""
    return 0.6 * math.sin(0.7 * t)


def write_audio(file: Path, *, seconds: float = SECONDS, channels: int = 1, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, (round(seconds * SR), channels))
    soundfile.write(file, noise, SR)


def write_text(file: Path, *lines: str, end: str = "\n", encoding: str = "utf-8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((end.join(lines) + end).encode(encoding))


def rows(
    step: float,
    form: Callable[[float, float], str],
    *,
    stamps: str = "start",
    seconds: float = SECONDS,
) -> list[str]:
    """A row for each step: `form` gets the time that is written, and the value at the middle."""
    lines = []
    for number in range(round(seconds / step)):
        begin = number * step
        stamp = begin + step if stamps == "end" else begin
        lines.append(form(stamp, curve(begin + step / 2)))
    return lines


def muse_toolbox(root: Path, ids: Sequence[str] = ("11", "32")) -> None:
    for name in ids:
        write_audio(root / f"audio/{name}.wav")
        for target, sign in (("valence", 1), ("arousal", -1)):
            lines = rows(0.25, lambda t, v, sign=sign: f"{round(t * 1000)},{sign * v:.6f}")
            write_text(root / f"out/ewe/{target}/{name}.csv", "Time,value", *lines)
    splits = zip(ids, ("train", "test", "devel"), strict=False)
    write_text(root / "metadata/partition.csv", "id,partition", *map(",".join, splits))


def muse_raw(root: Path, ids: Sequence[str] = ("11",)) -> None:
    lines = rows(0.5, lambda t, v: f"{t:.2f},{v:.4f},{v / 2:.4f},{-v:.4f}", stamps="end")
    for name in ids:
        write_audio(root / f"{name}.wav")
        write_text(root / f"raw/valence/{name}.csv", "timestamp,1,2,3", *lines)


def darma(
    root: Path,
    *,
    magnitude: float = 100,
    raters: Sequence[str] = ("ann",),
    ids: Sequence[str] = ("talk",),
) -> None:
    for name in ids:
        write_audio(root / f"clips/{name}.wav")
    for rater, name in itertools.product(raters, ids):
        lines = rows(
            0.25,
            lambda t, v: f"{t:g},{v * magnitude:.3f},{-v * magnitude:.3f},0",
            stamps="end",
        )
        # DARMA writes NaN for a bin without a sample.
        lines[3] = "1,NaN,NaN,NaN"
        write_text(
            root / f"{rater}/{name}.csv",
            "Time of Rating,30-Nov-2026 10:00:00,,",
            "Multimedia File,talk.avi,,",
            f"Magnitude,{magnitude:g},,",
            "Second,Valence,Arousal,Button",
            "%%%%%%,%%%%%%,%%%%%%,%%%%%%",
            *lines,
        )


def _carma_head(low: float, high: float) -> list[str]:
    return [
        '"Time of Rating","30-Nov-2026 10:00:00"',
        '"Multimedia File","talk.avi"',
        '"Lower Label","very negative"',
        '"Upper Label","very positive"',
        f'"Minimum Value","{low:g}"',
        f'"Maximum Value","{high:g}"',
        '"Number of Steps","9"',
        '"Second","Rating"',
        '"%%%%%%","%%%%%%"',
    ]


def carma(
    root: Path, *, raters: Sequence[str] | None = None, ids: Sequence[str] = ("talk",)
) -> None:
    """A file for each recording; or one for each rater, in the rater's folder."""
    lines = rows(0.5, lambda t, v: f'"{t:g}","{50 + 50 * v:.4f}"', stamps="end")
    for name in ids:
        write_audio(root / f"{name}.wav")
        for folder in [""] if raters is None else [f"{rater}/" for rater in raters]:
            write_text(root / f"valence/{folder}{name}.csv", *_carma_head(0, 100), *lines)


def msp_conversation(
    root: Path, *, raters: Sequence[str] = ("001",), numbers: Sequence[str] = ("0002",)
) -> None:
    """Two parts of each conversation, which begins at 100 s of its podcast."""
    times, end = root / "Time_Labels", 101 + 2 * SECONDS
    names = [f"MSP-Conversation_{number}" for number in numbers]
    write_text(times / "conversations.txt", *(f"{name};100.0;{end}" for name in names))
    cuts = (f"1;100.0;{100 + SECONDS}", f"2;{101 + SECONDS};{end}")
    parts = (f"{name}_{cut}" for name, cut in itertools.product(names, cuts))
    write_text(times / "conversation_parts.txt", *parts)
    splits = zip(names, ("Train", "Validation", "Test1"), strict=False)
    write_text(root / "partitions.txt", *map(";".join, splits))
    generator = np.random.default_rng(7)
    for name in names:
        write_audio(root / f"Audio/{name}.wav", seconds=2 * SECONDS + 1)
    for name, part, rater in itertools.product(names, (1, 2), raters):
        stamps = np.cumsum(generator.uniform(0.012, 0.022, round(100 * SECONDS)))
        lines = [f"{t:.4f},{100 * curve(t):.3f}" for t in stamps if t < SECONDS]
        file = root / f"Annotations/Valence/{name}_{part}_{rater}.csv"
        write_text(file, *_carma_head(-100, 100), *lines, end="\r\n")
        write_text(root / f"Annotations/Dominance/{file.name}", *_carma_head(-100, 100), *lines)


def recola(root: Path, ids: Sequence[str] = ("P16",)) -> None:
    lines = rows(0.04, lambda t, v: f"{t:.2f};{v:.3f};{v / 2:.3f};{-v:.3f};")
    for name in ids:
        write_audio(root / f"RECOLA-Audio-recordings/{name}.wav")
        for target in ("valence", "arousal"):
            file = root / f"RECOLA-Annotation/emotional_behaviour/{target}/{name}.csv"
            write_text(file, "time;FM1 ;FM2 ;FF1 ", *lines)


def recola_gold(root: Path, ids: Sequence[str] = ("train_1", "dev_1")) -> None:
    for name in ids:
        write_audio(root / f"recordings_audio/{name}.wav")
        write_text(
            root / f"ratings_gold_standard/valence/{name}.arff",
            "@relation gold",
            "",
            "@attribute Instance_name string",
            "@attribute frameTime numeric",
            "@attribute GoldStandard numeric",
            "",
            "@data",
            *rows(0.04, lambda t, v, name=name: f"'{name}',{t:.2f},{v:.6f}"),
        )


def sewa(root: Path, ids: Sequence[str] = ("Train_DE_01", "Devel_HU_01")) -> None:
    for name in ids:
        write_audio(root / f"audio/{name}.wav")
        lines = rows(0.1, lambda t, v, name=name: f"'{name}';{t:.1f};{-v:.6f};{v:.6f};0.1")
        write_text(root / f"labels/{name}.csv", "name;timestamp;arousal;valence;liking", *lines)


def send(root: Path, splits: Mapping[str, str] = MappingProxyType({"112": "Train"})) -> None:
    lines = rows(0.5, lambda t, v: f"{t:g},{50 + 50 * v:.5f},3.2")
    for person, split in splits.items():
        write_audio(root / f"features/ID{person}_vid3.wav")
        file = root / f"ratings/{split}/observer_EWE/results_{person}_3.csv"
        write_text(file, "time,evaluatorWeightedEstimate,SDofEWE", *lines)


def send_self(root: Path, splits: Mapping[str, str] = MappingProxyType({"112": "Valid"})) -> None:
    lines = rows(0.5, lambda t, v: f"{t:g}, {50 + 50 * v:.5f}")
    for person, split in splits.items():
        write_audio(root / f"features/ID{person}_vid3.wav")
        file = root / f"ratings/{split}/target/target_{person}_3_normal.csv"
        write_text(file, "time, rating", *lines)


def _k_emocon(root: Path, kinds: Sequence[str], debates: int) -> None:
    """Ratings of 5 s that jump: 2 then 4 on the scale of 1 to 5."""
    for first in range(1, 2 * debates, 2):
        write_audio(root / f"debate_audios/p{first}.p{first + 1}.wav", seconds=12)
        for who, kind in itertools.product((first, first + 1), kinds):
            file = root / f"emotion_annotations/{kind.format(who)}.csv"
            header = "seconds,arousal,valence,cheerful,boredom"
            write_text(file, header, "5,3,2,1,x", "10,x,4,2,1")


def k_emocon(root: Path, debates: int = 1) -> None:
    _k_emocon(root, ["aggregated_external_annotations/P{}.external"], debates)


def k_emocon_self(root: Path, debates: int = 1) -> None:
    _k_emocon(root, ["self_annotations/P{}.self"], debates)


def k_emocon_partner(root: Path, debates: int = 1) -> None:
    _k_emocon(root, ["partner_annotations/P{}.partner"], debates)


def k_emocon_raters(root: Path, debates: int = 1) -> None:
    kinds = [f"external_annotations/P{{}}.R{number}" for number in range(1, 6)]
    _k_emocon(root, kinds, debates)


def case(root: Path, subjects: int = 1) -> None:
    lines = rows(0.05, lambda t, v: f"{t:.3f}\t{round(26225 * v)}\t{round(-26225 * v)}")
    for number in range(1, subjects + 1):
        write_audio(root / f"sub{number}.wav")
        write_text(root / f"raw/annotations/sub{number}_joystick.txt", *lines)


def case_interpolated(root: Path, subjects: int = 1) -> None:
    lines = rows(0.05, lambda t, v: f"{t * 1000:.0f},{5 + 4.5 * v:.4f},{5 - 4.5 * v:.4f},10")
    for number in range(1, subjects + 1):
        write_audio(root / f"sub_{number}.wav")
        write_text(root / f"interpolated/sub_{number}.csv", "jstime,valence,arousal,video", *lines)


def nova(
    root: Path,
    *,
    binary: bool = False,
    raters: Sequence[str] = ("gold",),
    sessions: Sequence[str] = ("001",),
) -> None:
    values = [curve((number + 0.5) / 25) for number in range(round(SECONDS * 25))]
    kind = "BINARY" if binary else "ASCII"
    signs = (("valence", 1), ("arousal", -1))
    for session in sessions:
        write_audio(root / f"{session}/expert.audio.wav")
    for session, (target, sign), rater in itertools.product(sessions, signs, raters):
        header = root / f"{session}/expert.{target}.{rater}.annotation"
        write_text(
            header,
            '<?xml version="1.0" ?>',
            '<annotation ssi-v="3">',
            f'    <info ftype="{kind}" size="{len(values)}" />',
            f'    <meta annotator="{rater}" />',
            f'    <scheme name="{target}" type="CONTINUOUS" sr="25" min="-1" max="1" />',
            "</annotation>",
        )
        data = header.with_name(f"{header.name}~")
        if binary:
            data.write_bytes(b"".join(struct.pack("<2f", sign * each, 1) for each in values))
        else:
            write_text(data, *(f"{sign * each:.6f};1" for each in values))


def audformat(root: Path) -> None:
    """Three recordings: spans of 1 s in two, one of them open, and a value for each file."""
    for number in (1, 2, 3):
        write_audio(root / f"audio/{number:03}.wav")
    write_text(
        root / "db.yaml",
        "name: made",
        "schemes:",
        "  valence: {dtype: float, minimum: 0, maximum: 10}",
        "  speaker: {dtype: str}",
        "splits:",
        "  train: {type: train}",
        "  dev: {type: dev}",
        "raters:",
        "  gold: {type: vote}",
        "tables:",
        "  seg.train:",
        "    type: segmented",
        "    split_id: train",
        "    columns:",
        "      valence: {scheme_id: valence, rater_id: gold}",
        "  whole.dev:",
        "    type: filewise",
        "    split_id: dev",
        "    columns:",
        "      mood: {scheme_id: valence}",
        "  files:",
        "    type: filewise",
        "    columns:",
        "      speaker: {scheme_id: speaker}",
    )
    write_text(
        root / "db.seg.train.csv",
        "file,start,end,valence",
        "audio/001.wav,0 days 00:00:00,0 days 00:00:01,0.0",
        "audio/001.wav,0 days 00:00:02.500000,0 days 00:00:03.500000,10.0",
        "audio/002.wav,0 days 00:00:04,,7.5",
    )
    write_text(root / "db.whole.dev.csv", "file,mood", "audio/003.wav,5.0")
    write_text(root / "db.files.csv", "file,speaker", *(f"audio/00{n}.wav,s{n}" for n in (1, 2, 3)))


def iemocap(root: Path, sessions: int = 1) -> None:
    for number in range(1, sessions + 1):
        _iemocap_session(root / f"Session{number}", f"Ses{number:02}F_impro01")


def _iemocap_session(session: Path, dialog: str) -> None:
    lines = []
    values = {"F000": (1, 5), "M000": (3, 3), "M001": (5, 1)}
    for number, (turn, (valence, arousal)) in enumerate(values.items()):
        name = f"{dialog}_{turn}"
        write_audio(session / f"sentences/wav/{dialog}/{name}.wav", seconds=2, seed=number)
        span = f"[{2 * number:.4f} - {2 * number + 2:.4f}]"
        lines += [
            f"{span}\t{name}\tneu\t[{valence:.4f}, {arousal:.4f}, 2.5000]",
            "C-E2:\tNeutral;\t()",
            "A-E3:\tval 2; act 2; dom  2;\t()",
            "",
        ]
    write_text(
        session / f"dialog/EmoEvaluation/{dialog}.txt",
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
        "",
        *lines,
    )


def msp_podcast(root: Path) -> None:
    lines = []
    people = (("1", "Train"), ("1", "Train"), ("2", "Development"), ("Unknown", "Test1"))
    for number, (speaker, split) in enumerate(people):
        name = f"MSP-PODCAST_0001_{number:04}.wav"
        write_audio(root / f"Audios/{name}", seconds=2.75, seed=number)
        lines.append(f"{name},N,{1 + number}.0,{7 - number}.0,4.0,{speaker},Male,{split}")
    header = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
    write_text(root / "Labels/labels_consensus.csv", header, *lines)


def omg(root: Path) -> None:
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    for split, video in (("Train", "abc_1"), ("Validation", "d-E")):
        for number in (1, 2):
            write_audio(root / f"{split}_data/{video}/utterance_{number}.wav", seconds=2)
        write_text(
            root / f"omg_{split}Videos.csv",
            header,
            f"https://x,0,2,{video},utterance_1.mp4,0.25,-0.5,4",
            f"https://x,2,4,{video},utterance_2.mp4,1,1,3",
        )


FORMS: dict[str, Callable[[Path], None]] = {
    "muse-toolbox": muse_toolbox,
    "darma": darma,
    "carma": carma,
    "msp-conversation": msp_conversation,
    "recola-gold": recola_gold,
    "sewa": sewa,
    "send": send,
    "send-self": send_self,
    "k-emocon": k_emocon,
    "k-emocon-self": k_emocon_self,
    "k-emocon-partner": k_emocon_partner,
    "case": case,
    "case-interpolated": case_interpolated,
    "nova": nova,
    "audformat": audformat,
    "iemocap": iemocap,
    "msp-podcast": msp_podcast,
    "omg": omg,
}

# Forms with several raters, which are fused.
RATED: dict[str, Callable[[Path], None]] = {
    "muse-raw": muse_raw,
    "darma": lambda root: darma(root, raters=("ann", "bob", "cy")),
    "carma": lambda root: carma(root, raters=("ann", "bob", "cy")),
    "msp-conversation": lambda root: msp_conversation(root, raters=("001", "002", "003")),
    "recola": recola,
    "k-emocon-raters": k_emocon_raters,
    "nova": lambda root: nova(root, raters=("ann", "bob", "cy")),
}
