-- The authority's records. Times are milliseconds since 1970; enums are stored by name; ids are 16 bytes.
-- A seal covers every other column of its row: a row edited here is refused, and reported, by the server.

-- The installation: one row, made with the database, so that a key file of another installation is recognised.
CREATE TABLE installation (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         BLOB    NOT NULL CHECK (length(id) = 16),
    created_at INTEGER NOT NULL
) STRICT;

-- One canary for each key that may have sealed a row: a wrong or missing key is found at start, not by the first refusal.
-- From retired_at on nothing is accepted or made anew that the key has sealed.
CREATE TABLE canary (
    key_id     INTEGER PRIMARY KEY,
    mac        BLOB    NOT NULL CHECK (length(mac) = 32),
    retired_at INTEGER
) STRICT;

CREATE TABLE platform (
    id          BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER,
    key_id      INTEGER NOT NULL REFERENCES canary (key_id),
    seal        BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT, WITHOUT ROWID;

-- The id is a UUIDv7: it says when the token was created, so the order of ids is the order of creation and every index
-- ends in it. Nothing changes a live token, so it was last updated when it was revoked, or else created. The proof is all
-- that the server key made: 4 bytes of the clientId, 32 of the secret's digest, 32 of the seal; one value, because a page
-- reads a hundred. A rowid table, because in a tree of such long rows looking up each costs more.
CREATE TABLE token (
    id          BLOB    PRIMARY KEY CHECK (length(id) = 16),
    platform_id BLOB    NOT NULL REFERENCES platform (id),
    environment TEXT    NOT NULL CHECK (environment IN ('sandbox', 'production')),
    name        TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    permissions TEXT    NOT NULL CHECK (permissions <> ''),
    issuer      TEXT    NOT NULL CHECK (issuer IN ('operator_issued', 'platform_self_service')),
    revocable   INTEGER NOT NULL CHECK (revocable IN (0, 1)),
    revoked_at  INTEGER CHECK (revoked_at >= 0),
    key_id      INTEGER NOT NULL REFERENCES canary (key_id),
    proof       BLOB    NOT NULL CHECK (length(proof) = 68)
) STRICT;

-- revoked_at is always null in the last two; it stands in them so that counting reads nothing but the index.
CREATE INDEX token_of_scope      ON token (platform_id, environment, id);
CREATE INDEX token_live_of_scope ON token (platform_id, environment, id, revoked_at)       WHERE revoked_at IS NULL;
CREATE INDEX token_live_of_name  ON token (platform_id, environment, name, id, revoked_at) WHERE revoked_at IS NULL;

-- Names that so many live tokens have that counting them row by row takes too long; made when one is first asked for.
CREATE TABLE counted_name (
    id          INTEGER PRIMARY KEY CHECK (id > 0),
    platform_id BLOB    NOT NULL,
    environment TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    UNIQUE (platform_id, environment, name)
) STRICT;

-- Live tokens by when they were created, in buckets of 2^shift ms, so that a total over any span adds up a few
-- hundred small rows however many tokens there are. Shift 63 has one bucket: everything. name_id 0 counts all names.
CREATE TABLE live_count (
    platform_id BLOB    NOT NULL,
    environment TEXT    NOT NULL,
    name_id     INTEGER NOT NULL,
    shift       INTEGER NOT NULL,
    bucket      INTEGER NOT NULL,
    live        INTEGER NOT NULL,
    PRIMARY KEY (platform_id, environment, name_id, shift, bucket)
) STRICT, WITHOUT ROWID;

-- The operations of the platform's API that are in force, as one document: a request sees them all as they are, or as
-- they were.
CREATE TABLE operations (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    document  TEXT    NOT NULL,
    loaded_at INTEGER NOT NULL,
    key_id    INTEGER NOT NULL REFERENCES canary (key_id),
    seal      BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT;

-- When a token was last used. Apart, because use is no change: nothing here is sealed, and noting it moves no index.
CREATE TABLE token_use (
    token_id     BLOB    PRIMARY KEY REFERENCES token (id),
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How often, by minute and by day. Quarters of hours and days are numbered since 1970, in UTC; minutes are 15 counters of
-- 4 bytes, the least significant first. The time comes first in the keys: what is written together lies together, and so
-- does what is forgotten.
CREATE TABLE use_quarter (
    quarter  INTEGER NOT NULL,
    token_id BLOB    NOT NULL REFERENCES token (id),
    minutes  BLOB    NOT NULL CHECK (length(minutes) = 60),
    PRIMARY KEY (quarter, token_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE use_day (
    day      INTEGER NOT NULL,
    token_id BLOB    NOT NULL REFERENCES token (id),
    uses     INTEGER NOT NULL CHECK (uses > 0),
    PRIMARY KEY (day, token_id)
) STRICT, WITHOUT ROWID;

-- The audit log is the change feed: one writer at a time gives the numbers, without a gap, in the order of commits. The
-- seal of an entry covers its values and the seal of the entry before: no two histories have the same one anywhere.
CREATE TABLE audit (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    actor       TEXT    NOT NULL,
    platform_id BLOB,
    environment TEXT,
    token_id    BLOB,
    request_id  TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    node        TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    key_id      INTEGER NOT NULL REFERENCES canary (key_id),
    seal        BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT;

CREATE INDEX audit_of_platform ON audit (platform_id, seq) WHERE platform_id IS NOT NULL;
CREATE INDEX audit_of_token    ON audit (token_id, seq)    WHERE token_id IS NOT NULL;

-- The log up to a place, in short: the seal of the entry there, and the peaks of the tree of hashes over the lines up to it.
-- Where it is pruned, those entries are gone, and the log begins behind them. Its seal covers all of it.
CREATE TABLE audit_checkpoint (
    seq        INTEGER PRIMARY KEY CHECK (seq > 0),
    entry_seal BLOB    NOT NULL CHECK (length(entry_seal) = 32),
    peaks      BLOB    NOT NULL,
    pruned     INTEGER NOT NULL CHECK (pruned IN (0, 1)),
    key_id     INTEGER NOT NULL REFERENCES canary (key_id),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT;

-- The last places of histories that were lost, because an older state of the database was put in place of theirs, and that
-- an operator has taken in: a server that had followed such a place may go on.
CREATE TABLE lost_mark (
    seal        BLOB    PRIMARY KEY CHECK (length(seal) = 32),
    seq         INTEGER NOT NULL,
    taken_in_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Creates that may be repeated. id and request are keyed digests; the secret opens only with the Idempotency-Key,
-- which is not stored.
CREATE TABLE replay (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 32),
    request    BLOB    NOT NULL CHECK (length(request) = 32),
    token_id   BLOB    NOT NULL REFERENCES token (id),
    secret     BLOB,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX replay_by_age ON replay (created_at);

-- Why nothing may be served from this database, where that is so: it is a copy that is not whole, a backup, or was moved
-- elsewhere. One row or none; no process starts on one that has it.
CREATE TABLE hold (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    reason TEXT    NOT NULL
) STRICT;
