"""The worker process: runs the workflows and activities of warm migrations, until it is told to stop.

One process serves both kinds of work, or one of them: control (workflows, vSphere and cloud calls; many can run at a
time) and data (streams and conversions; few, and with the storage network). SIGTERM hands running streams over: they
flush, tell how far they are, and another worker goes on exactly there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import structlog
import typer
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.worker import Worker

from activities.beating import Beating
from activities.conversion import ConversionActivities, ConversionLooks
from activities.execution import ExplainedErrors
from activities.host_budget import HostBudgetActivities
from activities.logs import JobInLogs, configure_logging
from activities.preflight import PreflightActivities
from activities.rate_limit import job_rates
from activities.reachability import ReachabilityActivities
from activities.rehearsal import RehearsalActivities
from activities.reports import ReportActivities
from activities.source import SourceActivities
from activities.streaming import StreamingActivities
from activities.target import TargetActivities
from workflows.conversion_log import ConversionLogWorkflow
from workflows.host_budget import HostBudgetWorkflow
from workflows.names import CONVERSION_QUEUE, DATA_QUEUE, LOOK_QUEUE, TASK_QUEUE, host_queue
from workflows.operations import (
    CheckCutoverWorkflow,
    CheckEvidenceWorkflow,
    CheckMigrationWorkflow,
    CheckSourceWorkflow,
    CheckTargetWorkflow,
    ListSourcesWorkflow,
    ListTargetsWorkflow,
    ListVmsWorkflow,
    PreflightWorkflow,
)
from workflows.rehearsal import RehearsalWorkflow
from workflows.warm_migration import WarmMigrationWorkflow
from xms.client import connect, register_search_attributes, runtime_with_metrics
from xms.config import Config, find_config
from xms.errors import ConfigurationError, ProgramMissing, XmsError
from xms.openstack import rbd_export
from xms.openstack.host_connection import load_os_brick
from xms.sources import load_followed_config
from xms.vsphere.sessions import Sessions

GRACE: Final = timedelta(seconds=30)
"""How long a stopping worker waits for its activities: a stream needs one flush, a conversion is given up."""

CONTROL_SLOTS: Final = 20

WORKFLOWS: Final = [
    WarmMigrationWorkflow,
    RehearsalWorkflow,
    HostBudgetWorkflow,
    ListSourcesWorkflow,
    CheckSourceWorkflow,
    ListTargetsWorkflow,
    CheckTargetWorkflow,
    ListVmsWorkflow,
    CheckCutoverWorkflow,
    CheckMigrationWorkflow,
    CheckEvidenceWorkflow,
    PreflightWorkflow,
    ConversionLogWorkflow,
]

Role = Literal["all", "control", "data"]

log = structlog.get_logger("xms.worker")


def check_programs(config: Config) -> None:
    """See that everything which streams and conversions call is installed.

    Raises:
        ProgramMissing: the text names the program and where it comes from.
    """
    needed = {
        config.transport.nbdkit: "package nbdkit",
        "qemu-img": "package qemu-utils",
        config.conversion.program: "package virt-v2v",
    }
    if any(
        target.attach == "cinder" and target.ceph_conf.exists() for target in (config.target, *config.targets.values())
    ):
        # This worker is set up for Ceph: better told now than when the first volume turns out to be there.
        needed |= rbd_export.PROGRAMS
    for program, origin in needed.items():
        if shutil.which(program) is None:
            raise ProgramMissing(
                f"this worker needs the program '{program}' for streams and conversions",
                because="it is not on PATH",
                do=f"install it ({origin}), or start the worker with --role control",
            )
    try:
        import nbd  # noqa: F401, PLC0415 - asked for here, so that a control worker can do without it
    except ImportError as error:
        raise ProgramMissing(
            "this worker needs libnbd's Python binding for streams",
            because=str(error),
            do="install python3-libnbd and run `make setup`, or start the worker with --role control",
        ) from None


def workers(
    client: Client, config: Config, role: Role, threads: ThreadPoolExecutor, sessions: Sessions
) -> list[Worker]:
    """The Temporal workers of this process for its role; they share the sessions with the sources."""
    shared: dict[str, Any] = {
        "activity_executor": threads,
        "graceful_shutdown_timeout": GRACE,
        # A heartbeat carries a stream's checkpoint: it may be at most a second old, whatever the timeout is.
        "max_heartbeat_throttle_interval": timedelta(seconds=1),
        "default_heartbeat_throttle_interval": timedelta(seconds=1),
        "interceptors": [ExplainedErrors(), JobInLogs()],
    }
    found = []
    if role in {"all", "control"}:
        providers = (
            SourceActivities(config, sessions),
            TargetActivities(config),
            RehearsalActivities(config),
            PreflightActivities(config, sessions),
            ReportActivities(config),
            HostBudgetActivities(client),
        )
        found.append(
            Worker(
                client,
                task_queue=TASK_QUEUE,
                workflows=WORKFLOWS,
                activities=[method for provider in providers for method in activities_of(provider)],
                max_concurrent_activities=CONTROL_SLOTS,
                # Input that cannot be parsed ends a workflow with an error; else its task is tried again for ever.
                workflow_failure_exception_types=[ValidationError],
                **(shared | {"interceptors": [Beating(), *shared["interceptors"]]}),
            )
        )
    if role in {"all", "data"}:
        streaming = StreamingActivities(config, sessions, job_rates(client))
        conversion = ConversionActivities(config)
        data = [*activities_of(streaming), *activities_of(conversion)]
        threads.submit(tell_accelerator, conversion)
        # Workflow workers of an earlier version ask for conversions among the streams, too.
        streams = config.worker.streams
        found.append(
            Worker(client, task_queue=DATA_QUEUE, activities=data, max_concurrent_activities=streams, **shared)
        )
        found.append(
            Worker(
                client,
                task_queue=CONVERSION_QUEUE,
                activities=[conversion.convert],
                max_concurrent_activities=config.worker.conversions,
                **shared,
            )
        )
        own = host_queue(config.worker.name)
        found.append(
            Worker(client, task_queue=own, activities=activities_of(conversion), max_concurrent_activities=2, **shared)
        )
        looks = [*activities_of(ReachabilityActivities(config)), *activities_of(ConversionLooks(config))]
        found.append(Worker(client, task_queue=LOOK_QUEUE, activities=looks, max_concurrent_activities=2, **shared))
    return found


def tell_accelerator(conversion: ConversionActivities) -> None:
    """Find out whether KVM works before the first conversion needs to know, and say so."""
    found = conversion.accelerator()
    log.info("what conversions run on is known", accelerator=found.name, because=found.because)


def activities_of(provider: object) -> list[Any]:
    """Every activity method of an object."""
    methods = [getattr(provider, name) for name in dir(provider) if not name.startswith("_")]
    return [method for method in methods if hasattr(method, "__temporal_activity_definition")]


async def serve(config: Config, role: Role) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        XmsError: Temporal cannot be reached, or the configuration or a program is missing.
    """
    if role in {"all", "data"}:
        check_programs(config)
        prepare_data_directory(config.worker.data_dir)
        rbd_export.end_leftovers(config.worker.data_dir / rbd_export.DIRECTORY)
    load_os_brick()
    client = await connect(runtime=runtime_with_metrics(config.worker.metrics))
    await register_search_attributes(client)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    slots = CONTROL_SLOTS + config.worker.streams + config.worker.conversions + 2 + 2 + 1
    # The sessions are closed last: until the threads have ended, somebody may use them.
    with (
        contextlib.closing(Sessions()) as sessions,
        ThreadPoolExecutor(max_workers=slots, thread_name_prefix="activity") as threads,
    ):
        running = workers(client, config, role, threads, sessions)
        async with AsyncExitStack() as stack:
            for worker in running:
                await stack.enter_async_context(worker)
            log.info("worker is ready", worker=config.worker.name, role=role, sources=sorted(config.registered()))
            await stop.wait()
            log.info("worker stops: running streams are handed over", seconds=GRACE.total_seconds())
            # All at once: one after the other, each could take the whole grace.
            await asyncio.gather(*(worker.shutdown() for worker in running))
    log.info("worker has stopped")


