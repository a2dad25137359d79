"""Warm migration of running VMware VMs into OpenStack block storage: the domain, without Temporal."""
