-- Many tokens that an operator ends by one command, as migrations/sqlite has it; what is said there holds here.
CREATE TABLE bulk_revoke (
    id         uuid   PRIMARY KEY,
    operator   text   NOT NULL,
    source     text   NOT NULL,
    search     text   NOT NULL,
    expected   bigint NOT NULL,
    created_at bigint NOT NULL,
    place      uuid,
    ended      bigint NOT NULL,
    state      text   NOT NULL CHECK (state IN ('running', 'finished', 'stopped')),
    over_at    bigint,
    key_id     bigint NOT NULL REFERENCES canary (key_id),
    seal       bytea  NOT NULL CHECK (octet_length(seal) = 32)
);

CREATE INDEX bulk_revoke_running ON bulk_revoke (id) WHERE over_at IS NULL;