def prepare_data_directory(path: Path) -> None:
    """Make the directory for overlays and logs, for this user alone.

    Raises:
        ConfigurationError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            f"the worker cannot use worker.data_dir = {path}",
            because=error.strerror or "",
            do="make the directory, or name another one in the configuration",
        ) from None
    if not os.access(path, os.W_OK):
        raise ConfigurationError(f"the worker cannot write to worker.data_dir = {path}", do="give it to this user")


def start(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; else $XMS_CONFIG and the usual places.")
    ] = None,
    role: Annotated[
        str, typer.Option(help="all, control (workflows and API calls) or data (streams, conversions).")
    ] = "all",
) -> None:
    """Run a worker of XMS until it is told to stop. Temporal is found by TEMPORAL_ADDRESS and its like."""
    if role not in {"all", "control", "data"}:
        raise ConfigurationError(f"--role {role} is unknown", because="allowed: all, control, data")
    loaded = load_followed_config(config or find_config())
    configure_logging(loaded.worker.log_format)
    asyncio.run(serve(loaded, role))  # type: ignore[arg-type]  # checked above


def run() -> int:
    """Run a worker by the command line; errors become three lines on stderr.

    Returns:
        The exit code: 0 after a stop, 1 for an error, 2 for the configuration or the command line.
    """
    try:
        typer.run(start)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except XmsError as error:
        lines = [f"error: {error.what}"]
        lines += [f"  because {error.because}"] if error.because else []
        lines += [f"  do: {error.do}"] if error.do else []
        sys.stderr.write("\n".join(lines) + "\n")
        return 2 if isinstance(error, ConfigurationError | ProgramMissing) else 1
    return 0


def main() -> NoReturn:
    """Entry point. It leaves without the interpreter's clean-up.

    Everything is handed over and written by then, and the SDK's threads were seen to abort the process in that
    clean-up, which a service supervisor would take for a crash.
    """
    logging.getLogger().setLevel(logging.INFO)
    code = run()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
