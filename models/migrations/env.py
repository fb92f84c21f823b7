"""Alembic's entry: `models.migrate` hands over the connection, inside its transaction."""

from alembic import context

# Their tables are in the metadata.
from models import (  # noqa: F401
    api_keys,
    consent,
    events,
    grants,
    imports,
    pulses,
    signin_links,
    signins,
    spares,
    surveys,
    tallies,
    webhooks,
)
from models.session import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,
)
context.run_migrations()
