"""Publish, recover or retract a product that is killed, or refused, at one system call; then judge what is left.

Run as `python -m tests.database.crash_harness TASKS`, with a list of `Task`s as JSON: a process of its own, so that
what is forked is small and has no threads. Prints nothing unless a promise is broken; in the end, what each task
counted, as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import syscalls
from tests.database.crash_house import FILE, House, RetractionHouse, Task
from tests.syscalls import KILL, KILLED, Call, Plan, Traced

from dsa110_contimg.database.data_registration import publish_data_instance, recover_publishing
from dsa110_contimg.database.registry_rows import STORAGE_ERRORS, RegistryConnection
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.errors import PipelineError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EXDEV)
CHANGING = ("fsync", "fdatasync", "rename", "link", "unlink", "rmdir", "pwrite64")
Counts = dict[str, object]
Work = Callable[[RegistryConnection], object]


def traced(house: House, work: Work, plan: Plan = lambda _: None, *, paths: bool = False) -> Traced:
    """Trace what is done with an open registry."""

    def run() -> None:
        with house.registry() as conn:
            syscalls.begin()
            work(conn)

    return syscalls.trace(run, plan, paths=paths)


def publication(house: House) -> Work:
    """Return a publication that leaves in a file what it was told."""

    def work(conn: RegistryConnection) -> None:
        told = "published"
        try:
            assert publish_data_instance(conn, "m1", mode=house.task.mode, roots=house.roots)
        except (PipelineError, *STORAGE_ERRORS) as error:
            told = f"{type(error).__name__}: {error}"
        (house.root / "told").write_text(told)

    return work


def recovery(house: House) -> Work:
    """Return a recovery."""
    return lambda conn: recover_publishing(conn, roots=house.roots)


def retraction(house: House) -> Work:
    """Return a retraction."""
    return lambda conn: retract(conn, "m1", reason="a test", by="me", roots=house.roots)


def killing(number: int) -> Plan:
    """Return the plan that kills at one call."""
    return lambda call: KILL if call.number == number else None


@contextmanager
def blamed_on(what: str, call: Call | None) -> Iterator[None]:
    """Say at which call a promise was broken."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{what}: {call}")
        raise


def kill_everywhere(house: House, work: Work, kept: Path) -> Iterator[Call]:
    """Yield after each trial that was killed, with the call that it died at; stride and offset choose them."""
    number = house.task.offset
    while True:
        house.restore(kept)
        done = traced(house, work, killing(number))
        last = done.calls[-1] if done.calls else None
        with blamed_on(f"killed at call {number}", last):
            if done.code != KILLED or last is None:
                assert done.code == 0, f"it ended with {done.code}"
                house.judge_at_rest()
                return
            house.judge_anytime()
            yield last
        number += house.task.stride


def kill_publication(house: House) -> Counts:
    """Kill a publication at every call, recover, and judge."""
    points, named, died_at = 0, 0, Counter[str]()
    for call in kill_everywhere(house, publication(house), house.begun):
        named += house.target(house.product).exists()
        house.recover()
        row = house.judge_at_rest()
        assert row.publish_attempts in {0, 1}, "a crash counts once"
        points += 1
        died_at[call.name] += 1
    return {"points": points, "named": named, "died_at": died_at, "whole": calls_of_one(house)}


def calls_of_one(house: House) -> Counter[str]:
    """Return how often a publication that nobody disturbs makes each call."""
    house.restore(house.begun)
    return Counter(call.name for call in traced(house, publication(house)).calls)


