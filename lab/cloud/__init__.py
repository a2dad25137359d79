"""A stand-in OpenStack: Keystone, Cinder, Nova, Neutron and Glance as far as the product calls them."""
