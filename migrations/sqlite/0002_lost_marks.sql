-- Those that were noted without a proof count no more: anybody who could write here could have said so.
DROP TABLE lost_mark;

-- The last places of histories that were lost, because an older state of the database was put in place of theirs, and that
-- an operator has taken in: a server that had followed such a place may go on. mac is the seal of the entry there, seal the
-- proof that it was an operator.
CREATE TABLE lost_mark (
    mac         BLOB    PRIMARY KEY CHECK (length(mac) = 32),
    seq         INTEGER NOT NULL,
    taken_in_at INTEGER NOT NULL,
    key_id      INTEGER NOT NULL REFERENCES canary (key_id),
    seal        BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT, WITHOUT ROWID;
