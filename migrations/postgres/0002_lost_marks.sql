-- As migrations/sqlite has it; what is said there holds here.
DROP TABLE lost_mark;

CREATE TABLE lost_mark (
    mac         bytea  PRIMARY KEY CHECK (octet_length(mac) = 32),
    seq         bigint NOT NULL,
    taken_in_at bigint NOT NULL,
    key_id      bigint NOT NULL REFERENCES canary (key_id),
    seal        bytea  NOT NULL CHECK (octet_length(seal) = 32)
);
