"""Value types of settings. Each has one strict parser; `form` completes the sentence "write ..." in an error."""

from __future__ import annotations

import ipaddress
import re
from typing import ClassVar, Final, Self

from trow.lib.dns_names import LABEL
from trow.lib.times import UNITS

DEFAULT_PORT: Final = 8000
LARGEST_PORT: Final = 65535
_SERVICE: Final = re.compile(rf"({LABEL}/{LABEL})(?::([1-9][0-9]{{0,4}}))?")


class Size(int):
    """A number of bytes."""

    form: ClassVar = "a whole number of bytes, or one with a unit such as 64KiB, 4MiB, 1GiB or 500MB"
    units: ClassVar = {
        "TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10,
        "TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1, "": 1,
    }  # fmt: skip

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"(\d{1,18}) ?([A-Za-z]*)", str(raw), re.ASCII)
        if match is None or match[2] not in cls.units:
            raise ValueError(f"{raw!r} is not a size")
        return cls(int(match[1]) * cls.units[match[2]])

    @property
    def text(self) -> str:
        units = {unit: factor for unit, factor in self.units.items() if unit and self % factor == 0}
        return min((f"{self // factor}{unit}" for unit, factor in units.items()), key=len)


class Duration(float):
    """A number of seconds."""

    form: ClassVar = "a number of seconds, or one with a unit such as 500ms, 30s, 5m, 24h, 7d or 4w"
    units: ClassVar = {**UNITS, "": 1, "ms": 0.001}

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([a-z]*)", str(raw), re.ASCII)
        if match is None or match[2] not in cls.units:
            raise ValueError(f"{raw!r} is not a duration")
        return cls(float(match[1]) * cls.units[match[2]])

    @property
    def text(self) -> str:
        unit = next((unit for unit in "dhm" if self and self % self.units[unit] == 0), "s")
        return f"{self / self.units[unit]:.12g}{unit}"


class Bind(str):
    """HOST:PORT to listen on, always written with its port and with IPv6 addresses in brackets."""

    __slots__ = ()
    form: ClassVar = "HOST:PORT, such as 127.0.0.1:8000, [::]:8000 or localhost:8000; port 0 lets the kernel choose"

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"(?:\[(?P<ip>[^\[\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?", str(raw), re.ASCII)
        if _is_address(str(raw)):
            return cls.of(str(raw), DEFAULT_PORT)
        if not isinstance(raw, str) or match is None or int(match["port"] or 0) > LARGEST_PORT:
            raise ValueError(f"{raw!r} is not an address to listen on")
        if not (_is_address(match["ip"]) if match["ip"] else _is_host(match["host"])):
            raise ValueError(f"{raw!r} names no valid host")
        return cls.of(match["ip"] or match["host"], int(match["port"] or DEFAULT_PORT))

    @classmethod
    def of(cls, host: str, port: int) -> Self:
        return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    @property
    def host(self) -> str:
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])


class ServiceName(str):
    """A Service of a cluster, with its port."""

    __slots__ = ()
    form: ClassVar = "NAMESPACE/NAME or NAMESPACE/NAME:PORT of a Service, such as trow/trow:8443"
    _PORT: ClassVar = 8443

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = _SERVICE.fullmatch(str(raw))
        if not isinstance(raw, str) or match is None or int(match[2] or 0) > LARGEST_PORT:
            raise ValueError(f"{raw!r} names no Service")
        return cls(f"{match[1]}:{match[2] or cls._PORT}")

    @property
    def namespace(self) -> str:
        return self.partition("/")[0]

    @property
    def name(self) -> str:
        return self.partition("/")[2].partition(":")[0]

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])


_POSTGRES: Final = re.compile(
    r"postgres(?:ql)?://(?:[^\s/?#@:]*(?P<password>:[^\s/?#@]*)?@)?[^\s/?#@]*(?:/[^\s?#]*)?(?P<query>(?:\?[^\s#]*)?)",
    re.ASCII,
)


class WebOrigin(str):
    """An origin that browsers may call from; ``*`` is any."""

    __slots__ = ()
    form: ClassVar = "an origin such as https://ui.example.com (scheme, host and port, no path), or *"

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"https?://([^/?#@\s:\[\]]+|\[[^/?#@\s\[\]]+\])(:\d{1,5})?", str(raw), re.ASCII)
        if raw != "*" and match is None:
            raise ValueError(f"{raw!r} is not an origin")
        return cls(str(raw).lower())


class WebUrl(str):
    """An address that Trow itself calls, or is called by: scheme and host, optionally port and path."""

    __slots__ = ()
    form: ClassVar = "a URL such as https://registry.example.com, without user, query or fragment"

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(
            r'https?://([^/?#@\s:\[\]"\\]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[^?#\s"\\]*)?', str(raw), re.ASCII
        )
        if not isinstance(raw, str) or match is None:
            raise ValueError(f"{raw!r} is not a URL")
        return cls(raw.rstrip("/"))


class ExactUrl(WebUrl):
    """A URL that is used just as it is written: names of issuers are compared, and some end with a slash."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Self:
        super().parse(raw)
        return cls(raw)


class PostgresUrl(str):
    """Where a database in PostgreSQL is, without a secret.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """

    __slots__ = ()
    form: ClassVar = "a URL such as postgresql://trow@postgres.example.com:5432/trow, without a password"

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = _POSTGRES.fullmatch(str(raw))
        if not isinstance(raw, str) or match is None:
            raise ValueError("it is not the URL of a database in PostgreSQL")  # without its text: it may have a secret
        if match["password"] is not None or "password" in match["query"].lower():
            raise ValueError("the URL has a password, which others could see; write it into postgres.password_file")
        return cls(raw)

    def says(self, parameter: str) -> bool:
        """Whether the URL sets a parameter of the connection."""
        return any(each.partition("=")[0] == parameter for each in self.partition("?")[2].split("&"))


class Network(str):
    """Addresses of machines, written as CIDR."""

    __slots__ = ()
    form: ClassVar = "an address or network such as 10.0.0.0/8, 192.0.2.7 or fd00::/8"

    @classmethod
    def parse(cls, raw: object) -> Self:
        try:
            return cls(ipaddress.ip_network(str(raw)))
        except ValueError:
            raise ValueError(f"{raw!r} is not a network") from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    # A last label of digits only is a mistyped IPv4 address.
    return _is_address(name) or (
        len(name) < 254  # noqa: PLR2004 (the DNS limit)
        and all(re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", label, re.ASCII) for label in labels)
        and not labels[-1].isdigit()
    )
