"""The suffixes of audio files, the same for corpora and for prediction."""

from __future__ import annotations

# libsndfile decodes these. Where one recording has two files, the earlier suffix is taken: the
# formats that lose nothing come first.
AUDIO_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".mp3",
    ".w64",
    ".rf64",
    ".aif",
    ".aiff",
    ".aifc",
    ".caf",
    ".au",
    ".oga",
    ".opus",
)
# Telephones, browsers and cameras record these; PyAV decodes them, which the extra `media` brings.
MEDIA_SUFFIXES = (
    ".m4a",
    ".aac",
    ".mp4",
    ".mov",
    ".webm",
    ".mka",
    ".mkv",
    ".wma",
    ".3gp",
    ".amr",
)
ALL_SUFFIXES = AUDIO_SUFFIXES + MEDIA_SUFFIXES
