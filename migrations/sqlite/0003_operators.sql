-- Who runs platforms. Seals cover every other column of a row; access is encrypted as well.

-- access: the invitation, or the password's hash and the second factor, sealed under the server key. generation grows with
-- every change after which who was signed in must sign in again.
CREATE TABLE account (
    id          BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT    NOT NULL UNIQUE,
    role        TEXT    NOT NULL CHECK (role IN ('viewer', 'manager', 'owner')),
    platform_id BLOB    REFERENCES platform (id),
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER,
    generation  INTEGER NOT NULL,
    access      BLOB    NOT NULL,
    key_id      INTEGER NOT NULL REFERENCES canary (key_id),
    seal        BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT, WITHOUT ROWID;

-- The digest is SHA-256 of 256 random bits: there is nothing to guess.
CREATE TABLE operator_token (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16),
    account_id BLOB    NOT NULL REFERENCES account (id),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    key_id     INTEGER NOT NULL REFERENCES canary (key_id),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT, WITHOUT ROWID;

-- Who is signed in at the console. The id is the SHA-256 of what their browser has; the seal does not cover seen_at, which
-- says when they last asked for anything.
CREATE TABLE operator_session (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 32),
    account_id BLOB    NOT NULL REFERENCES account (id),
    generation INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    key_id     INTEGER NOT NULL REFERENCES canary (key_id),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT, WITHOUT ROWID;
