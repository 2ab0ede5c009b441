"""Options classes as command-line flags: one flag per field, with the field's sentence as its help.

    @flags_from(ImagingOptions)
    def image(ms: Path, *, options: ImagingOptions) -> None: ...

becomes a command `image MS --size 0 --cell-arcsec 0.0 ...` whose function receives the filled-in object.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_type_hints

import typer


def flags_from(
    options_class: type[Any], parameter: str = "options"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace a command's options parameter by flags.

    Parameters
    ----------
    options_class
        A frozen dataclass of int, float, bool and str fields with defaults, whose metadata hold their help.
    parameter
        Name of the keyword-only parameter that receives the object.
    """
    names = [item.name for item in fields(options_class)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        if parameter not in signature.parameters:
            raise TypeError(f"{command.__name__} has no parameter {parameter!r} to receive {options_class.__name__}")

        @functools.wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the command takes
            chosen = options_class(**{name: kwargs.pop(name) for name in names})
            return command(*args, **{parameter: chosen}, **kwargs)

        own = [item for item in signature.parameters.values() if item.name != parameter]
        parameters = [*own, *_flags(options_class)]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
        del wrapper.__wrapped__  # or its annotations would be read instead
        return wrapper

    return decorate


def _flags(options_class: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(options_class)
    flags = []
    for item in fields(options_class):
        if item.default is MISSING:
            raise TypeError(f"{options_class.__name__}.{item.name} has no default and cannot be a flag")
        flag = "--" + item.name.replace("_", "-")
        if hints[item.name] is bool:
            flag = f"{flag}/--no-{item.name.replace('_', '-')}"
        option = typer.Option(flag, help=item.metadata.get("help", ""), show_default=item.default != "")
        flags.append(
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=item.default,
                annotation=Annotated[hints[item.name], option],
            )
        )
    return flags
