"""The worker's configuration: one TOML file, checked at the door. Sources can have files of their own: xms.sources.

Searched in `$XMS_CONFIG`, `~/.config/xms/config.toml`, `/etc/xms/config.toml`; the first that exists counts.
Credentials are never in it: a source names a password file that nobody else may read, the cloud is an entry of the
standard clouds.yaml.
"""

from __future__ import annotations

import os
import socket
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from xms.errors import ConfigurationError

SEARCHED = (Path("~/.config/xms/config.toml"), Path("/etc/xms/config.toml"))

Transports = Annotated[
    str, StringConstraints(pattern=r"^(file|hotadd|nbd|nbdssl|san)(:(file|hotadd|nbd|nbdssl|san))*$")
]

Thumbprint = Annotated[str, StringConstraints(pattern=r"^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$")]


TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

CommandName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

Word = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""Of a command line."""

CommandLine = Annotated[tuple[Word, ...], Field(min_length=1)]

Read = TypeVar("Read", bound="Section")


class Section(BaseModel):
    """A table of the file: an unknown key is a mistake and is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(Section):
    """One vCenter or ESXi."""

    host: str
    port: int = 443
    username: str
    password_file: Path = Field(description="mode 0600; its first line is the password")
    thumbprint: Thumbprint | None = Field(default=None, description="SHA-256 of the server's certificate")
    ca_file: Path | None = Field(default=None, description="CA bundle to verify it with; neither: the system's CAs")
    datacenter: str | None = None
    timeout_seconds: float = Field(default=60.0, gt=0)
    nfc_port: int = Field(default=902, description="port at which the ESXi hosts serve their disks (NFC)")
    host_streams: int = Field(
        default=3, ge=0, description="streams that may read from one ESXi host at a time, over all jobs; 0: any number"
    )
    host_mib_in_flight: int = Field(
        default=48, ge=1, description="MiB that all of them together may have asked for and not been answered"
    )
    snapshot_reserve_gib: int = Field(
        default=10, ge=0, description="GiB that stay free on each datastore of a VM while it has a snapshot; 0: any"
    )

    @model_validator(mode="after")
    def _one_kind_of_trust(self) -> SourceConfig:
        if self.thumbprint and self.ca_file:
            raise ValueError("give thumbprint or ca_file, not both")
        return self

    def password(self) -> SecretStr:
        """The source's password.

        Raises:
            ConfigurationError: the file is missing, empty, or others may read it.
        """
        return read_secret(self.password_file)

    def password_signature(self) -> tuple[int, ...]:
        """Something that is another one as soon as the password file was written or touched; nothing of its content."""
        return signature(self.password_file)


class TargetConfig(Section):
    """The cloud that volumes and instances are made in."""

    cloud: str = Field(description="entry of clouds.yaml")
    clouds_file: Path | None = Field(default=None, description="a clouds.yaml; None searches the standard places")
    region: str | None = Field(default=None, description="region of the cloud; None: the one that its entry names")
    attach: Literal["cinder", "nova"] = Field(
        default="cinder", description="how workers get at volumes: by Cinder's attachments, or as instances by Nova"
    )
    ceph_conf: Path = Field(
        default=Path("/etc/ceph/ceph.conf"), description="attach = cinder: of the cluster that RBD volumes are in"
    )
    zeroed_volume_types: tuple[str, ...] = Field(
        default=(), description="volume types whose new volumes are known to read as zeroes, so that holes are skipped"
    )
    snapshot_volume_types: tuple[str, ...] = Field(
        default=(),
        description="volume types whose snapshots cost little, so that a roll-back need not copy all again",
    )
    api_timeout_seconds: float = Field(default=60.0, gt=0)
    retry_seconds: float = Field(
        default=30.0, ge=0, description="how long one call is asked again where the cloud does not answer or is busy"
    )
    user_data_dir: Path | None = Field(
        default=None, description="directory of the files that --user-data may name; None: there are none"
    )
    poll_seconds: float = 1.0


