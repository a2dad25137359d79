"""The main job, on real input: a running, writing Linux VM with two disks moves, and proof that no byte was lost.

Usage: python -m lab.demo    (or `make demo`)

Everything that the product does is ordered through its CLI, as an operator would. What is proved is proved by the
lab, from the files behind source and target and from what the guest itself says on its consoles.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lab.guest.evidence import console_numbers, data_numbers, gaps, root_numbers
from lab.lab import Lab, LabError
from lab.layout import SOURCE, default_cache
from lab.openstack.layout import DEFAULT_DIRECTORY
from lab.proof import Comparison
from lab.target_side import RealOpenStack

GUEST_BOOT_SECONDS: Final = 300.0
GUEST_WRITES_SECONDS: Final = 8.0
RECORDS_AFTER_BOOT: Final = 20


@dataclass(frozen=True)
class Subject:
    """A VM of the lab that is moved.

    Attributes:
        disks: device key to the disk's name in the lab.
        networks: of its NICs, each once.
    """

    vm: str
    disks: Mapping[int, str]
    networks: tuple[str, ...]

    @property
    def job(self) -> str:
        """The id of its migration."""
        return f"warm-{SOURCE}-{self.vm}"


TWO_DISKS: Final = Subject("db-prod-01", {2000: "root", 2001: "data"}, ("VM Network", "Backup"))
ONE_DISK: Final = Subject("web-03", {2000: "root"}, ("VM Network",))
NUMBERS_ON: Final = {"root": root_numbers, "data": data_numbers}


class DemoFailed(Exception):
    """A step did not do what it should; the lab is kept for a look."""


@dataclass
class Evidence:
    """What the lab saw with its own eyes."""

    comparisons: dict[str, Comparison] = field(default_factory=dict)
    compared_while_converting: bool = False
    last_on_source: int = 0
    on_disks: dict[str, list[int]] = field(default_factory=dict)
    first_on_target: int = 0
    last_on_target: int = 0


class Demo:
    """One run of the main job."""

    def __init__(self, lab: Lab, subject: Subject) -> None:
        self.lab = lab
        self.subject = subject
        self.target = lab.target
        self.began = time.monotonic()
        self.evidence = Evidence()

    # --- the script ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From nothing to a target that runs.

        Raises:
            DemoFailed: a step failed, or something is not proved.
        """
        vm, job = self.subject.vm, self.subject.job
        self.say("1. The lab comes up: a vCenter, an ESXi host, a cloud, Temporal and a worker")
        self.lab.up([vm], self.tell)
        self.wait_for_guest()
        self.say("2. What there is to migrate")
        self.xms("source", "check", SOURCE)
        self.xms("vm", "list", "--source", SOURCE)
        self.xms("preflight", "--source", SOURCE, "--all")
        self.say(f"3. {vm} is submitted, and its disks are copied while it works")
        self.xms(*self.submit())
        self.xms("migration", "watch", job, "--until", "ready")
        self.say("4. The guest goes on writing; only what changed is synced")
        self.let_the_guest_write()
        self.xms("migration", "sync", "--job", job)
        self.wait_for_syncs(1)
        self.xms("migration", "show", job)
        self.say("5. A pause, a resume, another cadence")
        for words in (("pause", job), ("resume", job), ("cadence", job, "15m")):
            self.xms("migration", *words)
        self.say("6. The cutover: last delta, power-off, conversion by virt-v2v, boot of the target")
        witness = threading.Thread(target=self.compare_before_conversion, name="witness")
        witness.start()
        order = ["--rollback-period", "none", "--console-evidence", r"SEQ \d+"]
        self.xms("migration", "cutover", job, "--yes", "--wait", *order)
        witness.join()
        self.xms("migration", "show", job)
        self.say("7. Proof")
        self.prove()

    def submit(self) -> Sequence[str]:
        """The specification's example, for the lab."""
        target = self.target.submitted(self.subject.networks)
        what = ("--source", SOURCE, "--vm", self.subject.vm, "--kind", "warm")
        return ("migration", "submit", *what, *target, "--sync-cadence", "1h")

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait_for_guest(self) -> None:
        """Until the guest writes."""
        self.tell("waiting for the guest to boot and to write")
        deadline = time.monotonic() + GUEST_BOOT_SECONDS
        console = self.lab.layout.console(self.subject.vm)
        while len(console_numbers(console)) < RECORDS_AFTER_BOOT:
            if time.monotonic() > deadline:
                raise DemoFailed(f"the guest did not come up within {GUEST_BOOT_SECONDS:.0f} s: see {console}")
            time.sleep(0.2)
        self.tell(f"the guest has written and fsynced {console_numbers(console)[-1]} records")

    def let_the_guest_write(self) -> None:
        """Some seconds of ordinary work."""
        before = console_numbers(self.lab.layout.console(self.subject.vm))[-1]
        time.sleep(GUEST_WRITES_SECONDS)
        after = console_numbers(self.lab.layout.console(self.subject.vm))[-1]
        self.tell(f"{after - before} more records in {GUEST_WRITES_SECONDS:.0f} s")

    def wait_for_syncs(self, count: int) -> None:
        """Until so many incremental syncs are committed."""
        deadline = time.monotonic() + 120
        while (status := self.status())["sync_count"] < count or status["phase"] != "Ready":
            if time.monotonic() > deadline:
                raise DemoFailed(f"no sync was committed: {status['phase']}, {status['trouble']}")
            time.sleep(0.3)

    # --- witnesses ----------------------------------------------------------------------------------------------------

    def compare_before_conversion(self) -> None:
        """While virt-v2v works on its overlays, compare every source disk with its volume, byte for byte.

        The comparison counts only if the conversion was not committed when it ended.
        """
        while (status := self.status())["doing"] != "Guest Fixes":
            if status["phase"] not in {"Ready", "Syncing", "Cutting Over"}:
                return
            time.sleep(0.5)
        for disk in status["disks"]:
            file = self.lab.layout.source_disk(self.subject.vm, self.subject.disks[disk["key"]])
            self.evidence.comparisons[disk["label"]] = self.target.compare(file, disk["volume_id"])
        self.evidence.compared_while_converting = self.status()["doing"] == "Guest Fixes"

    def prove(self) -> None:
        """Hold the evidence together.

        Raises:
            DemoFailed: something is missing.
        """
        status = self.status()
        evidence, layout = self.evidence, self.lab.layout
        evidence.last_on_source = console_numbers(layout.console(self.subject.vm))[-1]
        evidence.on_disks = {
            disk: NUMBERS_ON[disk](layout.source_disk(self.subject.vm, disk)) for disk in self.subject.disks.values()
        }
        console = self.target.console(status["cutover"]["server_id"])
        deadline = time.monotonic() + GUEST_BOOT_SECONDS
        while len(numbers := console_numbers(console)) < RECORDS_AFTER_BOOT and time.monotonic() < deadline:
            time.sleep(0.5)
        evidence.first_on_target, evidence.last_on_target = (numbers[0], numbers[-1]) if numbers else (0, 0)
        resumed = next((line for line in console.read_text(errors="replace").splitlines() if "SEQSTART" in line), "")
        last = max(numbers[-1] for numbers in evidence.on_disks.values())
        found = " ".join(f"last-{disk}={last}" for disk in self.subject.disks.values())
        checks = {
            "every disk equals its volume, byte for byte, before the conversion": bool(evidence.comparisons)
            and all(comparison.equal for comparison in evidence.comparisons.values())
            and evidence.compared_while_converting,
            "the source's disks hold every record up to the last one on its console": all(
                numbers[: evidence.last_on_source] == list(range(1, len(numbers[: evidence.last_on_source]) + 1))
                and numbers[-1] >= evidence.last_on_source
                for numbers in evidence.on_disks.values()
            ),
            "the target found that last record on every disk": found in resumed,
            "the target goes on with the next number": evidence.first_on_target == last + 1,
            "and without a gap": bool(numbers) and not gaps(numbers),
            "the source is off and marked, no snapshot is left": self.source_is_at_rest(),
        }
        self.summary(status, checks)
        failed = [name for name, proved in checks.items() if not proved]
        if failed:
            raise DemoFailed("not proved: " + "; ".join(failed))

    def source_is_at_rest(self) -> bool:
        """By the stand-in vCenter's own answer."""
        found = self.ask("vm", "list", "--source", SOURCE)
        vm = next(vm for vm in found["vms"] if vm["name"] == self.subject.vm)
        return vm["power_state"] == "poweredOff" and not vm["snapshots"]

    def summary(self, status: dict[str, Any], checks: dict[str, bool]) -> None:
        """What happened, for somebody who sees it for the first time."""
        cutover = status["cutover"]
        evidence = self.evidence
        compared = sum(comparison.bytes for comparison in evidence.comparisons.values())
        downtime = seconds(cutover["downtime_started_at"], cutover["downtime_ended_at"])
        print(f"\n{self.subject.vm} ran on the ESXi host, and runs in OpenStack now. It was down for {downtime:.0f} s:")
        for step in cutover["steps"]:
            down = cutover["downtime_started_at"] <= step["started_at"] < cutover["downtime_ended_at"]
            took = seconds(step["started_at"], step["ended_at"])
            print(f"  {step['name']:<18} {took:7.1f} s   {'down' if down else ''}".rstrip())
        print(f"\nCopied: {mib(status['bytes_full'])} once, {mib(status['bytes_incremental'])} in increments.")
        print(f"Compared outside the product: {mib(compared)} of source and replica.")
        print(
            f"The guest had fsynced {evidence.last_on_source} records when it was shut down; on the target it went on"
        )
        print(f"with number {evidence.first_on_target}, and has reached {evidence.last_on_target}.\n")
        for name, proved in checks.items():
            print(f"  {'yes' if proved else 'NO '}  {name}")
        print(f"\nThe whole demo took {time.monotonic() - self.began:.0f} s.")

    # --- the product, as an operator uses it --------------------------------------------------------------------------

    def xms(self, *words: str) -> None:
        """Run a command of the CLI, shown as it was typed.

        Raises:
            DemoFailed: it ended with an error.
        """
        shown = " ".join(f"'{word}'" if set(word) & set(" \\") else word for word in words)
        print(f"\n$ xms {shown}", flush=True)
        code = subprocess.run([self.program, *words], env=self.environment, check=False).returncode
        if code:
            raise DemoFailed(f"`xms {shown}` ended with exit code {code}")

    def ask(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        """What a command answers as JSON."""
        command = [self.program, *words, "--output", "json"]
        return json.loads(subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout)

    def status(self) -> dict[str, Any]:
        """The job, as `show` gives it."""
        found: dict[str, Any] = self.ask("migration", "show", self.subject.job)
        return found

    @property
    def program(self) -> str:
        """The installed command."""
        return str(Path(sys.executable).parent / "xms")

    @property
    def environment(self) -> dict[str, str]:
        """Ours, and what reaches the lab."""
        return os.environ | self.lab.environment()

    def say(self, text: str) -> None:
        """A heading."""
        print(f"\n=== {text}  [{time.monotonic() - self.began:.0f} s]", flush=True)

    def tell(self, text: str) -> None:
        """A line of what goes on."""
        print(f"    {text}", flush=True)


def seconds(start: str, end: str) -> float:
    """Between two times of the JSON output."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def mib(number: float) -> str:
    """Bytes for a reader."""
    return f"{number / (1 << 20):.1f} MiB"


def main() -> None:
    """Run the demo, clean up after it, and end with 0 only if everything was proved."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.demo", description="Move a running VM in the lab, and prove it."
    )
    parser.add_argument("--directory", type=Path, help="where the lab lives meanwhile; default: a temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave the lab running, to look around in it")
    parser.add_argument(
        "--openstack",
        type=Path,
        nargs="?",
        const=DEFAULT_DIRECTORY,
        help="move to the real OpenStack of lab/openstack, which lives there (default: %(const)s)",
    )
    parser.add_argument(
        "--volume-types", default="rbd,nfs", help="of the real one: two disks go to rbd, then another VM's to nfs"
    )
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="xms-demo-"))
    if arguments.openstack is None:
        run(Lab(directory, default_cache()), TWO_DISKS, keep=arguments.keep)
        return
    for volume_type in arguments.volume_types.split(","):
        target = RealOpenStack(arguments.openstack, volume_type)
        lab = Lab(directory / volume_type, default_cache(), target)
        print(f"\n##### The target is a real OpenStack, its volumes are of type {volume_type}")
        run(lab, TWO_DISKS if volume_type == "rbd" else ONE_DISK, keep=arguments.keep)


def run(lab: Lab, subject: Subject, *, keep: bool) -> None:
    """Run the demo with a lab, and clean up after it; ends the program where it failed."""
    directory = lab.layout.directory
    demo = Demo(lab, subject)
    try:
        demo.run()
    except (DemoFailed, LabError) as failure:
        print(f"\nThe demo failed: {failure}\nIts logs and disks are in {directory}", file=sys.stderr)
        lab.down(wipe=False)
        sys.exit(1)
    except BaseException:
        lab.down(wipe=False)
        raise
    if keep:
        exports = "\n".join(f"  export {name}={value}" for name, value in lab.environment().items())
        print(f"\nThe lab goes on running in {directory}. To use it:\n{exports}\nTo end it: xms lab down")
    else:
        lab.target.forget(demo.status())
        lab.down()
        print("The lab is gone: no process and no file of it is left.")


if __name__ == "__main__":
    main()
