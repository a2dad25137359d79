"""The wire from outside: another implementation of vSphere's API on each side of it."""
