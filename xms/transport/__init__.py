"""How the disks of a snapshot become readable: NBD exports by nbdkit."""
