"""Tornado from Python: the control socket, the device's side of the client API, and a gateway for tests.

The import name is `tornadovpn` because `tornado` is a web framework. All calls block; other threads run meanwhile.
"""

import inspect as _inspect
import json as _json
from typing import Any as _Any
from typing import Callable as _Callable

from . import _tornado
from ._tornado import (
    AlreadyExists,
    Cancelled,
    Component,
    ControlClient,
    DataLoss,
    DeadlineExceeded,
    DeviceClient,
    DeviceLane,
    DeviceLogin,
    DeviceTunnel,
    Error,
    Event,
    EventStream,
    FailedPrecondition,
    Gateway,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Session,
    Unauthenticated,
    Unavailable,
    User,
    __version__,
)

__all__ = [
    "AlreadyExists", "Cancelled", "Component", "ControlClient", "DataLoss", "DeadlineExceeded", "DeviceClient",
    "DeviceLane", "DeviceLogin", "DeviceTunnel", "Error", "Event", "EventStream", "FailedPrecondition", "Gateway",
    "Internal", "InvalidArgument", "NotFound", "PermissionDenied", "ResourceExhausted", "Session", "Unauthenticated",
    "Unavailable", "User", "__version__",
]

_KINDS = {"text": str, "integer": int, "flag": bool, "secret": str}


def _call(self: _Any, method: str, /, **params: _Any) -> _Any:
    """Calls an operation by name; parameters as in the operations table, `_` for `-`."""
    given = {name.replace("_", "-"): value for name, value in params.items() if value is not None}
    return _json.loads(self._call_json(method, _json.dumps(given)))


def _method(operation: _Any) -> _Callable[..., _Any]:
    """One operation as a method with keyword parameters; also what `help` shows."""
    name = operation["name"]
    known = [_inspect.Parameter("self", _inspect.Parameter.POSITIONAL_ONLY)]
    ordered = sorted(operation["parameters"], key=lambda parameter: not parameter["required"])
    for parameter in ordered:
        default = _inspect.Parameter.empty if parameter["required"] else None
        known.append(
            _inspect.Parameter(
                parameter["name"].replace("-", "_"),
                _inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=_KINDS[parameter["kind"]],
            )
        )
    signature = _inspect.Signature(known)

    def method(self: _Any, /, **params: _Any) -> _Any:
        signature.bind(self, **params)
        return _call(self, name, **params)

    method.__name__ = name.replace(".", "_")
    method.__qualname__ = "ControlClient." + method.__name__
    method.__doc__ = operation["summary"] + ".\n\n" + "\n".join(
        f"{parameter['name'].replace('-', '_')}: {parameter['summary']}" for parameter in ordered
    )
    setattr(method, "__signature__", signature)
    return method


# What takes a password goes through a Python function: the extension's own TypeError would show the arguments.
def _login(self: _Any, user: str, password: str) -> _Any:
    """Fetches the login key, seals the credentials, signs in."""
    if not isinstance(user, str) or not isinstance(password, str):
        raise TypeError("login: user and password are str")
    return self._login(user, password)


def _add_user(self: _Any, name: str, email: str, password: str, max_devices: int = 1) -> _Any:
    """Creates an account."""
    if not all(isinstance(text, str) for text in (name, email, password)):
        raise TypeError("add_user: name, email and password are str")
    return self._add_user(name, email, password, int(max_devices))


def _complete() -> None:
    attach: _Any = setattr
    for value in vars(_tornado).values():
        if isinstance(value, type) and "__repr__" in vars(value):
            # pprint wants a hashable __repr__; the extension's is none.
            attach(value, "__repr__", lambda self, show=value.__repr__: show(self))
    for operation in _tornado.operations():
        function = _method(operation)
        attach(ControlClient, function.__name__, function)
    attach(ControlClient, "call", _call)
    attach(DeviceClient, "login", _login)
    attach(Gateway, "add_user", _add_user)


_complete()
