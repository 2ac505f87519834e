"""What happens in the database, free of any driver, by what it is about."""
