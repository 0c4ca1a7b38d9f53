"""Pictures and files from disk and to it; checks of settings."""
