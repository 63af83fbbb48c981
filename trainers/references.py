"""What a user names as ``module:attribute``: a network, a data set, a regulariser, a trainer."""

from __future__ import annotations

import pkgutil

from trainers.config import check_reference
from trainers.errors import LONGEST_LINE, ConfigError, quoted, shortened


def resolve(reference: str, where: str) -> object:
    """The object that ``reference`` names. ``where`` is the setting that holds it, for example ``models.name``.

    Raises :class:`ConfigError` with the setting, the reference and the reason where it cannot be imported.
    """
    check_reference(reference, where)
    try:
        found: object = pkgutil.resolve_name(reference)
    except (Exception, SystemExit) as error:  # importing runs the user's own code, so anything may come
        reason = shortened(f"{type(error).__name__}: {error}", LONGEST_LINE)
        raise ConfigError(
            f"{where} = {quoted(reference)}: cannot be imported ({reason}); must be "
            "'module:attribute', with a module that Python finds here"
        ) from error
    return found
