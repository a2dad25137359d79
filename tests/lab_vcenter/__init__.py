"""Tests of the stand-in vCenter, all driven by the real pyVmomi."""
