"""The schema: Alembic migrations (forward only) and the analyst views, found wherever the package is installed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

# Modules that migrations import have moved; registries recorded the digests of the former text.
_MOVED_IMPORTS = {"from registry.db.database import": "from registry.database import"}


@dataclass(frozen=True)
class SchemaFile:
    """One file that shapes the database: a migration (its name starts with the revision) or a view."""

    name: str
    text: str

    @property
    def revision(self) -> str:
        """The part of the name before the first underscore."""
        return self.name.partition("_")[0]

    @property
    def sha256(self) -> str:
        """Digest of the text as it was released, by which a file changed after it was applied is noticed."""
        text = self.text
        for now, then in _MOVED_IMPORTS.items():
            text = text.replace(now, then)
        return hashlib.sha256(text.encode()).hexdigest()


def migrations_folder() -> Path:
    """Return Alembic's script location."""
    return Path(str(files(__name__) / "migrations"))


def migrations() -> tuple[SchemaFile, ...]:
    """Return every migration in the order in which they apply."""
    return _schema_files(migrations_folder() / "versions", "[0-9]*.py")


def views() -> tuple[SchemaFile, ...]:
    """Return every analyst view; each file holds one SELECT in standard SQL and is named after its view."""
    return _schema_files(Path(str(files(__name__) / "views")), "*.sql")


def _schema_files(folder: Path, pattern: str) -> tuple[SchemaFile, ...]:
    found = sorted(folder.glob(pattern))
    return tuple(SchemaFile(file.stem, file.read_text(encoding="utf-8")) for file in found)
