-- The authority's records, as migrations/sqlite has them; what is said there holds here. Ids are uuids, whose order is that
-- of their bytes. Two tables more: feed and node, for what a file's locks do there.

CREATE TABLE installation (
    one        bigint PRIMARY KEY CHECK (one = 1),
    id         bytea  NOT NULL CHECK (octet_length(id) = 16),
    created_at bigint NOT NULL
);

CREATE TABLE canary (
    key_id     bigint PRIMARY KEY,
    mac        bytea  NOT NULL CHECK (octet_length(mac) = 32),
    retired_at bigint
);

CREATE TABLE platform (
    id          uuid   PRIMARY KEY,
    name        text   NOT NULL,
    created_at  bigint NOT NULL,
    disabled_at bigint,
    key_id      bigint NOT NULL REFERENCES canary (key_id),
    seal        bytea  NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE TABLE token (
    id          uuid    PRIMARY KEY,
    platform_id uuid    NOT NULL REFERENCES platform (id),
    environment text    NOT NULL CHECK (environment IN ('sandbox', 'production')),
    name        text    NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    permissions text    NOT NULL CHECK (permissions <> ''),
    issuer      text    NOT NULL CHECK (issuer IN ('operator_issued', 'platform_self_service')),
    revocable   boolean NOT NULL,
    revoked_at  bigint  CHECK (revoked_at >= 0),
    key_id      bigint  NOT NULL REFERENCES canary (key_id),
    proof       bytea   NOT NULL CHECK (octet_length(proof) = 68)
);

CREATE INDEX token_of_scope      ON token (platform_id, environment, id);
CREATE INDEX token_live_of_scope ON token (platform_id, environment, id, revoked_at)       WHERE revoked_at IS NULL;
CREATE INDEX token_live_of_name  ON token (platform_id, environment, name, id, revoked_at) WHERE revoked_at IS NULL;

CREATE TABLE counted_name (
    id          bigint PRIMARY KEY CHECK (id > 0),
    platform_id uuid   NOT NULL,
    environment text   NOT NULL,
    name        text   NOT NULL,
    UNIQUE (platform_id, environment, name)
);

-- A text in a key is ordered by its bytes, as SQLite orders it, whatever this database's own order is.
CREATE TABLE live_count (
    platform_id uuid   NOT NULL,
    environment text   COLLATE "C" NOT NULL,
    name_id     bigint NOT NULL,
    shift       bigint NOT NULL,
    bucket      bigint NOT NULL,
    live        bigint NOT NULL,
    PRIMARY KEY (platform_id, environment, name_id, shift, bucket)
);

CREATE TABLE operations (
    one       bigint PRIMARY KEY CHECK (one = 1),
    document  text   NOT NULL,
    loaded_at bigint NOT NULL,
    key_id    bigint NOT NULL REFERENCES canary (key_id),
    seal      bytea  NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE TABLE token_use (
    token_id     uuid   PRIMARY KEY REFERENCES token (id),
    last_used_at bigint NOT NULL
);

CREATE TABLE use_quarter (
    quarter  bigint NOT NULL,
    token_id uuid   NOT NULL REFERENCES token (id),
    minutes  bytea  NOT NULL CHECK (octet_length(minutes) = 60),
    PRIMARY KEY (quarter, token_id)
);

CREATE TABLE use_day (
    day      bigint NOT NULL,
    token_id uuid   NOT NULL REFERENCES token (id),
    uses     bigint NOT NULL CHECK (uses > 0),
    PRIMARY KEY (day, token_id)
);

-- No sequence gives the numbers: they are taken from the row of feed, by the transaction that uses them.
CREATE TABLE audit (
    seq         bigint PRIMARY KEY,
    at          bigint NOT NULL,
    action      text   NOT NULL,
    actor       text   NOT NULL,
    platform_id uuid,
    environment text,
    token_id    uuid,
    request_id  text   NOT NULL,
    source      text   NOT NULL,
    node        text   NOT NULL,
    detail      text   NOT NULL,
    key_id      bigint NOT NULL REFERENCES canary (key_id),
    seal        bytea  NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE INDEX audit_of_platform ON audit (platform_id, seq) WHERE platform_id IS NOT NULL;
CREATE INDEX audit_of_token    ON audit (token_id, seq)    WHERE token_id IS NOT NULL;

CREATE TABLE audit_checkpoint (
    seq        bigint  PRIMARY KEY CHECK (seq > 0),
    entry_seal bytea   NOT NULL CHECK (octet_length(entry_seal) = 32),
    peaks      bytea   NOT NULL,
    pruned     boolean NOT NULL,
    key_id     bigint  NOT NULL REFERENCES canary (key_id),
    seal       bytea   NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE TABLE lost_mark (
    seal        bytea  PRIMARY KEY CHECK (octet_length(seal) = 32),
    seq         bigint NOT NULL,
    taken_in_at bigint NOT NULL
);

CREATE TABLE replay (
    id         bytea  PRIMARY KEY CHECK (octet_length(id) = 32),
    request    bytea  NOT NULL CHECK (octet_length(request) = 32),
    token_id   uuid   NOT NULL REFERENCES token (id),
    secret     bytea,
    created_at bigint NOT NULL
);

CREATE INDEX replay_by_age ON replay (created_at);

CREATE TABLE hold (
    one    bigint PRIMARY KEY CHECK (one = 1),
    reason text   NOT NULL
);

-- The last place of the feed, with its seal. Whoever changes anything locks this row first and keeps it to the commit, so the
-- order of places is the order in which they become visible.
CREATE TABLE feed (
    one  bigint PRIMARY KEY CHECK (one = 1),
    seq  bigint NOT NULL,
    seal bytea  NOT NULL CHECK (octet_length(seal) = 32)
);
INSERT INTO feed (one, seq, seal) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

-- The processes that may answer from memory: for how many milliseconds each believes it, for how many where it can't reach
-- the database (0: for none longer), and up to which place of the feed it has followed. suspect names whoever is about to
-- remove a row whose process seems to be gone; a process that finds it in its own takes it out again.
CREATE TABLE node (
    id       text   PRIMARY KEY,
    lease    bigint NOT NULL,
    stale    bigint NOT NULL,
    followed bigint NOT NULL,
    seen_at  bigint NOT NULL,
    suspect  text
);
