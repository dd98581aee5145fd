"""Addresses of private networks, and whether a request may be led to one by others than the job."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from etl.errors import RedirectRefused
from etl.sources import urls

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv6 addresses that lead to one of IPv4, which stands in their last 32 bits (RFC 6052: NAT64; RFC 4291, section
# 2.5.5.1; RFC 2765: translated).
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
_6TO4 = ipaddress.IPv6Network("2002::/16")
# How the last 64 bits begin of an address whose last 32 are one of IPv4 (RFC 5214: ISATAP).
_ISATAP = (0x00005EFE, 0x02005EFE)
# What `is_global` of some versions of Python takes for public: NAT64 of a network's own (RFC 8215), documentation
# (RFC 9637), segment routing (RFC 9602), site-local (RFC 3879), IETF's protocols, where Oracle Cloud has its metadata
# server; and the address at which Azure's agent is asked for secrets (WireServer), which is of a public block.
_MORE: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (
    *map(ipaddress.IPv4Network, ("192.0.0.0/24", "168.63.129.16/32")),
    *map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "3fff::/20", "5f00::/16", "fec0::/10")),
)


def is_private(address: str) -> bool:
    """Say whether an address is one that the internet does not lead to, or that stands for this very machine.

    That is what IANA's registries do not call global: loopback, link-local (where clouds have their metadata servers),
    private (RFC 1918, RFC 4193), shared (RFC 6598), unspecified; multicast; what clouds answer their own machines at;
    and what of IPv6 embeds such an address.
    """
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        low = int(found) & (1 << 64) - 1
        if low >> 32 in _ISATAP and is_private(str(ipaddress.IPv4Address(low & 0xFFFFFFFF))):
            return True
        found = _embedded(found) or found
    return not found.is_global or found.is_multicast or any(found in each for each in _MORE)


def literal(url: str) -> str | None:
    """Return the address that a URL names without a name; None: its host is a name.

    As the C library reads it: `127.1`, `0x7f000001`, `2130706433` and `0177.0.0.1` are `127.0.0.1`; `localhost` is
    that by RFC 6761.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    with suppress(ValueError):
        return str(ipaddress.ip_address(host.partition("%")[0]))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


class Hops:
    """The way of one request through redirects, and where it may lead.

    The job's own URLs are asked for wherever they are. A server that redirects must not choose an address for the job
    that it could not reach itself, unless the URL that led to it is in a private network, too; nor may a name that had
    a public address get a private one while the job runs.

    Args:
        allow_private: whether redirects may lead anywhere.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._own: dict[
            tuple[str, int | None], bool
        ] = {}  # of each own host and port, whether it was private
        self._url = self._shown = ""
        self._hop = 0
        self._from_private = False

    def begin(self, url: str, shown: str) -> None:
        """Ask for a URL of the job's own."""
        self._url, self._shown, self._hop = url, shown, 0

    def follow(self, url: str, shown: str) -> None:
        """Follow a redirect."""
        self._url, self._shown = url, shown
        self._hop += 1

    def may_connect(self, address: str, *, proxied: bool) -> None:
        """See that a request may go to an address; nothing was sent there yet.

        Args:
            address: where the connection leads.
            proxied: that is a proxy, which resolves the name itself: only what the URL names by number is known.

        Raises:
            RedirectRefused: it may not.
        """
        if self._allow_private:
            return
        target = literal(self._url) if proxied else address
        if target is None or not is_private(target):
            return
        parts = urlsplit(self._url)
        if self._hop and not self._from_private:
            raise RedirectRefused(
                f"{self._shown}: hop {self._hop} of its redirects leads to {urls.without_credentials(self._url)}, "
                f"whose address {target} is in a private network, where the job's own URL is not: nothing was sent "
                "there. Name that URL in the job if it is the right one, or set allow_private = true"
            )
        if not self._hop and self._own.get((parts.hostname or "", parts.port)) is False:
            raise RedirectRefused(
                f"{self._shown}: its host had a public address before, and has {target} now, which is in a private "
                "network: nothing was sent there. See who runs its name server; or set allow_private = true"
            )

    def connected(self, address: str, *, proxied: bool) -> None:
        """See that a request may be sent over a connection that is made; as `may_connect`."""
        self.may_connect(address, proxied=proxied)
        if self._hop == 0:
            target = literal(self._url) if proxied else address
            self._from_private = target is not None and is_private(target)
            parts = urlsplit(self._url)
            self._own.setdefault((parts.hostname or "", parts.port), self._from_private)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the address of IPv4 that one of IPv6 leads to; None: none."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _6TO4:
        return address.sixtofour
    if any(address in network for network in _EMBEDDING) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.teredo[1] if address.teredo is not None else None
