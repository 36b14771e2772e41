"""Run by alembic: migrate on the connection that `cellkin.web.store.migrating` gives."""

from __future__ import annotations

from alembic import context

from cellkin.web.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
