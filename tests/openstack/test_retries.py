"""Which calls are asked again, which never, for how long, and what is to be seen of it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

import pytest

from activities.execution import HAND_OVER, next_try
from lab.cloud.server import CloudServer
from lab.cloud.trouble import CallTrouble
from xms.config import TargetConfig
from xms.errors import Interrupted, TargetUnreachable, XmsError
from xms.models import Model
from xms.openstack import retries
from xms.openstack.cloud import Cloud, connect
from xms.openstack.faults import translated

VOLUMES = r"^/volume/.*/volumes"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cloud: Cloud, cloud_server: CloudServer) -> Iterator[None]:
    list(cloud.volumes.volumes())
    monkeypatch.setattr(retries, "_growing", lambda _state: 0.05)
    yield
    cloud_server.faults.calm()


def read(cloud: Cloud) -> None:
    with translated("it was not read"):
        list(cloud.volumes.volumes())


def make(cloud: Cloud) -> None:
    with translated("it was not made"):
        made = cloud.volumes.create_volume(size=1)
    cloud.volumes.wait_for_status(made, interval=0.05, wait=10)
    cloud.volumes.delete_volume(made)


def tries(server: CloudServer, work: Callable[[], None], method: str) -> int:
    before = len(server.faults.calls)
    work()
    return sum(each == method for each, _ in server.faults.calls[before:])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_read_is_asked_again_until_it_is_answered(cloud: Cloud, cloud_server: CloudServer, status: int) -> None:
    cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=status), times=3)
    assert tries(cloud_server, lambda: read(cloud), "GET") == 4


@pytest.mark.parametrize("breaks", ["before the work", "after the work"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_does_the_same_twice_is_asked_again_when_the_connection_breaks(
    cloud: Cloud, cloud_server: CloudServer, method: str, breaks: Literal["before the work", "after the work"]
) -> None:
    port = cloud.network.create_port(network_id=next(iter(cloud.network.networks())).id)
    trouble = CallTrouble(method=method, path="^/network/.*/ports/", breaks=breaks)
    cloud_server.faults.upset(trouble)

    def work() -> None:
        match method:
            case "GET":
                cloud.network.get_port(port.id)
            case "PUT":
                cloud.network.update_port(port.id, name="again")
            case _:
                cloud.network.delete_port(port.id, ignore_missing=True)

    assert tries(cloud_server, work, method) == 2
    if method != "DELETE":
        cloud.network.delete_port(port.id)


@pytest.mark.parametrize("status", [429, 503])
def test_a_post_that_was_not_taken_up_is_asked_again(cloud: Cloud, cloud_server: CloudServer, status: int) -> None:
    cloud_server.faults.upset(CallTrouble(method="POST", path=VOLUMES + "$", status=status), times=2)
    assert tries(cloud_server, lambda: make(cloud), "POST") == 3


@pytest.mark.parametrize(
    "trouble",
    [
        *(CallTrouble(method="POST", path=VOLUMES + "$", status=status, done=True) for status in (500, 502, 504)),
        CallTrouble(method="POST", path=VOLUMES + "$", breaks="before the work"),
        CallTrouble(method="POST", path=VOLUMES + "$", breaks="after the work"),
    ],
)
def test_a_post_that_may_have_been_done_is_never_asked_again(
    cloud: Cloud, cloud_server: CloudServer, trouble: CallTrouble
) -> None:
    before = len(cloud_server.faults.calls)
    cloud_server.faults.upset(trouble)
    with pytest.raises(TargetUnreachable) as error:
        make(cloud)
    assert error.value.retryable
    assert [method for method, _ in cloud_server.faults.calls[before:]] == ["POST"]


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 501])
@pytest.mark.parametrize(("method", "work"), [("GET", read), ("POST", make)])
def test_a_final_answer_is_never_asked_again(
    cloud: Cloud, cloud_server: CloudServer, status: int, method: str, work: Callable[[Cloud], None]
) -> None:
    cloud_server.faults.upset(CallTrouble(method=method, path=VOLUMES, status=status, retry_after="0"))
    before = len(cloud_server.faults.calls)
    with pytest.raises(XmsError):
        work(cloud)
    assert [each for each, _ in cloud_server.faults.calls[before:]] == [method]


def test_a_post_is_asked_again_where_no_connection_came_about(
    target_config: TargetConfig, monkeypatch: pytest.MonkeyPatch, cloud_server: CloudServer
) -> None:
    directory = cloud_server.directory / "restarted"
    directory.mkdir()
    server = CloudServer(directory)
    server.start()
    clouds = directory / "clouds.yaml"
    server.write_clouds_yaml(clouds)
    with connect(target_config.model_copy(update={"clouds_file": clouds, "retry_seconds": 20.0})) as cloud:
        list(cloud.volumes.volumes())
        server.stop()
        again = CloudServer(directory, port=server.port)
        again._cloud = server.cloud
        monkeypatch.setattr(retries, "_tell", lambda *_: again.start() if again._server is None else None)
        make(cloud)
        again.stop()


def test_a_log_in_is_asked_again_though_it_is_a_post(target_config: TargetConfig, cloud_server: CloudServer) -> None:
    cloud_server.faults.upset(CallTrouble(method="POST", path="auth/tokens", status=502), times=2)
    fresh = target_config.model_copy(update={"api_timeout_seconds": 31.0})
    assert tries(cloud_server, lambda: connect(fresh).close(), "POST") == 3


def test_a_service_that_says_how_long_to_wait_is_waited_for(cloud: Cloud, cloud_server: CloudServer) -> None:
    cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=429, retry_after="1"))
    start = time.monotonic()
    read(cloud)
    assert time.monotonic() - start >= 1.0


def test_a_service_that_asks_for_more_time_than_is_left_is_given_up_at_once(
    cloud: Cloud, cloud_server: CloudServer
) -> None:
    cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=503, retry_after="60"))
    start = time.monotonic()
    with pytest.raises(TargetUnreachable) as error:
        read(cloud)
    assert time.monotonic() - start < 1.0
    assert error.value.retry_after == 60.0
    assert next_try(error.value) == timedelta(seconds=60)


def test_an_attempt_comes_when_the_service_asked_for_it_but_within_five_minutes() -> None:
    error = TargetUnreachable("it was not read")
    assert next_try(error) is None
    error.retry_after = 86_400.0
    assert next_try(error) == timedelta(minutes=5)
    assert next_try(Interrupted("stop")) == HAND_OVER


def test_the_request_id_of_every_call_is_in_the_debug_log(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "xms.openstack.retries"):
        read(cloud)
    assert re.fullmatch(r"GET /volume/v3/\w+/volumes/detail: HTTP 200, request req-\S+", caplog.messages[-1])


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retries.retry_after("7") == 7.0
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28.0 < retries.retry_after(later) <= 30.0
    assert retries.retry_after("soon") == retries.retry_after("") == 0.0


def test_asking_again_ends_after_its_time(cloud: Cloud, cloud_server: CloudServer) -> None:
    cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=503), times=10_000)
    start = time.monotonic()
    with pytest.raises(TargetUnreachable, match="HTTP 503"):
        read(cloud)
    assert 1.5 < time.monotonic() - start < 4.0


def test_an_answer_that_takes_too_long_is_given_up(target_config: TargetConfig, cloud_server: CloudServer) -> None:
    hasty = target_config.model_copy(update={"api_timeout_seconds": 0.4, "retry_seconds": 0.0})
    with connect(hasty) as cloud:
        read(cloud)
        cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, seconds=2.0))
        with pytest.raises(TargetUnreachable, match="timed out"):
            read(cloud)


def test_who_asks_once_gets_the_first_answer(cloud: Cloud, cloud_server: CloudServer) -> None:
    cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=503))
    with pytest.raises(TargetUnreachable), cloud.asked_once():
        read(cloud)
    read(cloud)


def test_asking_again_shows_life_and_stops_when_it_is_told_to(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    beats = []

    def pulse(detail: Model | None = None) -> None:
        beats.append(detail)
        if len(beats) > 2:
            raise Interrupted("stop")

    with connect(target_config, pulse=pulse) as cloud:
        read(cloud)
        cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=503), times=10_000)
        with pytest.raises(Interrupted):
            read(cloud)
    assert len(beats) == 3


def test_what_is_asked_again_is_logged_without_a_secret(
    cloud: Cloud, cloud_server: CloudServer, caplog: pytest.LogCaptureFixture
) -> None:
    cloud_server.faults.upset(CallTrouble(method="GET", path=VOLUMES, status=503))
    with caplog.at_level(logging.WARNING, "xms.openstack.retries"):
        read(cloud)
    (record,) = caplog.records
    assert "HTTP 503, request" in record.getMessage()
    assert "asked again in" in record.getMessage()
    assert "?" not in record.getMessage()
