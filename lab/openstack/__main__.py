"""A real OpenStack on this machine: python -m lab.openstack up | down | status | install | run, see README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.openstack.cloud import OpenStack
from lab.openstack.layout import BACK_ENDS, DEFAULT_DIRECTORY, Layout, OpenStackError


def main() -> None:
    """Do what the command line says; ends with 1 where it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m lab.openstack", description="A real OpenStack on this machine.")
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="where it lives (%(default)s)")
    parser.add_argument("--back-ends", default=",".join(BACK_ENDS), help="of Cinder: rbd, nfs or both (%(default)s)")
    parser.add_argument("--no-agent", action="store_true", help="without Neutron's agent: 300 MiB less, no firewall")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("install", help="only install the packages that are missing")
    verbs.add_parser("up", help="bring it up; what runs is left alone, what does not is started")
    verbs.add_parser("status", help="which of its processes run; ends with 1 where it is not up")
    down = verbs.add_parser("down", help="end all of it")
    down.add_argument("--wipe", action="store_true", help="remove its state, and what it changed on this machine")
    run = verbs.add_parser("run", help="have it up while a command runs: run -- COMMAND ...")
    run.add_argument("command", nargs="+", help="finds its clouds.yaml in XMS_OPENSTACK_CLOUDS")
    arguments = parser.parse_args()
    back_ends = tuple(arguments.back_ends.split(","))
    if not set(back_ends) <= set(BACK_ENDS):
        parser.error(f"--back-ends {arguments.back_ends}: allowed are {', '.join(BACK_ENDS)}")
    cloud = OpenStack(
        Layout(arguments.directory.absolute()),
        Path(os.environ.get("XMS_OPENSTACK_CACHE", ".cache/openstack")).absolute(),
        back_ends,
        agent=not arguments.no_agent,
        say=lambda text: print(text, flush=True),
    )
    if os.geteuid() and arguments.verb != "status":
        sys.exit("error: only root can do that: it mounts, makes bridges, and starts services under their own accounts")
    try:
        obey(cloud, arguments)
    except OpenStackError as error:
        sys.exit(f"error: {error}")


def obey(cloud: OpenStack, arguments: argparse.Namespace) -> None:
    """Do one verb."""
    match arguments.verb:
        case "install":
            cloud.install()
        case "up":
            cloud.up()
            print(f"To use it: export OS_CLIENT_CONFIG_FILE={cloud.layout.clouds}, clouds lab and lab-admin")
        case "status":
            for name, runs in cloud.status().items():
                print(f"{name:<26} {'runs' if runs else '-'}")
            sys.exit(0 if cloud.is_up() else 1)
        case "down":
            cloud.down(wipe=arguments.wipe)
        case "run":
            sys.exit(run_with(cloud, arguments.command))


def run_with(cloud: OpenStack, command: Sequence[str]) -> int:
    """Have it up while a command runs; it stays up only where it was before. Gives the command's exit code."""
    was_up = cloud.is_up()
    try:
        cloud.up()
        environment = os.environ | {"XMS_OPENSTACK_CLOUDS": str(cloud.layout.clouds)}
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        if not was_up:
            cloud.down()


if __name__ == "__main__":
    main()
