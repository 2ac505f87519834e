"""The steps of the audit database's schema; `trow.sql.migrations` says how they are written."""
