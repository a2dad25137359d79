"""One authenticated call: whose it is, its microversion, and the filters and pages of its lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import QueryParams

from lab.cloud.refusals import UNAUTHENTICATED, Json, Refused
from lab.cloud.state import Cloud, Project, User, now

MICROVERSIONS: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "volume": ((3, 0), (3, 70)),
    "compute": ((2, 1), (2, 93)),
}


def version_text(version: tuple[int, int]) -> str:
    """'3.70'."""
    return f"{version[0]}.{version[1]}"


@dataclass(frozen=True)
class Call:
    """An authenticated call in a project."""

    cloud: Cloud
    user: User
    project: Project
    microversion: tuple[int, int]
    query: QueryParams
    url: str

    def needs(self, major: int, minor: int) -> None:
        """Refuse what an older microversion does not know, as the real services do: by 404."""
        if self.microversion < (major, minor):
            raise Refused(404, "The resource could not be found.")

    def page(self, collection: str, rows: Iterable[Json]) -> Json:
        """The rows after `marker`, at most `limit`, with a link to the next page where there is one."""
        remaining = list(rows)
        if marker := self.query.get("marker"):
            ids = [row["id"] for row in remaining]
            if marker not in ids:
                raise Refused(400, f"marker [{marker}] not found")
            remaining = remaining[ids.index(marker) + 1 :]
        limit = int(self.query.get("limit") or len(remaining))
        answer: Json = {collection: remaining[:limit]}
        if 0 < limit < len(remaining):
            next_page = f"{self.url}?limit={limit}&marker={remaining[limit - 1]['id']}"
            answer[f"{collection}_links"] = [{"rel": "next", "href": next_page}]
        return answer


@dataclass(frozen=True)
class CallOf:
    """Authenticates the calls of one service, and reads the microversion that they ask for."""

    service: str

    async def __call__(self, request: Request) -> Call:
        """The call. Raises Refused: 401 without a valid token, 406 for a microversion out of range."""
        cloud: Cloud = request.app.state.cloud
        if cloud.faults.tokens_end():
            cloud.tokens.clear()
        token = cloud.tokens.get(request.headers.get("x-auth-token", ""))
        if token is None or token.expires <= now() or token.project is None:
            raise Refused(401, UNAUTHENTICATED)
        if request.path_params.get("project_id", token.project.id) != token.project.id:
            raise Refused(400, "Malformed request url")
        url = str(request.url.replace(query=""))
        version = self._microversion(request.headers.get("openstack-api-version", ""))
        return Call(cloud, token.user, token.project, version, request.query_params, url)

    def _microversion(self, header: str) -> tuple[int, int]:
        if self.service not in MICROVERSIONS:
            return (0, 0)
        lowest, highest = MICROVERSIONS[self.service]
        service, _, text = header.partition(" ")
        if service != self.service:
            return lowest
        if text == "latest":
            return highest
        major, _, minor = text.partition(".")
        if not (major.isdecimal() and minor.isdecimal()):
            raise Refused(400, f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum.")
        asked = (int(major), int(minor))
        if not lowest <= asked <= highest:
            supported = f"Minimum is {version_text(lowest)} and maximum is {version_text(highest)}."
            raise Refused(406, f"Version {text} is not supported by the API. {supported}")
        return asked


VolumeCall = Annotated[Call, Depends(CallOf("volume"))]
ComputeCall = Annotated[Call, Depends(CallOf("compute"))]
NetworkCall = Annotated[Call, Depends(CallOf("network"))]
ImageCall = Annotated[Call, Depends(CallOf("image"))]