class TransportConfig(Section):
    """How a snapshot's disks are read."""

    nbdkit: str = "nbdkit"
    plugin: str = Field(default="vddk", description="nbdkit's name of the VDDK plugin, or the path of another")
    libdir: Path = Field(
        default=Path("/usr/lib/vmware-vix-disklib"), description="VMware's VDDK: the directory that has lib64 in it"
    )
    vddk_config: Path | None = Field(default=None, description="VDDK's own configuration file; None: its defaults")
    transports: Transports = "file:nbdssl:nbd"
    compression: Literal["", "none", "zlib", "fastlz", "skipz"] = ""
    thumbprint_hash: Literal["sha1", "sha256"] = Field(
        default="sha1", description="hash of the thumbprint that VDDK is given; nbdkit's manual knows SHA-1 only"
    )
    retry_filter: Literal["retry-request", "retry", "none"] = Field(
        default="retry-request", description="nbdkit's filter that repeats failed reads"
    )
    retries: int = Field(default=2, ge=1, le=5, description="how often that filter repeats a read")


def _as_word(value: object) -> object:
    """Formerly it was true or false, and files that say so still hold."""
    return {True: "always", False: "never"}[value] if isinstance(value, bool) else value


class ConversionConfig(Section):
    """How virt-v2v runs."""

    program: str = "virt-v2v-in-place"
    memory_mib: int = Field(default=2048, ge=256, description="memory of the conversion's appliance")
    timeout_seconds: float = 7200.0
    use_kvm: Annotated[Literal["auto", "always", "never"], BeforeValidator(_as_word)] = Field(
        default="auto", description="whether the appliance runs on /dev/kvm; auto: where a kernel boots on it"
    )
    keys_dir: Path | None = Field(
        default=None, description="directory of the files that --luks-key may name; None: there are none"
    )
    virtio_win: Path | None = Field(
        default=None, description="drivers for Windows: a directory or an ISO; None: where virt-v2v looks by itself"
    )


class EvidenceConfig(Section):
    """How a worker looks whether a booted target works."""

    commands: dict[CommandName, CommandLine] = Field(
        default={}, description="program and arguments of the commands that an order may name as evidence"
    )
    command_seconds: float = Field(default=30.0, gt=0, description="after this time a command is ended, and run again")

    @model_validator(mode="after")
    def _programs_are_named(self) -> EvidenceConfig:
        nameless = sorted(name for name, words in self.commands.items() if not words[0].strip())
        if nameless:
            raise ValueError(f"commands.{nameless[0]} names no program")
        return self


class WorkerConfig(Section):
    """The worker process."""

    name: str = Field(default_factory=socket.gethostname, description="unique among the workers, stable over restarts")
    data_dir: Path = Path("/var/lib/xms")
    reports_dir: Path | None = Field(
        default=None, description="where a control worker keeps the reports of jobs; None: reports, below data_dir"
    )
    streams: int = Field(default=2, ge=1, description="streams at a time")
    conversions: int = Field(default=1, ge=1, description="conversions at a time")
    metrics: str | None = Field(default=None, description="address:port of the Prometheus endpoint; None: off")
    instance: str | None = Field(
        default=None, description="attach = nova: id of the instance that this worker is; None finds it"
    )
    devices: Path = Field(
        default=Path("/dev/disk/by-id"), description="attach = nova: directory with links to this machine's disks"
    )
    lease_seconds: float = Field(default=20.0, ge=2.0, description="how long a silent writer keeps its volume")
    log_format: Literal["json", "console"] = "console"

    @property
    def reports(self) -> Path:
        """The directory of the reports."""
        return self.reports_dir or self.data_dir / "reports"


