"""Everything that takes time is a job: a folder with one lock, one status, one wish to stop, one log."""
