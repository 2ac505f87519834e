"""The steps of the registry's schema; `trow.sql.migrations` says how they are written."""
