"""Runs the story to its end, with progress, and leaves the facts and the report."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.status import Status as Spinner

from seatrial.demo.facts import Facts, now
from seatrial.demo.settings import DemoSettings
from seatrial.demo.story import Story
from seatrial.report import print_summary, write_report
from serving.errors import PlayerError, SeatrialError
from serving.local import LocalPlayer, check_port_free


class Interrupted(BaseException):
    """SIGTERM or SIGINT reached the demo."""


def run_demo(settings: DemoSettings, console: Console, *, quiet: bool = False) -> tuple[int, Facts]:
    """Returns the exit code (0 only if every stage ended as it must) and the facts.

    Whatever happens, nothing it started is left running, unless `settings.keep` and all is well.
    """
    player = LocalPlayer()
    for line in player.end_orphans():
        console.print(line)
    _check_nothing_plays(player)
    check_port_free(settings.port)
    folder = _new_run(settings.runs)
    facts = Facts(folder, "seatrial " + shlex.join(sys.argv[1:]))
    story = Story(settings, folder, facts, player)
    try:
        with _interruptible():
            _tell(story, facts, console, quiet)
            facts.data["ok"] = True
    except SeatrialError:
        pass  # the stage has recorded its sentence
    except Interrupted:
        facts.data["interrupted"] = True
    finally:
        with _uninterruptible():
            kept = settings.keep and facts.data["ok"]
            if kept:
                player.disown()
            else:
                story.close()
            facts.data["finished"] = now()
            facts.save()
    code = report(facts, folder, console)
    if code == 0:
        _print_next(story, kept, console)
    return (130 if facts.data.get("interrupted") else code), facts


def _check_nothing_plays(player: LocalPlayer) -> None:
    try:
        status = player.status()
    except PlayerError:
        return
    raise PlayerError(
        f"the player already runs '{status.service}' at {status.gateway} for {status.manifest}; "
        "run 'seatrial down' first, or set SEATRIAL_STATE to another folder"
    )


def _tell(story: Story, facts: Facts, console: Console, quiet: bool) -> None:
    stages = {
        "data": story.data,
        "pipeline": story.pipeline,
        "serve": story.serve,
        **({"drift": story.drift} if story.settings.data is None else {}),
        "canary": story.canary,
        "failing canary": story.failing_canary,
        "shifted canary": story.shifted_canary,
    }
    for number, (name, stage) in enumerate(stages.items(), start=1):
        title = f"{number}/{len(stages) + 1} {name}"
        with facts.stage(name) as entry, _spinner(console, title, quiet) as spinner:
            story.progress = partial(_update, spinner, title)
            entry["detail"] = stage()
        if not quiet:
            console.print(
                f"[green]✓[/] {title} ({entry['seconds']:.0f} s): {entry['detail']}",
                soft_wrap=True,
                highlight=False,
            )


def _update(spinner: Spinner, title: str, line: str) -> None:
    spinner.update(f"{title}: {line}")


def report(facts: Facts, folder: Path, console: Console) -> int:
    """The last stage; a run that failed earlier gets its report too. Returns the exit code."""
    try:
        with facts.stage("report") as entry:
            file = folder / "report.html"
            entry["detail"] = str(file)
            entry["ok"] = True  # as the page it writes shall say
            write_report(facts.data, folder)
    except (SeatrialError, OSError) as error:
        facts.data["ok"] = False
        console.print(f"[red]✗[/] report: {error}")
    facts.data["finished"] = now()
    facts.save()
    print_summary(facts.data, console)
    return 0 if facts.data["ok"] else 1


def _print_next(story: Story, kept: bool, console: Console) -> None:
    """Three commands worth pasting."""
    deploy = story.deploy
    seatrial = _console_script()
    up = "" if kept else f"{seatrial} up {deploy} && "
    console.print("\nNext:", highlight=False)
    for line in (up + story.curl(), f"{seatrial} status", f"xdg-open {story.folder}/report.html"):
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
    if kept:
        console.print(f"It is still running; '{seatrial} down' ends it.", highlight=False)


def _console_script() -> str:
    """As it can be pasted into the shell that `make demo` was called from."""
    if shutil.which("seatrial"):
        return "seatrial"
    script = Path(sys.executable).with_name("seatrial")
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def _new_run(runs: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        folder = runs / f"{stamp}{suffix}"
        try:
            (folder / "logs").mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(runs / stamp)


@contextmanager
def _spinner(console: Console, title: str, quiet: bool) -> Iterator[Spinner]:
    """Moves in a terminal only; elsewhere each stage's result is one line."""
    with Console(stderr=True, quiet=quiet or not console.is_terminal).status(title) as spinner:
        yield spinner


@contextmanager
def _interruptible() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    with _handlers(interrupt):
        yield


@contextmanager
def _uninterruptible() -> Iterator[None]:
    """Ending the children is bounded, and a second Ctrl-C must not cut it short."""
    with _handlers(signal.SIG_IGN):
        yield


@contextmanager
def _handlers(handler: signal.Handlers | object) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
