"""What a run says: on the console and in files."""