def kill_recovery(house: House) -> Counts:
    """Kill a publication at a dozen calls (with a long stride at six), then its recovery at every call; then judge."""
    points, begun = 0, 0
    last = sum(calls_of_one(house).values())
    for first in range(house.task.offset, last, max(1, last // (12 if house.task.stride < 100 else 6))):
        house.restore(house.begun)
        traced(house, publication(house), killing(first))
        kept = house.save("killed")
        begun += 1
        for _ in kill_everywhere(house, recovery(house), kept):
            house.recover()
            house.judge_at_rest()
            points += 1
    return {"points": points, "begun": begun}


def kill_retraction(house: House) -> Counts:
    """Kill a retraction at every call, recover, and judge."""
    points, set_aside = 0, 0
    for _ in kill_everywhere(house, retraction(house), house.begun):
        house.recover()
        set_aside += house.judge_at_rest().status == "retracted"
        points += 1
    return {"points": points, "set_aside": set_aside}


def is_file_call(house: House, call: Call) -> bool:
    """Whether a call is about a file of this house, SQLite's included; its locks wait, and try again for long."""
    return call.name != "fcntl" and any(path.startswith((str(house.root), str(house.products))) for path in call.paths)


def is_storage(call: Call) -> bool:
    """Whether a call is SQLite's own."""
    return any(FILE in path or path.endswith("/state") for path in call.paths)


class Refusal:
    """A plan that refuses the n-th file call, and with `lasting` every later one but SQLite's."""

    def __init__(self, house: House, number: int, error: int, *, lasting: bool) -> None:
        self.house, self.left, self.error, self.lasting = house, number, error, lasting
        self.hit: Call | None = None

    def __call__(self, call: Call) -> int | None:
        told = call.paths and call.paths[0].endswith("/told")
        if told or not is_file_call(self.house, call) or (self.lasting and is_storage(call)):
            return None
        self.left -= 1
        if self.left == -1:
            self.hit = call
        return self.error if self.left == -1 or (self.lasting and self.left < 0) else None


def refuse_everywhere(house: House, *, lasting: bool = False) -> Counts:
    """Refuse every file call with each error (with a stride: one error each), and judge; then publish again."""
    trials, number, outcomes = 0, house.task.offset, Counter[str]()
    while True:
        for error in ERRORS if house.task.stride == 1 else ERRORS[trials % 4 :][:1]:
            house.restore(house.begun)
            refusal = Refusal(house, number, error, lasting=lasting)
            done = traced(house, publication(house), refusal, paths=True)
            if refusal.hit is None:
                return {"trials": trials, "outcomes": outcomes}
            with blamed_on(f"refused with {errno.errorcode[error]}", refusal.hit):
                assert done.code == 0, "an error came out that is not the pipeline's"
                outcomes[judge_refused(house, refusal)] += 1
            trials += 1
        number += house.task.stride


def judge_refused(house: House, refusal: Refusal) -> str:
    """Judge a publication that met an error, and whether it succeeds once the error is gone; return its status."""
    assert refusal.hit is not None
    told = (house.root / "told").read_text()
    house.judge_anytime()
    row, storage = house.row(), is_storage(refusal.hit)
    if not storage and not refusal.lasting:
        assert row.status in {"published", "failed"}, f"the row does not say what happened: {row}; {told}"
    if row.status == "failed":
        assert told != "published"
        named = os.strerror(refusal.error) in (row.publish_error or "")
        assert named or storage, f"the row says {row.publish_error!r}"
        assert (row.owner, row.publish_attempts) == (None, 1), row
        if not refusal.lasting:
            house.judge_at_rest()
    house.recover()
    house.publish()
    house.recover()
    assert house.judge_at_rest().status == "published"
    return row.status


def order(house: House) -> Counts:
    """Return the calls of one publication that change something durable, in order."""
    house.restore(house.begun)
    done = traced(house, publication(house), paths=True)
    assert done.code == 0
    calls = [
        [call.name, *call.paths]
        for call in done.calls
        if call.name.startswith(CHANGING) and is_file_call(house, call) and done.results.get(call.number, -1) >= 0
    ]
    return {"calls": calls}


TASKS: dict[str, Callable[[House], Counts]] = {
    "kill publication": kill_publication,
    "kill recovery": kill_recovery,
    "kill retraction": kill_retraction,
    "refuse": refuse_everywhere,
    "refuse lasting": lambda house: refuse_everywhere(house, lasting=True),
    "order": order,
}


def main(text: str) -> None:
    """Do some tasks, each in a fresh house."""
    found = []
    for told in json.loads(text):
        task = Task(**told)
        for folder in (task.root, task.products):
            shutil.rmtree(folder, ignore_errors=True)
        house = RetractionHouse(task) if "retraction" in task.name else House(task)
        found.append(TASKS[task.name](house))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
