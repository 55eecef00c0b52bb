"""What `make bench` measures: each section measures one thing, and writes the table that shows it."""
