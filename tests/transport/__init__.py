"""Exports of snapshots' disks."""
