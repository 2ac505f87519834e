"""`python -m deploy.helm`: write what the chart has from other sources."""

from __future__ import annotations

from deploy.helm.schema import CHART, SCHEMA, text
from deploy.helm.sources import FILES


def main() -> None:
    """Write the schema of the values, and the objects that are also applied without Helm."""
    SCHEMA.write_text(text(), "utf-8")
    for source in FILES:
        (CHART / "files" / source.name).write_bytes(source.read_bytes())


if __name__ == "__main__":
    main()
