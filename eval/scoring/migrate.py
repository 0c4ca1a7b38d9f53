"""Moved to `diffedit.runs.migrate`."""

from diffedit.runs.migrate import migrate_config, migrate_record

__all__ = ["migrate_config", "migrate_record"]
