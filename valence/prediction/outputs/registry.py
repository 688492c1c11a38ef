"""List the outputs: those that every prediction writes, and those that are asked for by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from valence.errors import UsageError
from valence.formatting import some
from valence.prediction.outputs import audacity, audformat_table, elan, figure, table, textgrid
from valence.prediction.outputs.predicted import Output
from valence.prediction.page import render as page

# Every prediction writes these beside its Parquet.
ALWAYS = (Output(".csv", table.render), Output(".png", figure.render))
# These are written where their names are given.
OUTPUTS: Mapping[str, Output] = MappingProxyType(
    {
        "eaf": Output(".eaf", elan.render),
        "textgrid": Output(".TextGrid", textgrid.render),
        "audacity": Output(".labels.txt", audacity.render),
        "audformat": Output(".audformat.csv", audformat_table.render),
        "page": Output(".html", page.render),
    }
)


def chosen_outputs(names: Iterable[str]) -> tuple[Output, ...]:
    """Return the outputs with these names, each once, in the order of `OUTPUTS`.

    Raises
    ------
    UsageError
        If there is no output of a name.
    """
    asked = set(names)
    unknown = sorted(asked - OUTPUTS.keys())
    if unknown:
        raise UsageError(
            f"The format {some(unknown)} is not known. Expected one of {', '.join(OUTPUTS)}. "
            "Name one of them, or leave the format out."
        )
    return tuple(output for name, output in OUTPUTS.items() if name in asked)
