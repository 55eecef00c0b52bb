"""From a click command to an exit code: whatever fails, the user gets one line on stderr."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from hazard_store.cli.output import error
from hazard_store.errors import HazardStoreError

EXIT_FAILED = 1  # some chunks or calculations failed after others were written, or stored values differ
EXIT_USAGE = 2  # bad input or usage; nothing was written
EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended
EXIT_BROKEN_PIPE = 141  # and SIGPIPE

DEBUG_VARIABLE = "HAZARD_STORE_DEBUG"

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run(command: click.Command, prog_name: str, args: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code.

    Parameters
    ----------
    args : sequence of str, optional
        By default those of this process.
    """
    _prepare_streams()
    try:
        code = _invoke(command, prog_name, list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            return _internal(exc)
        _discard_stdout()
        error(f"cannot write the output: {exc.strerror}")
        return EXIT_USAGE
    return code


def _invoke(command: click.Command, prog_name: str, args: list[str]) -> int:
    # Not click's own main(): that prints usage blocks, an empty line at Ctrl-C, and keeps 1 for all that went wrong.
    try:
        with command.make_context(prog_name, args) as context:
            command.invoke(context)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        error("interrupted")
        return EXIT_INTERRUPTED
    except click.ClickException as exc:
        error(_usage_line(exc))
        return EXIT_USAGE
    except HazardStoreError as exc:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        error(str(exc))
        return EXIT_USAGE
    except OSError:
        raise
    except Exception as exc:
        return _internal(exc)
    return 0


def _usage_line(exc: click.ClickException) -> str:
    line = exc.format_message().rstrip(". ")
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    return f"{line}; see `{context.command_path} --help`" if context is not None else line


def _internal(exc: BaseException) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(exc)
    cause = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    error(f"internal error: {cause}; run with {DEBUG_VARIABLE}=1 for the traceback")
    return EXIT_INTERNAL


def _prepare_streams() -> None:
    # File names need not be text, and an old locale need not know the signs in ours.
    # A shell may have closed either (`>&-`).
    nowhere = Path(os.devnull)
    sys.stdout, sys.stderr = sys.stdout or nowhere.open("w"), sys.stderr or nowhere.open("w")
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    if not os.environ.get(DEBUG_VARIABLE):
        # Without any handler, Python prints warnings of botocore and urllib3 among our own lines.
        logging.getLogger().addHandler(logging.NullHandler())


def _discard_stdout() -> None:
    """Let the interpreter flush what is left at its end to nowhere, rather than fail once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
