"""A device that is only pretended: tensors whose values are on the CPU, but which say that they are elsewhere.

Within :func:`pretended_device` every operation of torch is looked at as it is dispatched, those of its transforms and
of backward passes included. One that has tensors of both devices is refused by the rules of a GPU, as
:class:`MixedDevices`. torch's own fake tensors do the same for shapes alone. These hold values, so that ``float(x)``
and ``bool(x)`` work, and whole trainings run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# The one name that serves: backward passes know it in every build of torch, none asks for its driver, and torch itself
# makes no use of it ("meta" is what it computes shapes with).
DEVICE = "lazy"

_OPS = torch.ops.aten
MOVES = {_OPS._to_copy.default, _OPS.copy_.default}  # read from one device and write to another
INDEXING = {  # a GPU takes the indices, the second argument, from the CPU as well
    _OPS.index.Tensor, _OPS.index_put.default, _OPS.index_put_.default, _OPS._index_put_impl_.default,
}  # fmt: skip


class MixedDevices(RuntimeError):
    """An operation had tensors of two devices."""


class Elsewhere(Tensor):
    """A tensor on the pretended device."""

    held: Tensor  # the values, on the CPU

    @staticmethod
    def __new__(cls, values: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(DEVICE),
        )
        made.held = values
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held!r})"

    def tolist(self) -> Any:
        """What torch refuses to do for a subclass."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch types it as the function that switches it off
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


@contextmanager
def pretended_device() -> Iterator[None]:
    """While open, tensors can be made on :data:`DEVICE` and have values there."""
    with _Literals(), _Operations():
        yield


class _Operations(TorchDispatchMode):
    """Sees every operation, those that make tensors from nothing included."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Literals(TorchFunctionMode):
    """Makes tensors of Python's numbers on the CPU and moves them: torch itself would move them unseen.

    Lists of indices stay on the CPU, where a GPU takes them from as well.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            return func(args[0], _indices(args[1]), *args[2:])
        if func is Tensor.new_tensor:
            like, *args = args  # type: ignore[assignment]
            func, kwargs = torch.tensor, {"dtype": like.dtype, "device": like.device} | kwargs
        if func not in (torch.tensor, torch.as_tensor):
            return func(*args, **kwargs)
        device = kwargs.pop("device", None)
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


def _indices(index: Any) -> Any:
    """The same index, with tensors in the place of lists."""
    if isinstance(index, list | range):
        return torch.tensor(index)
    if isinstance(index, tuple):
        return tuple(torch.tensor(part) if isinstance(part, tuple | list | range) else part for part in index)
    return index


def _run(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the values. What it gives is where torch would have put it."""
    tensors = list(_tensors((args, kwargs)))
    _refuse_mixed(func, args, kwargs)
    if kwargs.get("device") is not None:
        away = torch.device(kwargs["device"]).type == DEVICE
        kwargs["device"] = torch.device("cpu")
    else:
        away = isinstance(args[0] if func in MOVES else _first_elsewhere(tensors), Elsewhere)
    if away and func is _OPS._efficientzerotensor.default:
        # The first has no memory, which torch does not see under a wrapper. With it torch knows that 0 · ∞ = 0 where a
        # derivative is 0 for certain; on the pretended device that is NaN.
        func = _OPS.zeros.default
    known = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, Elsewhere)}

    def wrapped(value: Tensor) -> Tensor:
        """What was written in place is the tensor that it was."""
        return known[id(value)] if id(value) in known else Elsewhere(value)

    out = func(*_each(_values, args), **_each(_values, kwargs))
    return _each(wrapped, out) if away else out


def _refuse_mixed(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """As on a GPU, numbers of no dimension may come from the CPU."""
    if func in MOVES:
        return
    checked = (args[:1], args[2:], kwargs) if func in INDEXING and isinstance(args[0], Elsewhere) else (args, kwargs)
    tensors = list(_tensors(checked))
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim() > 0]
    if here and _first_elsewhere(tensors) is not None:
        raise MixedDevices(f"{func}: a tensor {list(here[0].shape)} of the CPU beside one of another device")


def _first_elsewhere(tensors: list[Tensor]) -> Elsewhere | None:
    return next((tensor for tensor in tensors if isinstance(tensor, Elsewhere)), None)


def _values(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, Elsewhere) else tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    """All of an operation's arguments or outcome."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _each(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same arguments or outcome, with another tensor in the place of each."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _each(function, part) for name, part in value.items()}
    return type(value)(_each(function, part) for part in value) if isinstance(value, tuple | list) else value
