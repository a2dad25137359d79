"""How the cloud's answers become the product's errors: the one place that knows what OpenStack's refusals mean.

The statuses and texts are those of a real OpenStack (Zed): a quota answers 413 (Cinder), 403 (Nova) or 409 (Neutron); a
wrong state answers 400 in Cinder and 409 elsewhere; a wrong value answers 400, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import keystoneauth1.exceptions
import openstack.exceptions
import requests
import requests.exceptions

from xms.errors import (
    BadInput,
    ConfigurationError,
    QuotaExceeded,
    TargetFault,
    TargetNotFound,
    TargetNotTrusted,
    TargetRefusedLogin,
    TargetRejected,
    TargetUnreachable,
    XmsError,
)
from xms.openstack.retries import retry_after

TWICE = re.compile(r" \(HTTP \d+\)( \(Request-ID: [^)]*\))?$")
"""What keystoneauth puts after a service's words, and is told in full anyway."""

E = TypeVar("E", bound=BaseException)

CLIENT_ERRORS = range(400, 500)
QUOTA = re.compile(r"quota|LimitExceeded", re.IGNORECASE)
TRANSIENT_STATE = re.compile(r"status|state|Invalid volume|locked|in progress", re.IGNORECASE)
ADDRESS_TAKEN = re.compile(r"mac address .* is in use|already allocated", re.IGNORECASE)
REFUSED_LOGIN = re.compile(r"HTTP 401|requires authentication", re.IGNORECASE)
NO_ENDPOINT = re.compile(r"choosing an endpoint")
"""What keystoneauth says, in a bare ValueError, where the catalogue has a service, but not in this region."""
QUOTA_NAMES = (
    re.compile(r"exceeds allowed (?P<name>[\w ]+?) quota"),
    re.compile(r"exceeded for quota '(?P<name>[^']+)'"),
    re.compile(r"Quota exceeded for resources: \[(?P<name>[^\]]+)\]"),
    re.compile(r"Quota exceeded for (?P<name>[\w, ]+?):"),
)
UNREACHABLE = re.compile(r"Unable to establish connection|Max retries exceeded|timed out", re.IGNORECASE)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the SDK and the libraries below it raise into `xms.errors`.

    Args:
        what: the error's first line, naming the volume, server or setting: "the volume of disk 2000 was not made".

    Raises:
        TargetUnreachable: no answer, 408, 429 or 5xx.
        TargetNotTrusted: the TLS certificate did not verify.
        TargetRefusedLogin: 401, or 403 by policy.
        QuotaExceeded: 413, 403 or 409 that speak of a quota.
        TargetNotFound: 404.
        TargetRejected: 400 for a value; an address that is in use.
        TargetFault: a state that forbids the call now, and everything else.
        ConfigurationError: clouds.yaml, the region or the catalogue do not fit.
        BadInput: a name that more than one thing has.
    """
    try:
        yield
    except openstack.exceptions.HttpException as error:
        answer = from_status(what, error.status_code, _details(error), error.request_id)
        raise _in_time(answer, error.response) from error
    except keystoneauth1.exceptions.HttpError as error:
        answer = from_status(what, error.http_status, error.message or "", error.request_id)
        raise _in_time(answer, error.response) from error
    except keystoneauth1.exceptions.SSLError as error:
        raise _not_trusted(what, error) from error
    except (keystoneauth1.exceptions.ConnectionError, requests.exceptions.RequestException) as error:
        raise TargetUnreachable(what, because=str(error)) from error
    except openstack.exceptions.DuplicateResource as error:
        raise BadInput(what, because=str(error), do="name it by its id") from error
    except (
        openstack.exceptions.ConfigException,
        openstack.exceptions.EndpointNotFound,
        openstack.exceptions.ServiceDiscoveryException,
        keystoneauth1.exceptions.EndpointNotFound,
        keystoneauth1.exceptions.MissingRequiredOptions,
        keystoneauth1.exceptions.NoMatchingPlugin,
    ) as error:
        raise ConfigurationError(what, because=str(error), do="correct the cloud's entry in clouds.yaml") from error
    except (openstack.exceptions.SDKException, keystoneauth1.exceptions.ClientException) as error:
        raise _without_status(what, error) from error
    except ValueError as error:
        if not NO_ENDPOINT.search(str(error)):
            raise
        raise ConfigurationError(
            what,
            because="the cloud's catalogue has the service, but not in this region and with this interface",
            do="correct the region in the target's configuration, or region_name and interface in clouds.yaml",
        ) from error


def from_status(what: str, status: int | None, text: str, request_id: str | None) -> XmsError:
    """The error for an answer of the cloud; `text` is the service's own explanation."""
    because = f"{TWICE.sub('', text)} (HTTP {status}" + (f", request {request_id})" if request_id else ")")
    match status:
        case 401:
            return TargetRefusedLogin(
                what,
                because=because,
                do="correct the credentials or the project in clouds.yaml",
            )
        case 403 | 409 | 413 if QUOTA.search(text):
            return QuotaExceeded(
                what, because=because, do=f"have the project's quota{_of_what(text)} raised, then retry the job"
            )
        case 403:
            return TargetRefusedLogin(
                what, because=because, do="give the account the right to do this in the target project"
            )
        case 404:
            return TargetNotFound(
                what, because=because, do="see that it is there, and that the project may use it, then retry the job"
            )
        case 400 if not TRANSIENT_STATE.search(text):
            return TargetRejected(
                what, because=because, do="correct what the cloud does not accept, then retry the job"
            )
        case 409 if ADDRESS_TAKEN.search(text):
            return TargetRejected(
                what, because=because, do="free the address in the target network, then retry the job"
            )
        case 408 | 413 | 429:
            return TargetUnreachable(what, because=because)
        case int() if status >= 500 and status != 501:  # noqa: PLR2004 - HTTP's own class of statuses
            return TargetUnreachable(what, because=because)
        case _:
            return TargetFault(what, because=because)


