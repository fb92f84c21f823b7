"""All that is kept about an owner, for the owner to take along: everything but the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary, select

from models.session import metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection


def export(connection: Connection, owner: str) -> dict[str, list[dict[str, Any]]]:
    """Table to the owner's rows, for each table that has an `owner`. Sealed columns are left out."""
    return {
        table.name: [
            dict(row._mapping)
            for row in connection.execute(
                select(*(column for column in table.c if not isinstance(column.type, LargeBinary)))
                .where(table.c.owner == owner)
                .order_by(*table.primary_key)
            )
        ]
        for table in metadata.sorted_tables
        if "owner" in table.c
    }
