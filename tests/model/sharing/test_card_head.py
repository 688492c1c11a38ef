"""The head of the card as the hub's own parser reads it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import yaml

from valence.model.card import Card
from valence.model.sharing.card_head import Result, card_head

_TEST = Result("valence", "test", 0.31256, 0.4, 0.08, 0.22, (0.1, 0.45678), 340, 8)
_VALIDATION = replace(_TEST, split="validation", ccc=0.5, ccc_ci=None, sequences=90, subjects=1)


def _head(*results: Result, **more: Any) -> str:
    given = {"targets": ("valence",), "corpus": "voices", "protocol": "partition", "overlap": False}
    return card_head(**{**given, **more}, window_seconds=20.0, results=results)


def _read(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    assert text.endswith("\n---\n")
    found: dict[str, Any] = yaml.safe_load(text.removesuffix("---\n"))
    return found


def test_a_head_without_scores_names_only_what_is_known() -> None:
    text = _head()
    assert _read(text) == {
        "library_name": "valence-speech",
        "tags": ["audio", "speech", "emotion", "affective-computing", "regression", "valence"],
    }
    # What only the owner knows is a comment and no key with an invented value.
    assert "# license: not chosen yet. Only the owner can" in text
    assert "# language: not known to the program." in text
    assert _read(_head(targets=("valence", "arousal")))["tags"][-2:] == ["valence", "arousal"]


def test_scores_stand_with_their_protocol() -> None:
    found = _read(_head(_TEST, _VALIDATION))
    (model,) = found["model-index"]
    assert model["name"] == "valence of speech"
    test, validation = model["results"]
    assert test["task"] == {"type": "other", "name": "valence of speech over time"}
    assert test["dataset"] == {"name": "voices", "type": "voices", "split": "test"}
    assert [(each["type"], each["value"]) for each in test["metrics"]] == [
        ("ccc", 0.3126),
        ("pcc", 0.4),
        ("mse", 0.08),
        ("mae", 0.22),
    ]
    assert test["metrics"][0]["name"] == (
        "concordance correlation coefficient (95 % interval 0.100 to 0.457; 340 sequences of 20 s "
        "from 8 subjects; split protocol partition, subjects of one split only)"
    )
    assert validation["metrics"][0]["name"] == (
        "concordance correlation coefficient (no interval; 90 sequences of 20 s from 1 subject; "
        "split protocol partition, subjects of one split only)"
    )
    overlapping = _read(_head(replace(_TEST, unit="recording"), overlap=True))
    name = overlapping["model-index"][0]["results"][0]["metrics"][0]["name"]
    assert "from 8 recordings" in name
    assert "subjects may stand in more than one split" in name


def test_what_is_no_number_and_what_was_trained_on_is_left_out() -> None:
    assert "model-index" not in _read(_head(replace(_TEST, ccc=math.nan)))
    assert "model-index" not in _read(_head(replace(_TEST, split="train")))
    found = _read(_head(replace(_TEST, pcc=math.nan)))
    metrics = found["model-index"][0]["results"][0]["metrics"]
    assert [each["type"] for each in metrics] == ["ccc", "mse", "mae"]


@pytest.mark.parametrize("corpus", [None, "a: b", "---", "[x]", "Stimmen (ä) #1", "yes", "'q\""])
def test_the_hubs_parser_reads_every_corpus(corpus: str | None) -> None:
    hub = pytest.importorskip("huggingface_hub")
    text = _head(_TEST, _VALIDATION, corpus=corpus)
    card = hub.ModelCard(f"{text}**Quality.**\n\n# Valence of speech\n")
    assert card.text.strip().startswith("**Quality.**")
    assert card.data.library_name == "valence-speech"
    assert card.data.license is None
    assert card.data.language is None
    assert card.data.model_name == "valence of speech"
    assert len(card.data.eval_results) == 8
    first = card.data.eval_results[0]
    assert first.dataset_name == first.dataset_type == (corpus or "not recorded")
    assert (first.task_type, first.dataset_split) == ("other", "test")
    assert (first.metric_type, first.metric_value) == ("ccc", 0.3126)
    # Nothing is lost when the owner's tools write the head again: no field is an invented one.
    assert yaml.safe_load(card.data.to_yaml()) == _read(text)


def test_the_card_begins_with_its_head() -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = Card(
        targets=("valence",),
        parameters=10,
        segment_seconds=0.5,
        length=40,
        record={"corpus": "/home/somebody/voices"},
        protocol="partition",
        overlap=False,
        results=[_TEST],
    ).markdown()
    read = hub.ModelCard(card)
    assert read.data.eval_results[0].dataset_name == "voices"
    assert "of 20 s from 8 subjects" in read.data.eval_results[0].metric_name
    assert "# Valence of speech" in read.text
    assert "/home" not in card
