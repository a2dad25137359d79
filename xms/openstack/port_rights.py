"""What the project may choose of its ports in a network, asked by requests that cannot succeed.

Neutron has no dry run. But it looks at its policy before anything else, and what is not allowed answers 403. So each
request names a security group that does not exist: where the policy allows the rest, that is what the answer is about,
and nothing was made. A port that were made and deleted instead would not do: DHCP would give its address to the
source's NIC, which runs with the same MAC and may be on the same wire.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import openstack.exceptions

from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated

if TYPE_CHECKING:
    from openstack.network.v2.network import Network

FORBIDDEN: Final = 403
TOLD_OTHERWISE: Final = (400, 404, 409)
"""Refused for the group that does not exist, or for something that the policy has nothing to do with."""
DESCRIPTION: Final = "xms asked whether it may make such a port; this one is not needed"


def refusal(cloud: Cloud, network: Network, **wish: Any) -> str:  # noqa: ANN401 - Neutron's attributes
    """Why the project may not make a port with these attributes in the network, in Neutron's words; else "".

    Nothing is made. The policy answers for all of the attributes together, so each is asked about alone.

    Raises:
        TargetUnreachable, TargetRefusedLogin, TargetFault: there was no such answer.
    """
    with translated(f"it is not known what may be chosen of a port in network '{network.name}'"):
        try:
            port = cloud.network.create_port(
                network_id=network.id, security_groups=[str(uuid.uuid4())], description=DESCRIPTION, **wish
            )
        except openstack.exceptions.HttpException as error:
            if error.status_code == FORBIDDEN:
                return str(error.details or error.message)
            if error.status_code in TOLD_OTHERWISE:
                return ""
            raise
        # No Neutron is known that does this: it would have taken a group that does not exist.
        cloud.network.delete_port(port.id, ignore_missing=True)
    return ""
