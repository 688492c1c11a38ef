"""List the suffixes of audio files for corpora and for prediction."""

from __future__ import annotations

# Formats that libsndfile decodes. If a recording has two files, the earlier suffix is used, so
# lossless formats come first.
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
# Formats of telephones, browsers and cameras. PyAV decodes them; the extra `media` installs it.
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
