"""How one logs in to a target: its entry of clouds.yaml, in the wanted project and region."""

from __future__ import annotations

import re
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import openstack.config
from keystoneauth1.access.access import AccessInfo
from keystoneauth1.identity.base import BaseIdentityPlugin
from keystoneauth1.session import Session

from xms.config import TargetConfig
from xms.errors import ConfigurationError

if TYPE_CHECKING:
    from openstack.config.cloud_region import CloudRegion

PROJECT_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Keystone's ids. A project whose name looks like one is given by its id."""
SECRET_KEY: Final = re.compile(r"(^|_)(password|secret|passcode|token)$")
SCOPES: Final = (
    *("project_id", "project_name", "tenant_id", "tenant_name"),
    *("system_scope", "domain_id", "domain_name", "trust_id"),
)
SHARED_SECONDS: Final = 300.0
"""How long a log-in is shared: for so long at most, a role that was given meanwhile is not seen."""


def entry_of(config: TargetConfig, project: str | None, what: str) -> CloudRegion:
    """The target's entry of clouds.yaml, or of the OS_* environment where it is called 'envvars'.

    Args:
        config: the target.
        project: name or id of the project to work in; None is the entry's own. An application credential's own
            project cannot be changed, so it is not asked for here: see `check_project`.
        what: an error's first line.

    Raises:
        ConfigurationError: there is no such file or entry, the file can be read by others though it holds a secret, or
            the entry turns the check of certificates off, or names a CA bundle that is not there.
    """
    clouds = _clouds(config, what)
    known = clouds.cloud_config["clouds"]
    if config.cloud not in known:
        names = ", ".join(sorted(name for name in known if name != "defaults")) or "none"
        raise ConfigurationError(
            what,
            because=f"there is no cloud '{config.cloud}'; {clouds.config_filename or 'clouds.yaml'} has: {names}",
            do="correct the target's cloud, or add the entry; 'envvars' stands for the OS_* environment",
        )
    if project is not None:
        _scope_to(known[config.cloud], project)
    region: dict[str, Any] = {}
    if config.region:
        region["region_name"] = config.region
        if "regions" not in known[config.cloud]:
            # The SDK takes an entry's one region for the only one that the cloud has.
            known[config.cloud]["region_name"] = config.region
    # Given here, since an entry's own would win over a default.
    entry = clouds.get_one(cloud=config.cloud, api_timeout=config.api_timeout_seconds, **region)
    _see_certificates_are_checked(entry, what)
    return entry


def _clouds(config: TargetConfig, what: str) -> openstack.config.OpenStackConfig:
    explicit: dict[str, Any] = {}
    if config.clouds_file is not None:
        if not config.clouds_file.is_file():
            raise ConfigurationError(
                what, because=f"there is no file {config.clouds_file}", do="correct the target's clouds_file"
            )
        explicit = {
            "config_files": [str(config.clouds_file)],
            "secure_files": [str(config.clouds_file.with_name("secure.yaml"))],
            # OS_CLIENT_CONFIG_FILE would go before a file that the configuration names.
            "load_envvars": False,
        }
    # The SDK itself would repeat calls to Glance, without looking at what they do.
    clouds = openstack.config.OpenStackConfig(override_defaults={"image_status_code_retries": 0}, **explicit)
    for name in (clouds.config_filename, clouds.secure_config_filename):
        if name:
            _see_it_is_private(Path(name), what)
    return clouds


def _see_it_is_private(path: Path, what: str) -> None:
    mode = path.stat().st_mode
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    alone = openstack.config.OpenStackConfig(
        config_files=[str(path)], secure_files=[], vendor_files=[], load_envvars=False
    )
    if _holds_secret(alone.cloud_config):
        raise ConfigurationError(
            what,
            because=f"{path} holds a secret, and its mode {stat.S_IMODE(mode):04o} lets others read it",
            do=f"chmod 600 {path}, or keep the secrets in a secure.yaml of that mode beside it",
        )


def _holds_secret(content: object) -> bool:
    if isinstance(content, dict):
        return any(
            _holds_secret(value)
            if isinstance(value, dict | list)
            else bool(value) and bool(SECRET_KEY.search(str(key)))
            for key, value in content.items()
        )
    return isinstance(content, list) and any(map(_holds_secret, content))


def _scope_to(entry: dict[str, Any], project: str) -> None:
    """Put the project into the entry itself: an id that stands there would win over a name given to `get_one`."""
    auth = entry.setdefault("auth", {})
    if _is_application_credential(entry):
        return
    for place in (entry, auth):
        for key in SCOPES:
            place.pop(key, None)
    if PROJECT_ID.fullmatch(project):
        auth["project_id"] = project
        return
    auth["project_name"] = project
    for form in ("id", "name"):
        if not any(f"project_domain_{each}" in place for each in ("id", "name") for place in (entry, auth)):
            own = auth.get(f"user_domain_{form}", entry.get(f"user_domain_{form}"))
            auth.update({f"project_domain_{form}": own} if own else {})


