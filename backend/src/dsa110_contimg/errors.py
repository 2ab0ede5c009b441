"""The exception tree: one class per fact of the domain.

    PipelineError
    ├── ConfigurationError          an option, folder, catalogue or installation is not usable
    │   └── FolderAwayError         the incoming folder cannot be listed, or what was mounted there is away
    ├── BadInputError               a file is not what it claims to be: quarantine it
    │   ├── UnfinishedFileError     still being written or copied: come back later
    │   ├── UnreadableDataError     its header is sound but its data cannot be read
    │   └── InconsistentGroupError  subbands of one group contradict each other
    ├── IncompleteGroupError        fewer subbands than the group needs
    ├── CalibrationError            no solution, or no table that may be applied
    ├── ImagingError                the visibilities cannot make an image
    ├── MosaicError                 the tiles cannot make a mosaic
    ├── PublishError                a product cannot be published
    │   ├── UnknownProductError     the registry has no product of that id
    │   ├── SourceError             what is to be published is missing, empty, a link or still being written
    │   └── TargetError             its published name belongs to another content
    ├── WorkerDiedError             the process that did a job ended in the middle of it
    │   └── TimeLimitError          it was stopped because it took too long
    ├── AccessError                 a user, token, link or password is not known or may not do this
    │   └── TooManyAttemptsError    too many logins failed: wait
    └── FencedError                 a newer attempt owns this row: stop and change nothing

Each message is one sentence that names the file or row and the way out.
"""

from collections.abc import Sequence
from pathlib import Path


class PipelineError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(PipelineError):
    """An option, folder, catalogue or installation is not usable."""


class FolderAwayError(ConfigurationError):
    """The incoming folder cannot be listed, or what was mounted there is away."""


class BadInputError(PipelineError):
    """A file is not what it claims to be."""


class UnfinishedFileError(BadInputError):
    """A file is still being written or copied."""


class UnreadableDataError(BadInputError):
    """A file's header is sound but its data cannot be read."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path} cannot be read to its end: {reason}")
        self.path = path


class InconsistentGroupError(BadInputError):
    """Subbands of one group contradict each other."""


class IncompleteGroupError(PipelineError):
    """A group lacks subbands and cannot be converted."""

    def __init__(self, group_id: str, missing: Sequence[int], needed: int) -> None:
        super().__init__(
            f"group {group_id} lacks subbands {list(missing)}; at least {needed} are needed (--min-subbands)"
        )
        self.group_id, self.missing = group_id, tuple(missing)


class CalibrationError(PipelineError):
    """No solution, or no table that may be applied."""


class ImagingError(PipelineError):
    """The visibilities cannot make an image."""


class MosaicError(PipelineError):
    """The tiles cannot make a mosaic."""


class PublishError(PipelineError):
    """A product cannot be published."""


class UnknownProductError(PublishError):
    """The registry has no product of that id."""

    def __init__(self, data_id: str) -> None:
        super().__init__(f"there is no product {data_id!r} in the registry: see `contimg registry list`")
        self.data_id = data_id


class SourceError(PublishError):
    """What is to be published is missing, empty, a link or still being written."""


class TargetError(PublishError):
    """The published name of a product belongs to another content."""


class WorkerDiedError(PipelineError):
    """The process that did a job ended in the middle of it."""


class TimeLimitError(WorkerDiedError):
    """A job was stopped because it took too long."""


class AccessError(PipelineError):
    """A user, token, link or password is not known or may not do this."""


class TooManyAttemptsError(AccessError):
    """Too many logins failed."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many attempts to log in failed: wait {wait_s / 60:.0f} minutes")
        self.wait_s = wait_s


class FencedError(PipelineError):
    """A newer attempt owns this row."""
