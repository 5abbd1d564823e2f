"""Starts an annotation again and again in a forked child, kills it at a random instant, and looks at what is left.

It is a program of its own, since a test runner has threads and must not fork. One line of JSON tells what was found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.dummy import DummyBackend, stack_of_squares
from tests.saving import annotate, content

from napari_medsam2 import AnnotationSession, storage

# Snapshots come often, so that some kills fall into one.
storage._WORTH = 6000


def main(place: Path, trials: int) -> None:
    stack, backend = stack_of_squares(), DummyBackend()
    clean = AnnotationSession(stack, backend=backend)
    states = [content(clean)]
    began = time.perf_counter()
    for _ in annotate(clean):
        states.append(content(clean))
    rng = random.Random(7)
    folder = place / "probe"
    began = time.perf_counter()
    whole = AnnotationSession.create(folder, stack, backend=backend)
    for _ in annotate(whole):
        pass
    took = time.perf_counter() - began
    whole.close()
    lost, wrong, early, notices, reached = 0, [], 0, 0, []
    for trial in range(trials):
        folder = place / str(trial)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            session = AnnotationSession.create(folder, stack, backend=backend)
            os.write(writer, b".")
            for _ in annotate(session):
                os.write(writer, b".")
            os._exit(0)
        os.close(writer)
        # The instant is a place in the annotation, not a time since the fork: how long a fork takes, and how fast the
        # machine is, must not decide where the kills fall.
        returned = b""
        target = rng.randrange(len(states) + 1)
        while len(returned) < target and (heard := os.read(reader, 1)):
            returned += heard
        time.sleep(rng.uniform(0, 2 * took / len(states) if target else took))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while chunk := os.read(reader, 65536):
            returned += chunk
        os.close(reader)
        if not (folder / storage.JOURNAL).exists():
            # Killed before there was a session; nothing had been promised.
            early += 1
            assert not returned
            continue
        session = AnnotationSession.open(folder, backend=backend, stack=stack)
        notices += bool(session.notices)
        found = content(session)
        # States may repeat (undo, then redo), so the count of returned commands says which are allowed.
        done = len(returned) - 1
        allowed = states[max(done, 0) : done + 2]
        if found not in allowed:
            wrong.append([trial, done, [i for i, s in enumerate(states) if s == found]])
        reached.append(done)
        # What was opened can be worked on.
        session.add_object("after")
        session.close()
        lost += found not in states
    out = {"early": early, "wrong": wrong, "lost": lost, "notices": notices, "commands": len(states) - 1}
    sys.stdout.write(json.dumps({**out, "reached": sorted(reached), "seconds": took}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
