"""Define the errors that a user can meet, each with the exit status of the command.

A message is one readable paragraph: what was found, what was expected, what to do.
"""

from __future__ import annotations


class ValenceError(Exception):
    """The work failed for a reason that the user can remedy (exit status 1)."""

    exit_status = 1


class UsageError(ValenceError):
    """Wrong use of a command, or a configuration that cannot be used (exit status 2)."""

    exit_status = 2


class ConfigError(UsageError):
    """A configuration value or key that is not accepted."""


class CorpusError(ValenceError):
    """A folder without a usable corpus, or a file of a corpus that cannot be read."""


class SplitError(UsageError):
    """A division into training, validation and test that the corpus does not allow."""


class AnnotationError(CorpusError):
    """A label file that cannot be joined to its recording."""


class FeatureError(CorpusError):
    """A file of a feature set that cannot be used, or that is missing."""


class AudioError(CorpusError):
    """An audio file that cannot be decoded, or that holds no usable sound."""


class UnreadableError(AudioError):
    """An audio file that cannot be read at present, whatever its content."""


class PredictionError(CorpusError):
    """A recording for which the model predicts values that are no numbers."""


class StaleError(ValenceError):
    """Outputs of another configuration or input, in the place of new ones."""


class MissingStageError(UsageError):
    """A stage whose inputs have not been made yet."""


class DamagedError(ValenceError):
    """A file of a run that is lost, or has changed since it was written."""


class ForeignError(DamagedError):
    """A file of a run that is whole but belongs to something else."""


class ModelError(ValenceError):
    """A model folder or checkpoint that is incomplete, damaged or of another version."""


class IncompatibleError(ModelError):
    """A model or regressor that is whole, and that the installed packages cannot read."""


class TrainingError(ValenceError):
    """Training that cannot start or continue."""


class OutputError(ValenceError):
    """A place for outputs that cannot be written."""


class ClusterError(ValenceError):
    """A Ray cluster that cannot be reached or lacks requested resources."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 300 characters, for a row of a table.

    >>> first_line(ValueError("n_components=99 is too many\\nand more")), first_line(KeyError())
    ('n_components=99 is too many', 'no message')
    """
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"
