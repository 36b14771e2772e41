"""The history of the schema, one file in `versions/` per change, run by alembic."""
