"""`otcnode replay-events`: step a recorded replica again and see why it did what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from otcnode import event_files
from otcnode.cli.stopped import json_option
from otcnode.cli.text import shown
from otcnode.engine.recording import Replayed, replay


@click.command("replay-events")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "first", type=click.IntRange(min=1), default=1, help="The first step to show.")
@click.option("--until", "last", type=click.IntRange(min=1), help="Stop after this step, and explain how things stand.")
@click.option("-v", "--verbose", is_flag=True, help="Show events and effects in full.")
@json_option
def replay_events(file: Path, first: int, last: int | None, verbose: bool, as_json: bool) -> None:
    """Step a replica through FILE, which a node wrote that was run with --record-events.

    Every step is made again by the same code and must have the same effects: so it is shown that nothing but the events
    made the node do what it did. Ends with 1 and the step where that is not so. Of a directory, the newest file is
    taken.
    """
    if file.is_dir():
        recordings = event_files.files(file)
        if not recordings:
            raise click.UsageError(f"{file} holds no recordings")
        file = recordings[-1]
    configuration, steps = event_files.read(file)
    step: Replayed | None = None
    counts: Counter[str] = Counter()
    for step in _until(replay(configuration, steps), last):
        counts[_tag(step.step.event)] += 1
        if step.number >= first and not as_json:
            _show(step, verbose)
    if step is None:
        raise click.UsageError(f"{file} holds no step")
    explanation = step.replica.explain(step.step.now)
    if as_json:
        answer = {
            "file": str(file),
            "steps": step.number,
            "events": dict(sorted(counts.items())),
            "progressing": explanation.progressing,
            "reasons": explanation.reasons,
        }
        click.echo(msgspec.json.encode(answer))
        return
    seen = explanation.inspection
    state = "the chain goes on" if explanation.progressing else "; ".join(explanation.reasons)
    click.echo(f"{step.number} steps, each with the effects that were recorded")
    click.echo(f"height {seen.committed}, view {seen.view}, {step.replica.mode.value}: {state}")


def _until(steps: Iterator[Replayed], last: int | None) -> Iterator[Replayed]:
    for step in steps:
        yield step
        if step.number == last:
            return


def _show(step: Replayed, verbose: bool) -> None:
    event = step.step.event
    time_ms = step.step.now.monotonic_ms
    if verbose:
        click.echo(f"{step.number} at {time_ms} ms: {msgspec.json.encode(shown(event)).decode()}")
        for effect in step.effects:
            click.echo(f"    {msgspec.json.encode(shown(effect)).decode()}")
        return
    made = ", ".join(_brief(effect) for effect in step.effects)
    click.echo(f"{step.number} at {time_ms} ms: {_brief(event)} → {made or 'nothing'}")


def _tag(value: Any) -> str:
    return str(value.__struct_config__.tag)


def _brief(value: Any) -> str:
    """The kind, and of a message what it is and where it stands."""
    message = getattr(value, "message", None)
    inner = value if message is None else message
    places = [
        f"{name} {getattr(inner, name)}"
        for name in ("height", "view", "timer", "delay_ms", "waiting", "committed", "text")
        if isinstance(getattr(inner, name, None), int | str)
    ]
    header = getattr(inner, "header", None)
    if header is not None:
        places.append(f"height {header.height}")
    kind = _tag(value) if message is None else f"{_tag(value)} {_tag(message)}"
    return " ".join([kind, *(f"({', '.join(places)})" for _ in [0] if places)])
