"""Which calls the product makes of OpenStack, and which the contract's cases make, as the source code has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PRODUCT: Final = ROOT / "xms"
CASES: Final = Path(__file__).parent

SERVICES: Final = {
    "volumes": "block_storage",
    "block_storage": "block_storage",
    "compute": "compute",
    "network": "network",
    "image": "image",
    "identity": "identity",
}
"""An attribute of `xms.openstack.cloud.Cloud` or of the SDK's connection, and the service that it is."""

OWNERS: Final = frozenset({"cloud", "_cloud", "connection", "_connection", "self"})
"""What such an attribute is taken of: so that `order.network` is no service."""


def calls_in(source: Path) -> Iterator[str]:
    """The calls that a module makes: 'compute.get_server'."""
    for node in ast.walk(ast.parse(source.read_text())):
        # Not only where it is called at once: `partial(cloud.compute.get_server, ...)` is a call, too.
        if (call := service_call(node)) is not None:
            yield call


def service_call(node: ast.AST) -> str | None:
    """The service's call that an expression names; None where it names none."""
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)):
        return None
    service = SERVICES.get(node.value.attr)
    return f"{service}.{node.attr}" if service is not None and _name(node.value.value) in OWNERS else None


def _name(owner: ast.expr) -> str:
    match owner:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case _:
            return ""


def calls_of_the_product() -> dict[str, set[str]]:
    """Each call with the modules that make it."""
    found: dict[str, set[str]] = {}
    for source in sorted(PRODUCT.rglob("*.py")):
        for call in calls_in(source):
            found.setdefault(call, set()).add(str(source.relative_to(ROOT)))
    return found


def calls_of_the_cases() -> set[str]:
    """What is played on both clouds; what an administrator does to set a place up does not count."""
    return {call for source in CASES.glob("*.py") if source.name != "places.py" for call in calls_in(source)}
