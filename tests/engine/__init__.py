"""Tests of the change maps and of the block engine."""
