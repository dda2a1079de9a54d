"""Start the chosen services, watch them, and stop them in order."""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal, Protocol, get_args

from companion import log
from companion.bridge.bridge import Bridge
from companion.config import Config
from companion.consumer.consumer import Consumer
from companion.errors import ConfigError
from companion.http import descriptors
from companion.http.monitoring.counters import Counters
from companion.http.server import Listener
from companion.http.siblings import Siblings
from companion.services import heap
from companion.services.scheduler import Scheduler
from companion.services.web import Api
from companion.services.workers import Workers
from companion.store.connection import READER, WRITER, Patience
from companion.store.store import Store, open_store

ServiceName = Literal["bridge", "consumer", "scheduler", "api"]
SERVICES: Final[tuple[ServiceName, ...]] = get_args(ServiceName)

logger = log.get(__name__)


def choose_services(config: Config, chosen: Sequence[str] = ()) -> list[ServiceName]:
    """Return the services to run: those that were chosen, or by default all, but no bridge without an input.

    Raises ConfigError when one of them lacks what it works on.
    """
    names = [name for name in SERVICES if (name in chosen if chosen else name != "bridge" or config.bridge.has_input)]
    if "bridge" in names and not config.bridge.has_input:
        raise ConfigError("[bridge]: datagram and stream are both empty: a bridge would receive nothing; set one")
    if "consumer" in names and not config.consumer.subscribe:
        raise ConfigError("[consumer]: subscribe is empty: name at least one bridge")
    return names


class Service(Protocol):
    """Run until stopped, then finish what has begun."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


class App:
    """Run the services of one process. The first in the flow of data stops first, so that the next can drain."""

    def __init__(
        self, config: Config, names: Sequence[ServiceName] = SERVICES, listener: Listener | None = None
    ) -> None:
        """Run these services; with a `listener` as one of several processes that serve the API."""
        self._config = config
        self._names = names
        self._listener = listener
        self._stores: list[Store] = []
        self._running: list[tuple[Service, asyncio.Task[None]]] = []

    async def run(self, stopped: asyncio.Event) -> None:
        """Run until `stopped` is set or a service dies; raise its error once the others have ended."""
        heap.relax_garbage_collection()
        descriptors.raise_limit()
        giving_back = asyncio.create_task(heap.give_back_regularly())
        try:
            for service in await asyncio.to_thread(self._make_services):
                self._running.append((service, asyncio.create_task(service.run())))
            await self._wait(stopped)
        finally:
            giving_back.cancel()
            await asyncio.shield(self._end())
        for _, task in self._running:
            task.result()

    def _make_services(self) -> list[Service]:
        """Make the services in the order of their start: a receiver starts before its sender."""
        services = self._make_http()
        if "scheduler" in self._names:
            services.append(Scheduler(self._config, self._open_store()))
        if "consumer" in self._names:
            services.append(Consumer(self._config, self._open_store()))
        if "bridge" in self._names:
            services.append(Bridge(self._config.bridge, wait_for_subscriber="consumer" in self._names))
        return services

    def _make_http(self) -> list[Service]:
        """Make what speaks HTTP: the API, here or in processes of its own, and the counters of all these processes."""
        services: list[Service] = []
        siblings = Siblings()
        if "api" in self._names:
            reader = self._open_store(READER)  # also where workers read: what is wrong with Redis is told at once
            if self._listener or self._config.api.workers == 1:
                services.append(Api(self._config, reader, self._listener))
            else:
                workers = Workers(self._config)
                siblings = workers.siblings
                services.append(workers)
        if self._config.metrics.listen and not self._listener:
            services.append(Counters(self._config.metrics, siblings))
        return services

    def _open_store(self, patience: Patience = WRITER) -> Store:
        store = open_store(self._config.redis, patience)
        self._stores.append(store)
        return store

    async def _wait(self, stopped: asyncio.Event) -> None:
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait([waiting, *(task for _, task in self._running)], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _end(self) -> None:
        for service, task in reversed(self._running):
            service.stop()
            await asyncio.wait([task])
        for store in self._stores:
            store.close()
