"""MariaDB, RabbitMQ, and the services' schemas: made once, or restored from what an earlier run made."""

from __future__ import annotations

import gzip
import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from lab.openstack import packages, processes
from lab.openstack.layout import PORTS, Layout, OpenStackError, environment

SCHEMAS_OF: Final = (
    "keystone-common",
    "cinder-common",
    "neutron-common",
    "nova-common",
    "placement-common",
    "glance-common",
)
"""Packages that a schema belongs to; another version of one may have another schema."""

COMMITTED: Final = Path(__file__).parent / "schemas"
"""Dumps for the versions that a fresh machine gets today; with others they are no use, and do no harm."""

DATABASES: Final = (
    ("keystone", "cinder", "neutron"),
    ("nova_api", "nova", "nova_cell0", "placement", "glance"),
)
"""By the lane that makes them: to make a schema costs processor time, and there are two cores."""


def start(layout: Layout) -> None:
    """MariaDB, with the databases and their user. Its administrator is this machine's root, by the socket alone."""
    data = layout.directory / "mysql"
    _give_to(layout.run / "mysql", "mysql")
    if not data.is_dir():
        draft = data.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        _give_to(draft, "mysql")
        install = ["mariadb-install-db", f"--defaults-file={layout.etc}/my.cnf", f"--datadir={draft}", "--user=mysql"]
        quiet = ["--auth-root-authentication-method=socket", "--skip-test-db"]
        processes.run(layout, "mariadb-install", [*install, *quiet])
        draft.rename(data)
    processes.start(layout, "mariadb", ["mariadbd", f"--defaults-file={layout.etc}/my.cnf"])
    processes.wait_for(layout, "mariadb", lambda: _is_up(layout), 60)
    _sql(layout, (layout.etc / "databases.sql").read_text())


def start_queue(layout: Layout) -> None:
    """RabbitMQ, all of whose files are in the directory; its threads do not spin while they wait."""
    home = layout.directory / "rabbit"
    home.mkdir(exist_ok=True)
    vm = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
    variables = {
        "HOME": str(home),
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
        "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_CONFIG_FILE": f"{layout.etc}/rabbitmq",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": vm,
    }
    processes.start(layout, "rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], variables)
    processes.wait_for(layout, "rabbitmq", lambda: processes.listens(PORTS["rabbitmq"]), 90)


def make_schemas(layout: Layout, cache: Path, keystone: Callable[[], None]) -> None:
    """Every service's tables.

    Args:
        layout: of the cloud.
        cache: a directory in which dumps of empty schemas are kept, by the versions of the packages.
        keystone: starts Keystone, as soon as it has its tables.
    """
    if layout.done("schemas").exists():
        keystone()
        return
    dump = cache / f"schemas-{versions_key()}.sql.gz"
    kept = next((path for path in (dump, COMMITTED / dump.name) if path.exists()), None)
    if kept is not None:
        _sql(layout, gzip.decompress(kept.read_bytes()).decode())
        # Before anything is written into them: a second restoration would drop it.
        layout.done("schemas").touch()
        keystone()
    else:
        with ThreadPoolExecutor(2) as lanes:
            first = lanes.submit(_first_lane, layout, keystone)
            second = lanes.submit(_second_lane, layout)
            dumps = [first.result(), second.result()]
        if all(dumps):
            cache.mkdir(parents=True, exist_ok=True)
            draft = dump.with_suffix(".draft")
            draft.write_bytes(gzip.compress("".join(dumps).encode(), mtime=0))
            draft.replace(dump)
    layout.done("schemas").touch()


def _first_lane(layout: Layout, keystone: Callable[[], None]) -> str:
    """Gives the dump; an empty text where a run that was cut short has written accounts into the tables already."""
    etc = layout.etc
    processes.run(layout, "schemas-1", ["keystone-manage", "--config-dir", f"{etc}/keystone", "db_sync"])
    processes.run(layout, "schemas-1", ["cinder-manage", "--config-file", f"{etc}/cinder.conf", "db", "sync"])
    neutron = ["neutron-db-manage", "--config-file", f"{etc}/neutron.conf", "upgrade", "heads"]
    processes.run(layout, "schemas-1", neutron)
    dump = "" if layout.done("bootstrapping").exists() else _dump(layout, DATABASES[0])
    layout.done("bootstrapping").touch()
    keystone()
    return dump


def _second_lane(layout: Layout) -> str:
    etc = layout.etc
    nova = ["nova-manage", "--config-file", f"{etc}/nova.conf"]
    processes.run(layout, "schemas-2", [*nova, "api_db", "sync"])
    _write_cells(layout)
    processes.run(layout, "schemas-2", [*nova, "db", "sync"])
    placement = ["placement-manage", "--config-file", f"{etc}/placement/placement.conf", "db", "sync"]
    processes.run(layout, "schemas-2", placement)
    processes.run(layout, "schemas-2", ["glance-manage", "--config-file", f"{etc}/glance-api.conf", "db_sync"])
    return _dump(layout, DATABASES[1])


def _write_cells(layout: Layout) -> None:
    """Nova's two cells, by addresses that are filled in from its configuration, so that no password stands in them."""
    nova = ["nova-manage", "--config-file", f"{layout.etc}/nova.conf", "cell_v2"]
    _sql(layout, "delete from nova_api.host_mappings; delete from nova_api.cell_mappings;")
    cell0 = "{scheme}://{username}:{password}@{hostname}:{port}/nova_cell0?{query}"
    processes.run(layout, "schemas-2", [*nova, "map_cell0", "--database_connection", cell0])
    cell1 = ("--database_connection", "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}")
    queue = ("--transport-url", "{scheme}://{username}:{password}@{hostname}:{port}/{path}")
    processes.run(layout, "schemas-2", [*nova, "create_cell", "--name", "cell1", *cell1, *queue])


def versions_key() -> str:
    """Names the schemas of the packages that are installed."""
    found = sorted(packages.versions(SCHEMAS_OF).items())
    return hashlib.sha256(repr(found).encode()).hexdigest()[:12]


def _client(layout: Layout, program: str) -> list[str]:
    return [program, f"--socket={layout.database_socket}", "-uroot"]


def _is_up(layout: Layout) -> bool:
    command = [*_client(layout, "mariadb"), "-e", "select 1"]
    return subprocess.run(command, check=False, capture_output=True, env=environment()).returncode == 0


def _sql(layout: Layout, statements: str) -> None:
    command = _client(layout, "mariadb")
    done = subprocess.run(command, input=statements, text=True, check=False, capture_output=True, env=environment())
    if done.returncode:
        raise OpenStackError(f"MariaDB refused what it was told: {done.stderr.strip()}")


def _dump(layout: Layout, databases: tuple[str, ...]) -> str:
    command = [*_client(layout, "mariadb-dump"), "--databases", *databases]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout


def _give_to(path: Path, user: str) -> None:
    entry = pwd.getpwnam(user)
    os.chown(path, entry.pw_uid, entry.pw_gid)
