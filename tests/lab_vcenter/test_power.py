"""Power, and the guest's tools."""

from __future__ import annotations

import pytest

from tests.lab_vcenter.client import Remote, vim, wait_for
from tests.lab_vcenter.conftest import Lab


def test_a_vm_is_powered_on_and_off(web: Remote) -> None:
    wait_for(web.PowerOn())
    assert web.runtime.powerState == "poweredOn"
    wait_for(web.PowerOff())
    assert web.runtime.powerState == "poweredOff"


def test_a_power_call_in_the_wrong_state_fails(web: Remote) -> None:
    with pytest.raises(vim.fault.InvalidPowerState, match="Powered off") as caught:
        wait_for(web.PowerOff())
    assert (caught.value.requestedState, caught.value.existingState) == ("poweredOff", "poweredOff")
    wait_for(web.PowerOn())
    with pytest.raises(vim.fault.InvalidPowerState, match="Powered on"):
        wait_for(web.PowerOn())


def test_a_guest_with_tools_shuts_itself_down(lab: Lab, web: Remote) -> None:
    lab.web.guest_answers = True
    wait_for(web.PowerOn())
    assert (web.guest.toolsRunningStatus, web.guest.toolsStatus) == ("guestToolsRunning", "toolsOk")
    web.ShutdownGuest()
    assert web.runtime.powerState == "poweredOff"
    assert web.guest.toolsRunningStatus == "guestToolsNotRunning"


def test_a_guest_without_tools_cannot_be_asked(web: Remote) -> None:
    wait_for(web.PowerOn())
    with pytest.raises(vim.fault.ToolsUnavailable):
        web.ShutdownGuest()
    assert web.runtime.powerState == "poweredOn"


def test_a_vm_that_is_off_cannot_be_shut_down(web: Remote) -> None:
    with pytest.raises(vim.fault.InvalidPowerState):
        web.ShutdownGuest()
