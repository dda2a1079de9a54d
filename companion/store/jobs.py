"""Store when each scheduled job last did its work, whichever scheduler ran it."""

from collections.abc import Container

import msgspec

from companion.store.store import Store


class JobRun(msgspec.Struct, frozen=True):
    """Hold the last good run of a job: when it ended (epoch ms), and how often it should run.

    `seconds` is how long its slowest run took: most runs of some jobs find nothing to do.
    """

    at: int
    every_seconds: float
    seconds: float = 0.0


def save_job_run(store: Store, name: str, run: JobRun) -> None:
    store.connection.call("HSET", store.keys.jobs(), name, _encode(run))


def begin_job(store: Store, name: str, every_seconds: float, now: int) -> JobRun:
    """Return the last good run of a job. One that never ran counts from now on: it may hang in its first run."""
    run, key = JobRun(now, every_seconds), store.keys.jobs()
    _, text = store.connection.pipeline([("HSETNX", key, name, _encode(run)), ("HGET", key, name)])
    return _decode(text) or run


def forget_other_jobs(store: Store, names: Container[str]) -> None:
    """Forget the jobs that are not among these: an older version had them."""
    gone = [name for name in store.connection.call("HKEYS", store.keys.jobs()) if name not in names]
    if gone:
        store.connection.call("HDEL", store.keys.jobs(), *gone)


def load_job_runs(store: Store) -> dict[str, JobRun]:
    """Return the last good run of each job, by name; one that can not be read is left out."""
    texts = store.connection.call("HGETALL", store.keys.jobs())
    return {name: run for name, text in texts.items() if (run := _decode(text))}


def _encode(run: JobRun) -> str:
    return msgspec.json.encode(run).decode()


def _decode(text: str) -> JobRun | None:
    try:
        return msgspec.json.decode(text, type=JobRun)
    except msgspec.MsgspecError:
        return None
