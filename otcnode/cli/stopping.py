"""Ctrl-C and SIGTERM in a command that works long on what lies on a disk: at whatever instant it is told to stop, it
puts away what it holds open, says what is left and what goes on, and ends with 130; where its work is done, it ends as
if nobody had told it.

An exception that Python raises between any two instructions would also be raised where it is caught, while files are
closed, or behind the command's end, and be lost in code that must not fail. So it is raised once, while there is work
to stop, and raised again at the next word on how far that is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, Concatenate, NoReturn, ParamSpec

import click

from otcnode.cli.exits import EXIT_INTERRUPTED

P = ParamSpec("P")

OWN_PROCESS = object()
"""The object of the command line's context where the process is its own and ends with it. There the signals are not
given back: an interrupt between the command's end and that of the process would pass for one of the command."""


class Stopping:
    """Whether the command was told to stop, and what it says if so. One for each run of a command."""

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._told = False
        self._settled = False
        self._former: dict[signal.Signals, Any] = {}

    def advise(self, advice: str) -> None:
        """From now on this is what is left and goes on."""
        self._advice = advice

    def settle(self) -> None:
        """From now on the work is done, or as good as done: nothing stops it any more."""
        self._settled = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if the command was told to stop and has not heard it."""
        if self._told and not self._settled:
            raise KeyboardInterrupt

    def listen(self) -> None:
        """In the place of Python's own way to interrupt, or of a command that was run in this process before; who
        ignores a signal, as jobs in the background do, still does. Only the main thread hears signals: in another one
        that is the matter of whoever runs the command there."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            former = signal.getsignal(number)
            if former is signal.default_int_handler or isinstance(getattr(former, "__self__", None), Stopping):
                self._former[number] = former
                signal.signal(number, self._receive)

    def leave(self) -> None:
        """What the signals did before, they do again."""
        for number, former in reversed(self._former.items()):
            if signal.getsignal(number) == self._receive:
                signal.signal(number, former)

    def end(self) -> NoReturn:
        """The command that the user has stopped."""
        self.settle()
        click.echo(f"stopped; {self._advice}", err=True)
        raise SystemExit(EXIT_INTERRUPTED)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._told or self._settled:
            return
        self._told = True
        raise KeyboardInterrupt


def stoppable(advice: str) -> Callable[[Callable[Concatenate[Stopping, P], None]], Callable[P, None]]:
    """A command that can be stopped at any instant, and then says `advice` or what it has learned since to advise."""

    def decorate(command: Callable[Concatenate[Stopping, P], None]) -> Callable[P, None]:
        @wraps(command)
        def carry_out(*arguments: P.args, **options: P.kwargs) -> None:
            stopping = Stopping(advice)
            try:
                stopping.listen()
                command(stopping, *arguments, **options)
            except KeyboardInterrupt:
                stopping.end()
            finally:
                stopping.settle()
                if not _is_own_process():
                    stopping.leave()

        return carry_out

    return decorate


def _is_own_process() -> bool:
    """And not that of a program that runs the command as one of its functions."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().obj is OWN_PROCESS
