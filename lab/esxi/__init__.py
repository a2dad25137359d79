"""A stand-in ESXi host: real QEMU machines with snapshots, changed block tracking and disk exports."""
