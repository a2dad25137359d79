"""The lab's real OpenStack, as far as it can be looked at without one."""
