-- Many tokens that an operator ends by one command: whichever server is at it goes on from place, which is written, with
-- how many it has ended, in the transaction that ends them. The seal covers every other column.
CREATE TABLE bulk_revoke (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16),
    operator   TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    search     TEXT    NOT NULL,
    expected   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    place      BLOB,
    ended      INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('running', 'finished', 'stopped')),
    over_at    INTEGER,
    key_id     INTEGER NOT NULL REFERENCES canary (key_id),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT, WITHOUT ROWID;

CREATE INDEX bulk_revoke_running ON bulk_revoke (id) WHERE over_at IS NULL;
