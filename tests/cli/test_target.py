"""xms target: what is configured, and what a check says."""

from __future__ import annotations

import pytest

from tests.cli.conftest import House

pytestmark = pytest.mark.slow


def test_the_list_has_the_default_target_first(house: House) -> None:
    listed = house.xms("target", "list")
    assert listed.code == 0
    (first, second) = [line.split() for line in listed.out.splitlines()[1:3]]
    assert first[:2] == ["(default)", "production"]
    assert second[:3] == ["west", "production", "west"]


def test_a_check_tells_project_roles_regions_and_what_is_left(house: House) -> None:
    checked = house.xms("target", "check", "--project", "sales")
    assert checked.code == 0, checked.err
    for words in ("sales (p-1)", "admin, member", "east; the cloud has west, too", "4 cores, any volumes, 0 ports"):
        assert words in checked.out
    assert "no migration needs" in checked.out
    assert "the quota of ports is used up" in checked.out


def test_a_target_whose_service_cannot_be_used_fails_the_check(house: House) -> None:
    checked = house.xms("target", "check", "west")
    assert checked.code == 5
    assert "target west is not ready: Cinder: No server is available (HTTP 503)" in checked.err


def test_an_unknown_target_is_told_with_those_that_are(house: House) -> None:
    checked = house.xms("target", "check", "moon")
    assert checked.code == 2
    assert "the worker's targets are: west" in checked.err


def test_a_migration_goes_to_the_target_that_it_names(house: House) -> None:
    job = house.submit("db-prod-01", "--target", "west", "-o", "json").json["job_id"]
    assert house.xms("migration", "show", job, "-o", "json").json["spec"]["target"] == "west"
    assert "prod-vcenter -> infra of west" in house.xms("migration", "show", job).out
