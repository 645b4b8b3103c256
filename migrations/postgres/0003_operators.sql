-- Who runs platforms, as migrations/sqlite has it; what is said there holds here.

CREATE TABLE account (
    id          uuid   PRIMARY KEY,
    name        text   NOT NULL UNIQUE,
    role        text   NOT NULL CHECK (role IN ('viewer', 'manager', 'owner')),
    platform_id uuid   REFERENCES platform (id),
    created_at  bigint NOT NULL,
    disabled_at bigint,
    generation  bigint NOT NULL,
    access      bytea  NOT NULL,
    key_id      bigint NOT NULL REFERENCES canary (key_id),
    seal        bytea  NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE TABLE operator_token (
    id         uuid   PRIMARY KEY,
    account_id uuid   NOT NULL REFERENCES account (id),
    name       text   NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    digest     bytea  NOT NULL CHECK (octet_length(digest) = 32),
    key_id     bigint NOT NULL REFERENCES canary (key_id),
    seal       bytea  NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE TABLE operator_session (
    id         bytea  PRIMARY KEY CHECK (octet_length(id) = 32),
    account_id uuid   NOT NULL REFERENCES account (id),
    generation bigint NOT NULL,
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    key_id     bigint NOT NULL REFERENCES canary (key_id),
    seal       bytea  NOT NULL CHECK (octet_length(seal) = 32)
);
