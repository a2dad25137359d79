"""A real OpenStack on one machine, from the distribution's packages: `python -m lab.openstack`, see README.md."""
