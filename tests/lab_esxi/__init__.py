"""Tests of the stand-in ESXi host, its guest and the disk library's stand-in."""