class Config(Section):
    """The whole file."""

    worker: WorkerConfig = WorkerConfig()
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    target: TargetConfig = Field(
        description="the default target; may be left out where exactly one other is named, which then is the default"
    )
    targets: dict[TargetName, TargetConfig] = Field(default_factory=dict, description="other targets, by name")
    transport: TransportConfig = TransportConfig()
    conversion: ConversionConfig = ConversionConfig()
    evidence: EvidenceConfig = EvidenceConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_target(cls, given: object) -> object:
        """Take the only target for the default one; of several, one has to be said to be it."""
        if not isinstance(given, dict) or "target" in given or not isinstance(given.get("targets"), dict):
            return given
        match list(given["targets"].values()):
            case [only]:
                return given | {"target": only}
            case []:
                return given
            case _:
                names = ", ".join(sorted(map(str, given["targets"])))
                raise ValueError(f"of several targets ({names}) none is the default one: call it [target]")

    _look: Callable[[], Mapping[str, Registered]] | None = PrivateAttr(default=None)

    def followed(self, look: Callable[[], Mapping[str, Registered]]) -> Config:
        """The same configuration, whose sources are those that `look` gives whenever somebody asks."""
        config = self.model_copy()
        config._look = look  # noqa: SLF001 - its own class
        return config

    def registered(self) -> Mapping[str, Registered]:
        """Every source that is registered now, by name; in place of one that cannot be used, what is wrong with it."""
        return self.sources if self._look is None else self._look()

    def target_named(self, name: str) -> TargetConfig:
        """The target of that name; the empty name is the default target's.

        Raises:
            ConfigurationError: this worker knows none of that name, and the text lists those that it knows.
        """
        if not name:
            return self.target
        found = self.targets.get(name)
        if found is None:
            known = ", ".join(sorted(self.targets)) or "none beside the default one"
            raise ConfigurationError(
                f"no target is called '{name}'",
                because=f"the worker's targets are: {known}",
                do=f"use one of them, or add [targets.{name}] to the worker's configuration",
            )
        return found

    def source(self, name: str) -> SourceConfig:
        """The source of that name, as it is registered now.

        Raises:
            ConfigurationError: this worker knows none of that name, and the text lists those that it knows; or its
                registration cannot be used.
        """
        registered = self.registered()
        found = registered.get(name)
        if isinstance(found, ConfigurationError):
            raise found.again()
        if found is None:
            known = ", ".join(sorted(registered)) or "none"
            raise ConfigurationError(
                f"no source is called '{name}'",
                because=f"the worker's sources are: {known}",
                do="use one of them, or register it on the worker's machine: xms source create",
            )
        return found


Registered = SourceConfig | ConfigurationError
"""A source, or why what is registered under its name cannot be used."""


def signature(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced, written or touched; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_secret(path: Path) -> SecretStr:
    """The first line of a file that only its owner may read.

    Raises:
        ConfigurationError: it is missing or empty, or its mode lets others read it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            # Of the file that is open: its name may be another's by now.
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().splitlines()
    except OSError as error:
        raise ConfigurationError(f"the secret file {path} cannot be read", because=error.strerror or "") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the secret file {path} is no text", because="it is not UTF-8") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"the secret file {path} can be read by others",
            because=f"its mode is {stat.S_IMODE(mode):04o}",
            do=f"chmod 600 {path}",
        )
    if not text or not text[0]:
        raise ConfigurationError(f"the secret file {path} is empty", do="write the password as its first line")
    return SecretStr(text[0])


def find_config(environment: dict[str, str] | None = None) -> Path:
    """The configuration file that counts.

    Raises:
        ConfigurationError: there is none.
    """
    named = (os.environ if environment is None else environment).get("XMS_CONFIG")
    candidates = [Path(named)] if named else [path.expanduser() for path in SEARCHED]
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigurationError(
        "the worker has no configuration",
        because="there is no " + " and no ".join(map(str, candidates)),
        do="write one (docs/configuration.md), or name it in XMS_CONFIG",
    )


def load_config(path: Path) -> Config:
    """Read and check a configuration file; the sources with files of their own are not in it, see xms.sources.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML, or has a wrong key or value; the text names it.
    """
    return read_toml(path, Config)


def read_toml(path: Path, kind: type[Read]) -> Read:
    """Read and check a TOML file.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML, or has a wrong key or value; the text names it.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read", because=error.strerror or "") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML", because=str(error)) from None
    except ValidationError as error:
        keys = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"{path} has keys or values that cannot be used", because=keys) from None
