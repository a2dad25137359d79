"""What Temporal's failures mean to a person who waits for an answer."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, TimeoutError  # noqa: A004

import xms.errors
from xms.errors import NeedsPerson, NoWorker, OperationFailed, XmsError
from xms.models import Trouble


def error_of(trouble: Trouble) -> XmsError:
    """The error that a worker raised, as an object of its own class again.

    A class that only a newer worker knows becomes `NeedsPerson` or `OperationFailed`; its words are kept.
    """
    known = getattr(xms.errors, trouble.kind, None)
    if isinstance(known, type) and issubclass(known, XmsError):
        kind: type[XmsError] = known
    else:
        kind = NeedsPerson if trouble.needs_person else OperationFailed
    return kind(trouble.what, because=trouble.because, means=trouble.means, do=trouble.do)


def unwrap(failure: BaseException, what: str) -> XmsError:
    """The innermost cause of a failed workflow, update or query.

    Args:
        failure: the SDK's error; its text alone ("Workflow execution failed") tells nothing.
        what: what could not be done, for causes that do not say it themselves.
    """
    chain = list(_causes(failure))
    for cause in reversed(chain):
        if isinstance(cause, ApplicationError):
            trouble = _trouble(cause)
            if trouble is not None:
                return error_of(trouble)
    last = chain[-1]
    match last:
        case TimeoutError():
            return NoWorker(
                what, because=f"no worker finished it in time ({last.message})", do="see that a worker runs: xms-worker"
            )
        case CancelledError() | TerminatedError():
            return OperationFailed(what, because="somebody cancelled or terminated the workflow in Temporal")
        case ApplicationError():
            return OperationFailed(
                what, because=f"{last.type or 'error'}: {last.message}", do="the worker's log has the details"
            )
        case _:
            return OperationFailed(what, because=str(last) or type(last).__name__)


def _causes(failure: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = failure
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _trouble(error: ApplicationError) -> Trouble | None:
    if not error.details:
        return None
    try:
        return Trouble.model_validate(error.details[0])
    except ValidationError:
        # Another program's error, with details of its own; its message is told instead.
        return None
