"""Each case is played twice: on the stand-in, and on the real OpenStack that the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cloud_contract.places import CLOUDS, Place, real, stand_in
from tests.cloud_contract.scene import Scene


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(stand_in, id="stand-in"),
        pytest.param(
            real,
            id="real",
            marks=[
                pytest.mark.openstack,
                pytest.mark.skipif(CLOUDS not in os.environ, reason=f"make test-openstack sets {CLOUDS}"),
                pytest.mark.xdist_group("real OpenStack"),
            ],
        ),
    ],
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with request.param() as place:
        yield place


@pytest.fixture(scope="session")
def scene(place: Place) -> Iterator[Scene]:
    scene = Scene(place)
    yield scene
    scene.close()
