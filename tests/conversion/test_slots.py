"""Conversions wait for memory instead of taking the worker down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xms.config import ConversionConfig
from xms.conversion.memory import Memory, group_limits, memory
from xms.conversion.slots import MIB, OVERHEAD, ConversionSlots
from xms.conversion.stages import Stages
from xms.cutover import ConversionProgress
from xms.errors import ConfigurationError, Interrupted, WorkerBusy
from xms.models import Model
from xms.pulse import no_pulse

GIB = 1024 * MIB
NEEDED = GIB + OVERHEAD


def slots(look: Callable[[], Memory], conversions: int = 2, patience: float = 30) -> ConversionSlots:
    return ConversionSlots(ConversionConfig(memory_mib=1024), conversions, look=look, patience=patience)


def holding(free: int, appliances: int = 0) -> Callable[[], Memory]:
    return lambda: Memory(total=64 * GIB, available=free, appliances=appliances)


def test_a_conversion_begins_where_there_is_room_for_its_appliance_and_what_goes_with_it() -> None:
    with slots(holding(NEEDED)).taken(Stages(no_pulse), "kvm"):
        pass
    with pytest.raises(WorkerBusy), slots(holding(NEEDED - 1), patience=0).taken(Stages(no_pulse), "kvm"):
        pytest.fail("it began")


def test_an_appliance_that_is_emulated_takes_more() -> None:
    with pytest.raises(WorkerBusy), slots(holding(NEEDED), patience=0).taken(Stages(no_pulse), "tcg"):
        pytest.fail("it began")
    with slots(holding(NEEDED + GIB)).taken(Stages(no_pulse), "tcg"):
        pass


def test_one_that_has_to_wait_says_so_with_every_beat_and_begins_as_soon_as_there_is_room() -> None:
    free, said = GIB, []

    def hear(detail: Model | None = None) -> None:
        nonlocal free
        assert isinstance(detail, ConversionProgress)
        said.append(detail.stage)
        free = NEEDED

    with slots(lambda: Memory(total=64 * GIB, available=free, appliances=0)).taken(Stages(hear), "kvm"):
        assert said == ["waiting: 1 GiB of 1.5 GiB of memory are free"]


def test_a_wait_can_be_interrupted() -> None:
    def interrupt(detail: Model | None = None) -> None:
        del detail
        raise Interrupted("stop")

    with pytest.raises(Interrupted), slots(holding(0)).taken(Stages(interrupt), "kvm"):
        pytest.fail("it began")


def test_what_a_running_conversion_has_not_taken_yet_is_kept_for_it() -> None:
    free = NEEDED * 2 - 1
    both = slots(lambda: Memory(total=64 * GIB, available=free, appliances=0), patience=0)
    with both.taken(Stages(no_pulse), "kvm"):
        with pytest.raises(WorkerBusy), both.taken(Stages(no_pulse), "kvm"):
            pytest.fail("it began")
        free += 1
        with both.taken(Stages(no_pulse), "kvm"):
            pass


def test_what_a_running_conversion_has_taken_is_not_counted_twice() -> None:
    both = slots(lambda: Memory(total=64 * GIB, available=NEEDED, appliances=NEEDED))
    with both.taken(Stages(no_pulse), "kvm"), both.taken(Stages(no_pulse), "kvm"):
        pass


def test_no_more_run_at_a_time_than_configured() -> None:
    one, order, begun = slots(holding(64 * GIB), conversions=1), [], threading.Event()

    def second() -> None:
        begun.set()
        with one.taken(Stages(no_pulse), "kvm"):
            order.append("second")

    with one.taken(Stages(no_pulse), "kvm"):
        thread = threading.Thread(target=second)
        thread.start()
        assert begun.wait(5)
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_conversion_that_failed_gives_its_slot_back() -> None:
    one = slots(holding(64 * GIB), conversions=1, patience=0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), one.taken(Stages(no_pulse), "kvm"):
            raise ZeroDivisionError


def test_a_worker_that_can_never_have_so_much_memory_says_so_at_once() -> None:
    small = slots(lambda: Memory(total=GIB, available=GIB, appliances=0))
    with pytest.raises(ConfigurationError, match="too small") as refused, small.taken(Stages(no_pulse), "kvm"):
        pytest.fail("it began")
    assert "1.5 GiB" in refused.value.because
    assert "memory_mib" in refused.value.do


def a_group(place: Path, **files: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text)


def test_the_limits_of_all_control_groups_around_the_worker_count(tmp_path: Path) -> None:
    (own := tmp_path / "own").write_text("0::/system.slice/xms.service\n")
    groups = tmp_path / "groups"
    a_group(groups, cgroup__controllers="")
    a_group(groups / "system.slice", memory__max="8000\n", memory__current="5000\n")
    a_group(
        groups / "system.slice" / "xms.service",
        memory__max="4000\n",
        memory__current="3000\n",
        memory__stat="anon 2000\ninactive_file 600\n",
    )
    assert sorted(group_limits(groups, own)) == [(4000, 2400), (8000, 5000)]


def test_a_group_without_a_limit_limits_nothing(tmp_path: Path) -> None:
    (own := tmp_path / "own").write_text("0::/\n")
    a_group(tmp_path / "groups", memory__max="max\n", memory__current="5\n")
    assert list(group_limits(tmp_path / "groups", own)) == []
    assert list(group_limits(tmp_path / "groups", tmp_path / "none")) == []


def test_in_a_container_of_the_first_version_the_limit_at_the_top_counts(tmp_path: Path) -> None:
    (own := tmp_path / "own").write_text("5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n")
    a_group(
        tmp_path / "groups" / "memory",
        memory__limit_in_bytes="4000\n",
        memory__usage_in_bytes="3000\n",
        memory__stat="total_inactive_file 500\n",
    )
    assert list(group_limits(tmp_path / "groups", own)) == [(4000, 2500)]


def test_this_machines_memory_can_be_told() -> None:
    found = memory()
    assert 0 < found.available <= found.total
    assert 0 <= found.appliances <= found.total
