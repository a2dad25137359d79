"""The connection, and what the cloud's refusals become."""

from __future__ import annotations

import keystoneauth1.exceptions
import openstack.exceptions
import pytest
import requests.exceptions

from xms.config import TargetConfig
from xms.errors import (
    BadInput,
    ConfigurationError,
    Interrupted,
    QuotaExceeded,
    TargetFault,
    TargetNotFound,
    TargetNotTrusted,
    TargetRefusedLogin,
    TargetRejected,
    TargetUnreachable,
    XmsError,
)
from xms.models import Model
from xms.openstack.cloud import Cloud, rest
from xms.openstack.faults import from_status, translated


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (413, "VolumeSizeExceedsAvailableQuota: Requested volume exceeds allowed gigabytes quota.", QuotaExceeded),
        (413, "VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota", QuotaExceeded),
        (403, "Quota exceeded for cores: Requested 1, but already used 0 of 0 cores", QuotaExceeded),
        (409, "Quota exceeded for resources: ['port'].", QuotaExceeded),
        (401, "The request you have made requires authentication.", TargetRefusedLogin),
        (403, "Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed.", TargetRefusedLogin),
        (404, "Volume type with name gold could not be found.", TargetNotFound),
        (400, "Flavor nope could not be found.", TargetRejected),
        (400, "Invalid image metadata. Error: Field value foo is invalid", TargetRejected),
        (400, "Invalid volume: Volume c30 status must be available or downloading to reserve", TargetFault),
        (409, "Unable to complete operation for network 8. The mac address 52:54:00:aa is in use.", TargetRejected),
        (409, "IP address 10.77.0.20 already allocated in subnet 089", TargetRejected),
        (409, "Port 41aebe55 is still in use.", TargetFault),
        (429, "Too many requests", TargetUnreachable),
        (500, "Internal error", TargetUnreachable),
        (503, "No server is available", TargetUnreachable),
    ],
)
def test_a_refusal_of_a_real_openstack_becomes_the_error_that_fits(
    status: int, text: str, kind: type[XmsError]
) -> None:
    error = from_status("it was not made", status, text, "req-1")
    assert type(error) is kind
    assert text in error.because
    assert "req-1" in error.because


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (openstack.exceptions.SDKException("requires authentication. (HTTP 401)"), TargetRefusedLogin),
        (openstack.exceptions.SDKException("Unable to establish connection to http://x"), TargetUnreachable),
        (openstack.exceptions.ConfigException("Cloud nope was not found."), ConfigurationError),
        (openstack.exceptions.DuplicateResource("More than one Network exists"), BadInput),
        (keystoneauth1.exceptions.ConnectFailure("refused"), TargetUnreachable),
        (keystoneauth1.exceptions.SSLError("certificate verify failed"), TargetNotTrusted),
        (keystoneauth1.exceptions.Unauthorized("no"), TargetRefusedLogin),
        (keystoneauth1.exceptions.EndpointNotFound("no endpoint"), ConfigurationError),
        (requests.exceptions.ReadTimeout("timed out"), TargetUnreachable),
    ],
)
def test_what_the_libraries_raise_is_translated(raised: Exception, kind: type[XmsError]) -> None:
    with pytest.raises(kind) as error, translated("it was not made"):
        raise raised
    assert type(error.value) is kind
    assert error.value.what == "it was not made"


@pytest.mark.parametrize(
    ("status", "text", "quota"),
    [
        (
            413,
            "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota.",
            "gigabytes",
        ),
        (413, "VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota 'volumes'.", "volumes"),
        (403, "Quota exceeded for cores: Requested 1, but already used 0 of 0 cores", "cores"),
        (403, "Quota exceeded for cores, ram: Requested 1, 2, but already used 0 of 0", "cores, ram"),
        (409, "Quota exceeded for resources: ['port'].", "port"),
    ],
)
def test_a_quota_that_is_exceeded_is_named(status: int, text: str, quota: str) -> None:
    assert f"have the project's quota of {quota} raised" in from_status("it was not made", status, text, "req-1").do


def test_every_refusal_says_what_to_do() -> None:
    for status in (400, 401, 403, 404):
        assert from_status("it was not made", status, "no", "req-1").do


def test_a_service_that_is_not_in_the_region_is_the_configurations_fault() -> None:
    with pytest.raises(ConfigurationError, match="not in this region"), translated("it was not made"):
        raise ValueError("Programming error choosing an endpoint.")
    with pytest.raises(ValueError, match="another"), translated("it was not made"):
        raise ValueError("another")


def test_what_was_answered_is_told_even_where_a_library_hides_it() -> None:
    def hidden(behind: Exception) -> XmsError:
        error = openstack.exceptions.SDKException("something went wrong")
        error.__cause__ = behind
        with pytest.raises(XmsError) as told, translated("no log-in"):
            raise error
        return told.value

    refused = hidden(keystoneauth1.exceptions.Unauthorized("no", request_id="req-7"))
    assert isinstance(refused, TargetRefusedLogin)
    assert "req-7" in refused.because
    assert isinstance(hidden(keystoneauth1.exceptions.SSLError("self-signed")), TargetNotTrusted)
    assert isinstance(hidden(keystoneauth1.exceptions.ConnectFailure("refused")), TargetUnreachable)


def test_the_products_own_errors_pass_unchanged() -> None:
    with pytest.raises(Interrupted), translated("it was not made"):
        raise Interrupted("stop")


def test_every_call_has_a_time_limit(cloud: Cloud, target_config: TargetConfig) -> None:
    assert cloud.volumes.session.timeout == target_config.api_timeout_seconds


def test_waiting_is_given_up_after_its_time(cloud: Cloud) -> None:
    assert cloud.wait_for(lambda: None, timeout=0.2, pulse=rest_is_fine) is None
    assert cloud.wait_for(lambda: "there", timeout=0.2, pulse=rest_is_fine) == "there"


def test_waiting_stops_when_the_pulse_says_so() -> None:
    def stop(detail: Model | None = None) -> None:
        del detail
        raise Interrupted("stop")

    with pytest.raises(Interrupted):
        rest(60, stop)


def rest_is_fine(detail: Model | None = None) -> None:
    del detail
