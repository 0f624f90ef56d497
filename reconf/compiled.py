"""Loops compiled by numba, where it can be had.

Compiled code is cached beside its source or, where that cannot be written, in the user's cache
(`NUMBA_CACHE_DIR`); where neither can, it is compiled once per process. Whoever uses a compiled loop keeps
the same steps in numpy beside it, and a test holds the two against each other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeVar

Engine = Literal["auto", "numpy", "compiled"]
F = TypeVar("F", bound=Callable[..., Any])


def engine_for(engine: Engine) -> Literal["numpy", "compiled"]:
    """The engine that `auto` means: compiled loops wherever numba can be imported."""
    if engine == "auto":
        return "compiled" if _numba_there() else "numpy"
    return engine


@lru_cache(maxsize=1)
def _numba_there() -> bool:
    """Whether numba can be imported; looked for once, since looking means to search the disk."""
    return importlib.util.find_spec("numba") is not None


def compiled(function: F) -> F:
    """`numba.njit` at the first call, cached where a cache can be written."""
    return _made(function, None)


def compiled_for(*types: str) -> Callable[[F], F]:
    """`numba.njit` for arguments of these types, when the module is imported: no loop waits for a compiler.

    Args:
        types: of each argument, as numba writes them ("f8", "i8[::1]"); arrays are contiguous.
    """

    def make(function: F) -> F:
        return _made(function, f"({', '.join(types)})")

    return make


def _made(function: F, signature: str | None) -> F:
    import numba

    how: dict[str, Any] = {"fastmath": False, "error_model": "numpy"}
    try:
        made: Any = numba.njit(signature, cache=True, **how)(function)
    except RuntimeError:
        # numba raises this when no cache folder is writable (a hardened service)
        made = numba.njit(signature, **how)(function)
    result: F = made
    return result
