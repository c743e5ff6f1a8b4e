"""What a network does to a host's connections."""

import asyncio
import random

from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.schedule import Window
from tests.support.proxy import Proxy


class _Network(Nemesis):
    """Does something to all connections of one host, or to those of the second observer as well."""

    def _proxies(self, window: Window) -> tuple[str, list[Proxy]]:
        host = self.arena.victim(window.draw)
        return f"{host.name} and an observer", [*host.proxies, *self.arena.observer_proxies]

    async def inject(self, window: Window) -> str:
        who, self._struck = self._proxies(window)
        for proxy in self._struck:
            proxy.rng = random.Random(window.draw)
            self.strike(proxy)
        return who

    def strike(self, proxy: Proxy) -> None:
        raise NotImplementedError

    async def heal(self) -> None:
        for proxy in self._struck:
            proxy.refusing = False
            proxy.delay_s = proxy.jitter_s = proxy.loss = 0.0
            proxy.bytes_per_s = None
            proxy.thaw()


class Partition(_Network):
    """Nothing gets through in either direction, and nobody is told."""

    name = "partition"
    lasts_s = (3.0, 12.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze()


class BriefPartition(_Network):
    """As short as a switch that is replaced: nobody notices, nothing may be missing."""

    name = "partition of 300 ms"
    lasts_s = (0.3, 0.3)
    bound_s = 3.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze()


class Deaf(_Network):
    """The host can send, and hears nothing."""

    name = "one-way partition"
    lasts_s = (3.0, 10.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze("down")


class Mute(_Network):
    """The host hears, and what it sends is lost on the way."""

    name = "other-way partition"
    lasts_s = (3.0, 10.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze("up")


class HalfOpen(_Network):
    """The server has forgotten connections that the host believes in."""

    name = "half-open connections"
    lasts_s = (3.0, 10.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.half_open()


class Reset(_Network):
    """Every connection is reset; new ones are taken at once."""

    name = "connections reset"
    lasts_s = (0.1, 0.5)

    def strike(self, proxy: Proxy) -> None:
        proxy.drop()


class Flapping(_Network):
    """The way is there for a second, and gone for a second, again and again."""

    name = "flapping"
    lasts_s = (4.0, 8.0)
    total = True

    async def inject(self, window: Window) -> str:
        who, self._struck = self._proxies(window)
        self._flaps = asyncio.create_task(self._flap(), name="flapping")
        return who

    async def heal(self) -> None:
        self._flaps.cancel()
        await asyncio.wait((self._flaps,))
        await super().heal()

    async def _flap(self) -> None:
        while True:
            for is_gone in (True, False):
                for proxy in self._struck:
                    proxy.refusing = is_gone
                    if is_gone:
                        proxy.drop()
                await asyncio.sleep(1.0)


class Latency(_Network):
    """100 ± 50 ms, and one packet in a hundred lost, on every way that there is."""

    name = "latency and loss"
    lasts_s = (3.0, 6.0)
    total = True

    def _proxies(self, window: Window) -> tuple[str, list[Proxy]]:
        return "everybody", [proxy for host in self.arena.hosts for proxy in host.proxies]

    def strike(self, proxy: Proxy) -> None:
        proxy.delay_s, proxy.jitter_s, proxy.loss = 0.1, 0.05, 0.01


class Throttle(_Network):
    """One megabit a second."""

    name = "thin line"
    lasts_s = (3.0, 6.0)
    total = True

    def strike(self, proxy: Proxy) -> None:
        proxy.bytes_per_s = 1_000_000 / 8
