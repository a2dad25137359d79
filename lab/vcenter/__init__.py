"""A stand-in vCenter: SOAP over HTTPS on pyVmomi's own types, over any host of `lab.esxi.interface`."""
