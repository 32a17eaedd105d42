-- Versions of registered prompts. Rows are never deleted, and what a version says never changes: only
-- that it should not be used any more. `changed` is the revision of `prompts` (table `revisions`) that
-- the last change of a row made: who has read all up to one revision reads what has a higher one.
CREATE TABLE prompt_versions (
    prompt TEXT NOT NULL,
    version TEXT NOT NULL,
    hash TEXT NOT NULL,
    content TEXT NOT NULL,
    origin TEXT NOT NULL,
    deprecated_at TEXT,
    deprecation_reason TEXT,
    changed INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (prompt, version)
) STRICT;

CREATE INDEX prompt_versions_changed ON prompt_versions (changed);

-- What labels stand for. One that was deleted keeps its row, without a version, so that a file does
-- not bring it back.
CREATE TABLE prompt_labels (
    prompt TEXT NOT NULL,
    label TEXT NOT NULL,
    version TEXT,
    is_protected INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (prompt, label)
) STRICT;

CREATE INDEX prompt_labels_changed ON prompt_labels (changed);

-- Every change of every label.
CREATE TABLE prompt_label_changes (
    prompt TEXT NOT NULL,
    label TEXT NOT NULL,
    changed INTEGER NOT NULL,
    version TEXT,
    is_protected INTEGER NOT NULL,
    is_forced INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (prompt, label, changed)
) STRICT;
