"""Small corpora in the forms of known ones, made here: their sound is noise, their values are ours.

Each function writes a corpus below a folder. The recordings last `SECONDS`; valence is `curve(t)`
on the scale of [-1, 1] at the middle of each sample, unless a function says otherwise.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

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
    write_text(root / "metadata/partition.csv", "id,partition", f"{ids[0]},train", f"{ids[1]},test")


def muse_raw(root: Path) -> None:
    write_audio(root / "11.wav")
    lines = rows(0.5, lambda t, v: f"{t:.2f},{v:.4f},{v / 2:.4f},{-v:.4f}", stamps="end")
    write_text(root / "raw/valence/11.csv", "timestamp,1,2,3", *lines)


def darma(root: Path, *, magnitude: float = 100, raters: Sequence[str] = ("ann",)) -> None:
    write_audio(root / "clips/talk.wav")
    for rater in raters:
        lines = rows(
            0.25,
            lambda t, v: f"{t:g},{v * magnitude:.3f},{-v * magnitude:.3f},0",
            stamps="end",
        )
        # DARMA writes NaN for a bin without a sample.
        lines[3] = "1,NaN,NaN,NaN"
        write_text(
            root / f"{rater}/talk.csv",
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


def carma(root: Path) -> None:
    write_audio(root / "talk.wav")
    lines = rows(0.5, lambda t, v: f'"{t:g}","{50 + 50 * v:.4f}"', stamps="end")
    write_text(root / "valence/talk.csv", *_carma_head(0, 100), *lines)


def msp_conversation(root: Path, *, raters: Sequence[str] = ("001",)) -> None:
    """Two parts of one conversation that begins at 100 s of its podcast."""
    write_audio(root / "Audio/MSP-Conversation_0002.wav", seconds=2 * SECONDS + 1)
    times = root / "Time_Labels"
    write_text(times / "conversations.txt", f"MSP-Conversation_0002;100.0;{101 + 2 * SECONDS}")
    write_text(
        times / "conversation_parts.txt",
        f"MSP-Conversation_0002_1;100.0;{100 + SECONDS}",
        f"MSP-Conversation_0002_2;{101 + SECONDS};{101 + 2 * SECONDS}",
    )
    write_text(root / "partitions.txt", "MSP-Conversation_0002;Train")
    generator = np.random.default_rng(7)
    for part in (1, 2):
        for rater in raters:
            stamps = np.cumsum(generator.uniform(0.012, 0.022, 500))
            lines = [f"{t:.4f},{100 * curve(t):.3f}" for t in stamps if t < SECONDS]
            file = root / f"Annotations/Valence/MSP-Conversation_0002_{part}_{rater}.csv"
            write_text(file, *_carma_head(-100, 100), *lines, end="\r\n")
            write_text(root / f"Annotations/Dominance/{file.name}", *_carma_head(-100, 100), *lines)


def recola(root: Path) -> None:
    write_audio(root / "RECOLA-Audio-recordings/P16.wav")
    for target in ("valence", "arousal"):
        lines = rows(0.04, lambda t, v: f"{t:.2f};{v:.3f};{v / 2:.3f};{-v:.3f};")
        write_text(
            root / f"RECOLA-Annotation/emotional_behaviour/{target}/P16.csv",
            "time;FM1 ;FM2 ;FF1 ",
            *lines,
        )


def recola_gold(root: Path) -> None:
    for name in ("train_1", "dev_1"):
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


def sewa(root: Path) -> None:
    for name in ("Train_DE_01", "Devel_HU_01"):
        write_audio(root / f"audio/{name}.wav")
        lines = rows(0.1, lambda t, v, name=name: f"'{name}';{t:.1f};{-v:.6f};{v:.6f};0.1")
        write_text(root / f"labels/{name}.csv", "name;timestamp;arousal;valence;liking", *lines)


def send(root: Path) -> None:
    write_audio(root / "features/ID112_vid3.wav")
    lines = rows(0.5, lambda t, v: f"{t:g},{50 + 50 * v:.5f},3.2")
    file = root / "ratings/Train/observer_EWE/results_112_3.csv"
    write_text(file, "time,evaluatorWeightedEstimate,SDofEWE", *lines)


def send_self(root: Path) -> None:
    write_audio(root / "features/ID112_vid3.wav")
    lines = rows(0.5, lambda t, v: f"{t:g}, {50 + 50 * v:.5f}")
    write_text(root / "ratings/Valid/target/target_112_3_normal.csv", "time, rating", *lines)


def k_emocon(root: Path) -> None:
    """Ratings of 5 s that jump: 2 then 4 on the scale of 1 to 5."""
    write_audio(root / "debate_audios/p1.p2.wav", seconds=12)
    for who in (1, 2):
        write_text(
            root / f"emotion_annotations/aggregated_external_annotations/P{who}.external.csv",
            "seconds,arousal,valence,cheerful,boredom",
            "5,3,2,1,x",
            "10,x,4,2,1",
        )


def case(root: Path) -> None:
    write_audio(root / "sub1.wav")
    lines = rows(0.05, lambda t, v: f"{t:.3f}\t{round(26225 * v)}\t{round(-26225 * v)}")
    write_text(root / "raw/annotations/sub1_joystick.txt", *lines)


def case_interpolated(root: Path) -> None:
    write_audio(root / "sub_1.wav")
    lines = rows(0.05, lambda t, v: f"{t * 1000:.0f},{5 + 4.5 * v:.4f},{5 - 4.5 * v:.4f},10")
    write_text(root / "interpolated/sub_1.csv", "jstime,valence,arousal,video", *lines)


def nova(root: Path, *, binary: bool = False) -> None:
    write_audio(root / "001/expert.audio.wav")
    values = [curve((number + 0.5) / 25) for number in range(round(SECONDS * 25))]
    kind = "BINARY" if binary else "ASCII"
    for target, sign in (("valence", 1), ("arousal", -1)):
        header = root / f"001/expert.{target}.gold.annotation"
        write_text(
            header,
            '<?xml version="1.0" ?>',
            '<annotation ssi-v="3">',
            f'    <info ftype="{kind}" size="{len(values)}" />',
            '    <meta annotator="gold" />',
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


def iemocap(root: Path) -> None:
    session = root / "Session1"
    lines = []
    values = {"F000": (1, 5), "M000": (3, 3), "M001": (5, 1)}
    for number, (turn, (valence, arousal)) in enumerate(values.items()):
        name = f"Ses01F_impro01_{turn}"
        write_audio(session / f"sentences/wav/Ses01F_impro01/{name}.wav", seconds=2, seed=number)
        span = f"[{2 * number:.4f} - {2 * number + 2:.4f}]"
        lines += [
            f"{span}\t{name}\tneu\t[{valence:.4f}, {arousal:.4f}, 2.5000]",
            "C-E2:\tNeutral;\t()",
            "A-E3:\tval 2; act 2; dom  2;\t()",
            "",
        ]
    write_text(
        session / "dialog/EmoEvaluation/Ses01F_impro01.txt",
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
    "case": case,
    "case-interpolated": case_interpolated,
    "nova": nova,
    "audformat": audformat,
    "iemocap": iemocap,
    "msp-podcast": msp_podcast,
    "omg": omg,
}
