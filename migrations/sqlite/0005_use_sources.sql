-- Where tokens were used from: the addresses of their last uses, so many of each token. Not sealed, as no use is.

-- address: its 4 or 16 bytes, so that each has one form. first_at is that of the uses since when the row is there, last_at that of
-- the last one that was noted, which happens once an hour.
CREATE TABLE use_source (
    token_id BLOB    NOT NULL REFERENCES token (id),
    address  BLOB    NOT NULL CHECK (length(address) IN (4, 16)),
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (token_id, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX use_source_by_age ON use_source (last_at);
