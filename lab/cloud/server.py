"""The stand-in cloud as one HTTP server in a thread: `CloudServer`."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from lab.cloud import (
    attachments,
    block_storage,
    block_storage_catalog,
    block_storage_snapshots,
    compute,
    discovery,
    identity,
    image,
    network,
    ports,
    security_groups,
    server_creation,
    server_volumes,
    servers,
)
from lab.cloud.contents import PASSWORD, PROJECTS, USER, new_cloud
from lab.cloud.faults import Faults
from lab.cloud.refusals import Refused, answer_body, schema_text
from lab.cloud.state import Cloud, Server
from lab.cloud.trouble import Network

START_SECONDS = 20.0
REFUSAL_PAGE = "<html><body><h1>{status}</h1>No server is available to handle this request.</body></html>"
ROUTERS = (
    discovery.router,
    identity.router,
    block_storage.router,
    attachments.router,
    block_storage_catalog.router,
    block_storage_snapshots.router,
    network.router,
    ports.router,
    security_groups.router,
    compute.router,
    server_creation.router,
    servers.router,
    server_volumes.router,
    image.router,
)


def _refusal(request: Request, status: int, text: str, kind: str = "") -> Response:
    headers = {"Retry-After": "0"} if status == 413 else {}  # noqa: PLR2004 - Cinder's over-quota answer
    if status == 401:  # noqa: PLR2004 - what keystonemiddleware adds
        headers["WWW-Authenticate"] = f'Keystone uri="{str(request.base_url).rstrip("/")}/identity"'
    return JSONResponse(answer_body(request.url.path, status, text, kind), status, headers)


async def _say_no(request: Request, error: Exception) -> Response:
    match error:
        case Refused():
            return _refusal(request, error.status, error.text, error.kind)
        case RequestValidationError():
            return _refusal(request, 400, schema_text(error.errors()[0]))
        case HTTPException(status_code=404):
            return _refusal(request, 404, "The resource could not be found.")
        case HTTPException():
            return _refusal(request, error.status_code, error.detail)
    raise error


async def _watch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what a fault switch tells to refuse, and give every answer its request id."""
    cloud: Cloud = request.app.state.cloud
    service = request.url.path.split("/")[1]
    status = cloud.faults.status_for(service)
    if status is None:
        response = await call_next(request)
    else:
        response = HTMLResponse(REFUSAL_PAGE.format(status=status), status)
    response.headers["x-openstack-request-id"] = f"req-{uuid.uuid4()}"
    return response


