-- Where tokens were used from, as migrations/sqlite has it; what is said there holds here.

CREATE TABLE use_source (
    token_id uuid   NOT NULL REFERENCES token (id),
    address  bytea  NOT NULL CHECK (octet_length(address) IN (4, 16)),
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL,
    PRIMARY KEY (token_id, address)
);

CREATE INDEX use_source_by_age ON use_source (last_at);