def _is_application_credential(entry: dict[str, Any]) -> bool:
    keys = {*entry, *entry["auth"]}
    return "applicationcredential" in str(entry.get("auth_type", "")) or bool(
        keys & {"application_credential_id", "application_credential_name"}
    )


def _see_certificates_are_checked(entry: CloudRegion, what: str) -> None:
    verify, _ = entry.get_requests_verify_args()
    if verify is False:
        raise ConfigurationError(
            what,
            because="its entry turns the check of the cloud's certificate off (verify: false, or insecure)",
            do="take that out, and name the CA bundle that vouches for the cloud (cacert:)",
        )
    if isinstance(verify, str) and not Path(verify).exists():
        raise ConfigurationError(
            what, because=f"its CA bundle {verify} is not there", do="correct cacert in the cloud's entry"
        )


def check_project(access: AccessInfo, project: str | None, what: str) -> str:
    """The id of the project that a log-in came to.

    Raises:
        ConfigurationError: it came to none, or to another than the wanted one.
    """
    project_id = access.project_id
    if project_id is None:
        raise ConfigurationError(
            what, because="its credentials are scoped to no project", do="add project_name to the cloud's entry"
        )
    if (
        project is not None
        and project.replace("-", "") != project_id.replace("-", "")
        and project != access.project_name
    ):
        raise ConfigurationError(
            what,
            because=f"its credentials are bound to project '{access.project_name}' ({project_id}), as application "
            f"credentials are, and '{project}' is another one",
            do="migrate to that project, or name a target whose credentials are for the other one",
        )
    return str(project_id)


def check_region(access: AccessInfo, region: str | None, what: str) -> None:
    """See that the catalogue has the region, or but one where none is named.

    Raises:
        ConfigurationError: it has not; the text lists those that it has.
    """
    known = regions(access)
    if not known or region in known or (not region and len(known) == 1):
        return
    raise ConfigurationError(
        what,
        because=f"it has no region '{region}', but {', '.join(known)}"
        if region
        else f"it has several regions ({', '.join(known)}), and none is named",
        do="name one of them: region in the target's configuration, or region_name in the cloud's entry",
    )


def regions(access: AccessInfo) -> list[str]:
    """The regions in which the catalogue has a compute service, sorted."""
    if not access.has_service_catalog():
        return []
    found = access.service_catalog.get_endpoints_data(service_type="compute")
    return sorted({each.region_name for group in found.values() for each in group if each.region_name})


def access(session: Session) -> AccessInfo:
    """What Keystone tells with the token: project, roles, catalogue.

    Raises:
        ConfigurationError: the entry's way of logging in knows no Keystone (auth_type none, http_basic and their like).
    """
    if not isinstance(session.auth, BaseIdentityPlugin):
        raise ConfigurationError(
            "no log-in to the cloud",
            because="its entry logs in without Keystone",
            do="use a password or an application credential",
        )
    return session.auth.get_access(session)


@dataclass(frozen=True)
class _LogIn:
    state: str
    """keystoneauth's: the token with its project, roles and catalogue. It stays in memory."""
    credentials: str
    since: float


_LOCK: Final = threading.Lock()
_LOG_INS: Final[dict[tuple[TargetConfig, str | None], _LogIn]] = {}


def resume_log_in(session: Session, config: TargetConfig, project: str | None) -> None:
    """Let a new session go on with the token of an earlier one for the same target and project.

    The token is copied, and nothing else is shared: a session that has to log in afresh, and waits for Keystone, keeps
    no other waiting. No token is passed on for longer than `SHARED_SECONDS`, nor to other credentials.
    """
    plugin = session.auth
    with _LOCK:
        known = _LOG_INS.get((config, project))
    if known is None or not isinstance(plugin, BaseIdentityPlugin) or time.monotonic() - known.since > SHARED_SECONDS:
        return
    if plugin.get_cache_id() == known.credentials:
        plugin.set_auth_state(known.state)


def keep_log_in(session: Session, config: TargetConfig, project: str | None) -> None:
    """Keep the session's token for those that come after it."""
    plugin = session.auth
    if not isinstance(plugin, BaseIdentityPlugin):
        return
    # A digest of all that it logs in with: another password, another digest.
    state, credentials = plugin.get_auth_state(), plugin.get_cache_id()
    if state is None or credentials is None:
        return
    with _LOCK:
        known = _LOG_INS.get((config, project))
        if known is None or known.state != state:
            _LOG_INS[(config, project)] = _LogIn(state, credentials, time.monotonic())


def forget_log_in(config: TargetConfig, project: str | None) -> None:
    """Log in afresh the next time: the cloud refused something, and the right to it may be given at any moment."""
    with _LOCK:
        _LOG_INS.pop((config, project), None)


def forget_every_log_in() -> None:
    """Log in afresh everywhere: for tests."""
    with _LOCK:
        _LOG_INS.clear()
