"""A Dockerfile, read as far as our own use of it goes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "environments" / "docker"
FILES = sorted(FOLDER.glob("*.Dockerfile"))


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    instructions: tuple[tuple[str, str], ...]
    """(INSTRUCTION, its text) in order, the FROM left out."""

    def all(self, instruction: str) -> list[str]:
        return [text for word, text in self.instructions if word == instruction]


def stages(file: Path) -> list[Stage]:
    found: list[Stage] = []
    text = re.sub(r"\\\n", " ", file.read_text("utf-8"))
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name, ()))
        else:
            last = found.pop()
            found.append(Stage(last.base, last.name, (*last.instructions, (word, rest.strip()))))
    return found


def image(file: Path) -> str:
    return f"seatrial/{file.stem}"


def installed(file: Path) -> tuple[str, tuple[str, ...]]:
    """(lock, extras) of the file's environment."""
    (command,) = [
        text for stage in stages(file) for text in stage.all("RUN") if re.search(r'"\.\[', text)
    ]
    lock = re.search(r"--constraint environments/([a-z]+)\.lock", command)
    extras = re.search(r'"\.\[([a-z,-]+)\]"', command)
    assert lock is not None
    assert extras is not None
    return lock[1], tuple(extras[1].split(","))


def entrypoint(file: Path) -> list[str]:
    (text,) = stages(file)[-1].all("ENTRYPOINT")
    words: list[str] = json.loads(text)
    return words
