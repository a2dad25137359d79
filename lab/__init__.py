"""The stand-ins: a vCenter with an ESXi host, a cloud, and a Temporal server, to try and to test the product with."""
