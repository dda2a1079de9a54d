"""Run every check of the doctor and return its findings."""

from companion.doctor import contacts, feeds, opensips, redis
from companion.doctor.facts import Facts
from companion.doctor.finding import Section


def check(facts: Facts) -> list[Section]:
    """Return all findings about these facts, from OpenSIPS down the way that events go."""
    return [*opensips.check(facts), feeds.check(facts), *contacts.check(facts), redis.check(facts)]