def make_app(cloud: Cloud) -> FastAPI:
    """The services over one cloud. When the app ends, so does every QEMU."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for task in list(cloud.tasks):
            task.cancel()
        await asyncio.gather(*cloud.tasks, return_exceptions=True)
        for server in list(cloud.servers.values()):
            if server.machine is not None:
                await server.machine.kill()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.cloud = cloud
    for router in ROUTERS:
        app.include_router(router)
    for kind in (Refused, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _say_no)
    app.middleware("http")(_watch)
    app.add_middleware(Network, faults=cloud.faults)
    return app


class CloudServer:
    """A stand-in OpenStack in this process.

    Volumes are sparse files `<directory>/volumes/volume-<id>`, consoles `<directory>/servers/<id>/console.log`. What
    the cloud knows is in memory: after a restart it begins anew, and the files lie there until somebody wipes them.

    Attributes:
        accelerator: QEMU's, "tcg" or "kvm".

    Args:
        certificate: a PEM file of key and certificate: it speaks HTTPS. None: plain HTTP.
    """

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        accelerator: str = "tcg",
        certificate: Path | None = None,
    ) -> None:
        self._certificate = certificate
        self.directory = directory
        self.accelerator = accelerator
        self._address = address
        self._port = port
        self._cloud = new_cloud(directory, accelerator)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, once it is started."""
        return self._port

    @property
    def url(self) -> str:
        """The root of every service."""
        return f"{'https' if self._certificate else 'http'}://{self._address}:{self._port}"

    @property
    def cloud(self) -> Cloud:
        """What is in it; while it runs it belongs to its thread: read it, and change it by the methods here."""
        return self._cloud

    @property
    def faults(self) -> Faults:
        """Trouble on order."""
        return self._cloud.faults

    def start(self) -> None:
        """Listen and serve in a thread; returns when the first call would be answered.

        Raises:
            OSError: the port is taken.
            TimeoutError: the thread did not come up.
        """
        listener = socket.create_server((self._address, self._port))
        # Accepted connections inherit it; without it each answer waits 40 ms for the client's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(self._cloud),
            log_level="warning",
            access_log=False,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            ssl_certfile=self._certificate,
        )
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listener])), name="stand-in cloud", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise TimeoutError("the stand-in cloud did not come up")
            time.sleep(0.01)

    def stop(self) -> None:
        """End every server's QEMU and stop serving. Stopping twice does nothing more."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None

    def set_quota(self, project: str, **limits: int | dict[str, int]) -> None:
        """Set limits of a project by the names in `lab.cloud.state.Quota`; -1 is unlimited.

        Raises:
            KeyError, AttributeError: there is no such project, or no such limit.
        """
        quota = self._cloud.project_named(project).quota
        for name, limit in limits.items():
            if not hasattr(quota, name):
                raise AttributeError(name)
            setattr(quota, name, limit)

    def change_network(self, network_id: str, **attributes: Any) -> None:  # noqa: ANN401 - fields of Network
        """Change what only an administrator may change, by the names in `lab.cloud.state.Network`."""
        networks = self._cloud.networks
        changed = replace(networks[network_id], **attributes)
        networks[network_id] = changed
        for port in self._cloud.ports.values():
            if port.network.id == network_id:
                port.network = changed

    def volume_file(self, volume_id: str) -> Path:
        """The file that is the volume."""
        return self.directory / "volumes" / f"volume-{volume_id}"

    def add_worker_instance(self, project: str, devices: Path) -> str:
        """Make a server that is this machine, and tell its id: its volumes appear as links in `devices`.

        Raises:
            KeyError: there is no such project.
        """
        cloud = self._cloud
        server = Server(
            cloud.project_named(project).id,
            next(iter(cloud.users)),
            name="xms-worker",
            flavor=next(iter(cloud.flavors.values())),
            zone=cloud.zones[0],
            directory=self.directory / "servers",
            ports=[],
            status="ACTIVE",
            task=None,
            links=devices,
        )
        cloud.servers[server.id] = server
        return server.id

    def console_file(self, server_id: str) -> Path:
        """What a server's guest wrote to its serial port."""
        return self.directory / "servers" / server_id / "console.log"

    def write_clouds_yaml(self, path: Path) -> None:
        """Write the client's configuration, mode 0600.

        Its clouds: "lab" (project infra), "lab-sales" (project sales)
        and "lab-application-credential" (bound to project infra).
        """
        clouds = {
            "lab": self._entry(PROJECTS[0]),
            "lab-sales": self._entry(PROJECTS[1]),
            "lab-application-credential": self._entry_of_application_credential(),
        }
        path.touch(mode=0o600)
        path.chmod(0o600)
        # JSON is YAML, and there is nothing to quote wrongly.
        path.write_text(json.dumps({"clouds": clouds}, indent=2) + "\n")

    def _entry_of_application_credential(self) -> dict[str, Any]:
        (credential,) = self._cloud.application_credentials.values()
        return {
            "auth_type": "v3applicationcredential",
            "auth": {
                "auth_url": f"{self.url}/identity/v3",
                "application_credential_id": credential.id,
                "application_credential_secret": credential.secret,
            },
            "region_name": identity.REGION,
        }

    def _entry(self, project: str) -> dict[str, Any]:
        return {
            "auth": {
                "auth_url": f"{self.url}/identity/v3",
                "username": USER,
                "password": PASSWORD,
                "project_name": project,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": identity.REGION,
            "identity_api_version": "3",
        }
