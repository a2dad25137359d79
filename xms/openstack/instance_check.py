"""What is wanted of the instance beside flavor, zone and networks: Nova would refuse it during the downtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from xms.config import TargetConfig
from xms.errors import BadInput, ConfigurationError, TargetNotFound
from xms.models import SecureBoot
from xms.openstack import networks, user_data
from xms.openstack.faults import translated
from xms.openstack.reading import Candidate, Reading
from xms.openstack.volumes import TEXT_LIMIT
from xms.orders.preflight import TargetWanted

LOOK: Final = "instance"
UEFI: Final = frozenset({"efi", "uefi"})

Collect = Callable[[str, Callable[[], None]], object]


def look_at(
    collect: Collect, reading: Reading, config: TargetConfig, wanted: TargetWanted, candidate: Candidate
) -> None:
    """Look at each of these that is wanted.

    Args:
        collect: takes the name of a look and the look, and keeps what it is refused with.
        reading: of the target project.
        config: names the directory of user data.
        wanted: by the operator.
        candidate: the VM.
    """
    if wanted.instance_name is not None:
        collect(LOOK, partial(_name, wanted.instance_name, candidate.job_id))
    if wanted.key_pair is not None:
        collect(LOOK, partial(_key_pair, reading, wanted.key_pair))
    if wanted.user_data is not None:
        collect(LOOK, partial(_user_data, config, wanted.user_data))
    if wanted.secure_boot is SecureBoot.REQUIRED:
        collect(LOOK, partial(_secure_boot, candidate))


def _name(name: str, job_id: str) -> None:
    if not name or len(name) > TEXT_LIMIT or not name.isprintable() or name != name.strip():
        raise BadInput(
            f"an instance cannot be called {name!r}",
            because=f"Nova takes 1 to {TEXT_LIMIT} characters that can be printed, without spaces at either end",
            do="give another --instance-name",
        )
    if len(job_id) > TEXT_LIMIT:
        raise BadInput(
            "the job's id is too long to be written on volumes and instance",
            because=f"'{job_id[:40]}...' has {len(job_id)} characters, and Cinder and Nova take {TEXT_LIMIT}",
            do="name the VM by its name instead of its path, or give the source a shorter name",
        )


def _key_pair(reading: Reading, name: str) -> None:
    cloud = reading.cloud
    with translated(f"key pair '{name}' was not looked up"):
        known = reading.once(("key pairs",), lambda: sorted(str(found.name) for found in cloud.compute.keypairs()))
    if name not in known:
        raise TargetNotFound(
            f"the workers' account has no key pair '{name}'",
            because=f"a key pair belongs to a user, not to a project; those of the account of clouds.yaml are: "
            f"{networks.listed(known)}",
            do="create it with the credentials of the workers: openstack keypair create --public-key FILE NAME",
        )


def _user_data(config: TargetConfig, name: str) -> None:
    try:
        user_data.encoded(config.user_data_dir, name)
    except ConfigurationError as error:
        # Of this option alone: a migration without user data needs no directory.
        raise BadInput(error.what, because=error.because, do=error.do) from error


def _secure_boot(candidate: Candidate) -> None:
    if candidate.vm.firmware not in UEFI:
        raise BadInput(
            f"{candidate.vm.name} cannot be booted with Secure Boot",
            because=f"its firmware is {candidate.vm.firmware}, and Secure Boot needs UEFI",
            do="leave --secure-boot out",
        )
