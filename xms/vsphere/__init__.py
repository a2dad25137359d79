"""The product's client of a vCenter or ESXi: discovery, change tracking, snapshots, power."""
