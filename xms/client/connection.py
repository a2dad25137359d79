"""Connecting to Temporal by the SDK's own settings, with failures that name what is wrong.

The settings are those of every Temporal tool: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS_...,
or a profile (TEMPORAL_PROFILE) of temporal.toml. Without any of them: 127.0.0.1:7233, namespace "default".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from workflows.names import SEARCH_ATTRIBUTES
from xms.errors import ConfigurationError, OperationFailed, TemporalRefusedLogin, TemporalUnreachable, XmsError

DEFAULT_ADDRESS: Final = "127.0.0.1:7233"

CONNECT_SECONDS: Final = 5.0
"""For one TCP connection, by the SDK."""

ANSWER_SECONDS: Final = 10.0
"""For the connection and its first answers together."""

HOW_TO_CONNECT: Final = "start the server, or set TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE"


async def connect(*, runtime: Runtime | None = None) -> Client:
    """A client of the Temporal server and namespace that the environment names; both were asked and answered.

    Args:
        runtime: the SDK's runtime, where it has to be another than the default one.

    Raises:
        ConfigurationError: the profile, the certificate file or another setting cannot be used.
        TemporalUnreachable: nobody answers in time, or the namespace does not exist.
        TemporalRefusedLogin: the server does not accept the key or the certificate.
    """
    settings = _settings()
    address = settings["target_host"]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            client = await Client.connect(
                **settings,
                data_converter=pydantic_data_converter,
                connect_timeout=timedelta(seconds=CONNECT_SECONDS),
                runtime=runtime,
            )
    except TimeoutError:
        raise TemporalUnreachable(
            f"no Temporal server answers at {address}",
            because=f"nothing came back within {ANSWER_SECONDS:.0f} s",
            do=HOW_TO_CONNECT,
        ) from None
    except (RuntimeError, ValueError) as error:
        # The SDK's bridge has no class of its own for a connection that cannot be made.
        raise _not_connected(address, str(error)) from None
    await _see_namespace(client, address)
    return client


def _settings() -> ClientConnectConfig:
    try:
        settings = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            "the settings for Temporal cannot be used",
            because=str(error),
            do="see TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE and the profile that they name",
        ) from None
    return ClientConnectConfig(**{"target_host": DEFAULT_ADDRESS, "namespace": "default", **settings})


def _not_connected(address: str, text: str) -> XmsError:
    """The bridge's error text, without its Rust."""
    reasons = {
        "ConnectionRefused": "the connection is refused: nobody listens there",
        "dns error": "the host name is unknown",
        "deadline has elapsed": f"no connection within {CONNECT_SECONDS:.0f} s",
        "InvalidCertificate": "its TLS certificate is not trusted",
        "invalid peer certificate": "its TLS certificate is not trusted",
        "NetworkUnreachable": "the network is unreachable",
        "HostUnreachable": "the host is unreachable",
        "timed out": "the connection timed out",
        "InvalidContentType": "it does not speak TLS, which the settings ask for",
        "HTTP status code": "what answers there is not a Temporal server",
        "invalid target URL": "the address is not of the form host:port",
        "invalid URL": "the address is not of the form host:port",
        "relative URL": "the address is not of the form host:port",
        "invalid port": "the address is not of the form host:port",
    }
    if "Unauthenticated" in text or "PermissionDenied" in text:
        return TemporalRefusedLogin(
            f"the Temporal server at {address} refuses the login",
            because="its answer to the API key or the client certificate is no",
            do="see TEMPORAL_API_KEY, and TEMPORAL_TLS_CLIENT_CERT_PATH with its key",
        )
    because = next((words for sign, words in reasons.items() if sign in text), text)
    return TemporalUnreachable(f"no Temporal server answers at {address}", because=because, do=HOW_TO_CONNECT)


async def _see_namespace(client: Client, address: str) -> None:
    async with explained(address):
        try:
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace), timeout=timedelta(seconds=ANSWER_SECONDS)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise TemporalUnreachable(
                f"the Temporal server at {address} has no namespace '{client.namespace}'",
                because=error.message,
                do="set TEMPORAL_NAMESPACE to one that exists, or create it",
            ) from None


@asynccontextmanager
async def explained(address: str) -> AsyncIterator[None]:
    """Turn the SDK's errors of a call into ours, where they speak of the server and not of what was asked.

    Raises:
        TemporalUnreachable: the server did not answer.
        TemporalRefusedLogin: it does not accept who asks.
        OperationFailed: any other status; the text is the server's own.
    """
    try:
        yield
    except RPCError as error:
        match error.status:
            case RPCStatusCode.UNAVAILABLE | RPCStatusCode.DEADLINE_EXCEEDED | RPCStatusCode.CANCELLED:
                raise TemporalUnreachable(
                    f"the Temporal server at {address} does not answer", because=error.message, do=HOW_TO_CONNECT
                ) from None
            case RPCStatusCode.UNAUTHENTICATED | RPCStatusCode.PERMISSION_DENIED:
                raise TemporalRefusedLogin(
                    f"the Temporal server at {address} refuses the call",
                    because=error.message,
                    do="see TEMPORAL_API_KEY and the rights of its account in the namespace",
                ) from None
            case _:
                raise OperationFailed(
                    "the Temporal server cannot do what was asked", because=f"{error.status.name}: {error.message}"
                ) from None


async def register_search_attributes(client: Client) -> None:
    """See that the namespace knows the search attributes of jobs; register those that it does not know.

    Raises:
        ConfigurationError: some are missing and this client may not register them; the text names them.
        TemporalUnreachable: the server did not answer.
    """
    address = client.service_client.config.target_host
    wanted = {key.name: key.indexed_value_type for key in SEARCH_ATTRIBUTES}
    async with explained(address):
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        missing = {name: kind for name, kind in wanted.items() if name not in known.custom_attributes}
        if not missing:
            return
        try:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace,
                    search_attributes={name: kind.value for name, kind in missing.items()},  # type: ignore[misc]  # an int on the wire
                )
            )
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                # Another worker that started at the same time was faster.
                return
            raise ConfigurationError(
                f"namespace '{client.namespace}' lacks the search attributes {', '.join(missing)}",
                because=f"they cannot be registered with these rights: {error.message}",
                do="; ".join(
                    f"temporal operator search-attribute create --name {name} --type {kind.name.title()}"
                    for name, kind in missing.items()
                ),
            ) from None


def quiet_runtime() -> Runtime:
    """A runtime whose native part writes nothing to stderr: its failures come back as errors, and are told as those."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


def runtime_with_metrics(address: str | None) -> Runtime:
    """A runtime of the SDK that serves Prometheus metrics at `address` (host:port), or none where it is None.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    if address is None:
        return Runtime.default()
    metrics = PrometheusConfig(
        bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics))
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"metrics cannot be served at worker.metrics = {address}",
            because=str(error),
            do="give a free address:port of this machine",
        ) from None