def _in_time(error: XmsError, response: requests.Response | None) -> XmsError:
    """The same error, which knows how long the service asked to wait."""
    if isinstance(error, TargetUnreachable) and response is not None:
        error.retry_after = retry_after(response.headers.get("Retry-After", ""))
    return error


def _details(error: openstack.exceptions.HttpException) -> str:
    return str(error.details or error.message)


def _of_what(text: str) -> str:
    found = next(filter(None, (words.search(text) for words in QUOTA_NAMES)), None)
    return f" of {found['name'].replace(chr(39), '')}" if found else ""


def _not_trusted(what: str, error: BaseException) -> XmsError:
    return TargetNotTrusted(what, because=str(error), do="put the cloud's CA bundle into clouds.yaml (cacert:)")


def _without_status(what: str, error: BaseException) -> XmsError:
    """The error for what a library raised in place of what it was answered, which is often still behind it."""
    text, causes = str(error), list(_behind(error))
    if untrusted := _first(causes, keystoneauth1.exceptions.SSLError):
        return _not_trusted(what, untrusted)
    if _first(causes, keystoneauth1.exceptions.ConnectionError):
        return TargetUnreachable(what, because=text)
    answered = _first(causes, keystoneauth1.exceptions.HttpError)
    if isinstance(error, keystoneauth1.exceptions.DiscoveryFailure) and (
        answered is None or answered.http_status in CLIENT_ERRORS
    ):
        return ConfigurationError(what, because=text, do="correct auth_url in the cloud's entry of clouds.yaml")
    if answered is not None:
        return from_status(what, answered.http_status, answered.message or text, answered.request_id)
    # Connection.authorize() wraps Keystone's 401 and connection failures in a bare SDKException: only the text is left.
    if REFUSED_LOGIN.search(text):
        return TargetRefusedLogin(what, because=text, do="correct the credentials or the project in clouds.yaml")
    if UNREACHABLE.search(text):
        return TargetUnreachable(what, because=text)
    return TargetFault(what, because=text)


def _behind(error: BaseException) -> Iterator[BaseException]:
    following = error.__cause__ or error.__context__
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _first(causes: list[BaseException], kind: type[E]) -> E | None:
    return next((cause for cause in causes if isinstance(cause, kind)), None)
