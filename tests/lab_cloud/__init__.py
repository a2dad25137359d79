"""The stand-in cloud, driven by openstacksdk alone."""
