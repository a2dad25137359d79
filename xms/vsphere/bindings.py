"""pyVmomi's namespaces, untyped.

pyVmomi makes its classes at run time, and the stubs that are published for it name a small part of them, some of it
wrongly. So they are `Any` here, in one place, and typed again where our models are made of them.
"""

from __future__ import annotations

from typing import Any

from pyVmomi import SoapAdapter, VmomiSupport
from pyVmomi import vim as _vim
from pyVmomi import vmodl as _vmodl

vim: Any = _vim
vmodl: Any = _vmodl
soap: Any = SoapAdapter
support: Any = VmomiSupport
