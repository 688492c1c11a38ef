"""Declare how a corpus of another form lies on disk: which files, which columns, which units.

A declaration is a TOML file of a few lines. Those of common forms are shipped in `forms/`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Declaration(BaseModel):
    """The form of a corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str


def load_declaration(form: str) -> Declaration:
    """Read a shipped declaration by its name, or one from a TOML file.

    Raises
    ------
    ConfigError
        If there is no such form or file, or a key or value is not accepted.
    """
    raise NotImplementedError(form)


def shipped_declarations() -> tuple[Declaration, ...]:
    """Read all shipped declarations, by name."""
    raise NotImplementedError
