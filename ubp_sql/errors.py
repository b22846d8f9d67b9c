"""Every error a user can meet: one line of cause, an SQLSTATE of class UB, an exit code, and a way out as the hint.

docs/errors.md lists them; a test keeps the two equal.
"""


class UbpError(Exception):
    """Base of all errors of this package; the docstring of a subclass is its general meaning."""

    sqlstate = "UB000"
    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["UbpError"], tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class UnknownTask(UbpError):
    """The task does not exist."""

    sqlstate = "UB001"
    exit_code = 2


class FeatureSetMismatch(UbpError):
    """The feature set differs from the one the model was trained on."""

    sqlstate = "UB002"
    exit_code = 5


class BadInput(UbpError):
    """An argument is out of its range or of the wrong form."""

    sqlstate = "UB003"
    exit_code = 2


class NoModelDeployed(UbpError):
    """The task has no deployed model, or the named version does not exist."""

    sqlstate = "UB004"
    exit_code = 4


class NotReady(UbpError):
    """Something must run first: events loaded, a feature set defined, features refreshed."""

    sqlstate = "UB005"
    exit_code = 4


class InvalidModel(UbpError):
    """The bytes are not a model: malformed, truncated, inconsistent or over a limit."""

    sqlstate = "UB006"
    exit_code = 3


class UnsupportedModel(UbpError):
    """A valid model of a kind this version does not evaluate."""

    sqlstate = "UB007"
    exit_code = 3


class MapError(UbpError):
    """The load map is wrong: unknown column, bad expression, missing field."""

    sqlstate = "UB008"
    exit_code = 2


class StaleSession(UbpError):
    """This session holds older code than the database expects."""

    sqlstate = "UB009"
    exit_code = 5


class VersionSkew(UbpError):
    """The package on the server and the schema in the database are of different versions."""

    sqlstate = "UB010"
    exit_code = 5


class InstallError(UbpError):
    """The server lacks something the installation needs: PL/Python, a package, a right."""

    sqlstate = "UB011"
    exit_code = 6


class SourceError(UbpError):
    """A file cannot be read: missing, truncated, wrong format or encoding."""

    sqlstate = "UB012"
    exit_code = 3


class ClusterError(UbpError):
    """The embedded cluster cannot be made, started or stopped."""

    sqlstate = "UB013"
    exit_code = 6


class TrainingError(UbpError):
    """There is too little data, or data of the wrong shape, to train on."""

    sqlstate = "UB014"
    exit_code = 4


class SourceChanged(UbpError):
    """An attached source is no longer what it was when it was attached."""

    sqlstate = "UB015"
    exit_code = 5


def unknown_task(task: object) -> UnknownTask:
    """The error about a task that nobody defined."""
    return UnknownTask(
        f"unknown task {'NULL' if task is None else repr(task)}", "select task from ubp.tasks lists the tasks"
    )


def no_version(task: object, version: int | None) -> NoModelDeployed:
    """The error about a version that a task does not have; None: it has none at all."""
    which = "no model" if version is None else f"no version {version}"
    return NoModelDeployed(f"task {task!r} has {which}", "select * from ubp.model_versions lists what there is")


SETS_NAMED = 20


def no_such_set(key: object, names: list[str]) -> NotReady:
    """The error about a feature set that does not exist.

    names  those that do
    """
    more = ", ..." if len(names) > SETS_NAMED else ""
    there = f"there are: {', '.join(names[:SETS_NAMED])}{more}" if names else "there is none yet"
    return NotReady(f"there is no feature set {key!r}", f"{there}; ubp.define_feature_set makes one")
