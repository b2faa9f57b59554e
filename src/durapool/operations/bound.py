"""The decorators of durable functions, and what they make: functions with their arguments bound.

`my_step(1, 2)` under ``@durable_step`` does not run anything: it gives a callable that waits for its context.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from durapool.config import ParallelBranch
from durapool.exceptions import ValidationError
from durapool.values import dataclass, field

if TYPE_CHECKING:
    from durapool.context import DurableContext
    from durapool.types import StepContext, WaitForCallbackContext

T = TypeVar("T")
Params = ParamSpec("Params")


@dataclass(frozen=True, slots=True)
class BoundCall(Generic[T]):
    """Calls `function(*contexts, *args, **kwargs)`.

    Pickled by way of the decorated function: that is what a module's name stands for, so it goes by reference, while
    the undecorated one inside could only go by value.
    """

    function: Callable[..., T]
    decorated: Callable[..., Any] = field(repr=False)
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The default name of the operation."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, *contexts: Any) -> T:
        return self.function(*contexts, *self.args, **self.kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return bind, (self.decorated, self.args, dict(self.kwargs))


def bind(decorated: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the decorated function makes of these arguments: the way back from a pickle."""
    made = decorated(*args, **kwargs)
    return made.func if isinstance(made, ParallelBranch) else made


def default_name(name: str | None, function: object) -> str | None:
    """The given name, else that of a decorated function, else None."""
    if name:
        return name
    return function.name if isinstance(function, BoundCall) else None


def durable_step(
    func: Callable[Concatenate[StepContext, Params], T],
) -> Callable[Params, Callable[[StepContext], T]]:
    """Make a function with arguments into one that `context.step` runs; its name is the step's name.

    Args:
        func: called with a StepContext, and then with the arguments of the call.

    Example:
        >>> @durable_step
        ... def parse(step_context, path):
        ...     return path.upper()
        >>> context.step(parse("a.txt"))
        'A.TXT'
    """
    return _binding(func)


def durable_with_child_context(
    func: Callable[Concatenate[DurableContext, Params], T],
) -> Callable[Params, Callable[[DurableContext], T]]:
    """Make a function with arguments into one that `context.run_in_child_context` runs, under its own name.

    Args:
        func: called with the child's DurableContext, and then with the arguments of the call.

    Example:
        >>> @durable_with_child_context
        ... def load(ctx, folder):
        ...     return ctx.step(lambda _: list_files(folder))
        >>> context.run_in_child_context(load("data"))
        ['a', 'b']
    """
    return _binding(func)


def durable_wait_for_callback(
    func: Callable[Concatenate[str, WaitForCallbackContext, Params], T],
) -> Callable[Params, Callable[[str, WaitForCallbackContext], T]]:
    """Make a function with arguments into a submitter of `context.wait_for_callback`, under its own name.

    Args:
        func: called with the callback's id and a WaitForCallbackContext, and then with the arguments of the call.

    Example:
        >>> @durable_wait_for_callback
        ... def ask(callback_id, context, address):
        ...     send_mail(callback_id, address)
        >>> context.wait_for_callback(ask("boss@example.com"))
        'approved'
    """
    return _binding(func)


def durable_parallel_branch(
    name: str | None = None,
) -> Callable[
    [Callable[Concatenate[DurableContext, Params], T]],
    Callable[Params, ParallelBranch[T]],
]:
    """Make a function with arguments into a branch of `context.parallel`.

    Args:
        name: of the branch; ``parallel-branch-{i}`` when None.

    Raises:
        ValidationError: used without parentheses.

    Example:
        >>> @durable_parallel_branch(name="orders")
        ... def load_orders(ctx, user):
        ...     return ctx.step(lambda _: f"orders of {user}")
        >>> context.parallel([load_orders("ann"), load_orders("bob")]).get_results()
        ['orders of ann', 'orders of bob']
    """

    if name is not None and not isinstance(name, str):
        raise ValidationError(
            "@durable_parallel_branch takes a name and needs its parentheses: "
            '@durable_parallel_branch() or @durable_parallel_branch(name="orders")'
        )

    def decorate(func: Callable[Concatenate[DurableContext, Params], T]) -> Callable[Params, ParallelBranch[T]]:
        @functools.wraps(func)
        def branch(*args: Params.args, **kwargs: Params.kwargs) -> ParallelBranch[T]:
            return ParallelBranch(func=BoundCall(func, branch, args, kwargs), name=name)

        return branch

    return decorate


def _binding(func: Callable[..., T]) -> Callable[..., BoundCall[T]]:
    @functools.wraps(func)
    def decorated(*args: Any, **kwargs: Any) -> BoundCall[T]:
        return BoundCall(func, decorated, args, kwargs)

    return decorated
