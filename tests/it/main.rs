//! The one integration test binary. Folders mirror URLs, or the listener that is no URL's; what cuts across them has a file
//! of its own.
//!
//! Tests are named after the criteria that they hold (`z_02_…`). Time is a manual clock and entropy is seeded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod support;

mod blips; // POST, GET /blips/tokens…
mod console; // what operators see in a browser, on the admin listener
mod ext_authz; // what Envoy asks over gRPC
mod grid; // POST, GET, DELETE /grid/2025-10-13/tokens…
mod postgres; // what only PostgreSQL does, on clusters of their own
mod v1; // what programs of operators ask, on the admin listener

mod assertion; // what upstreams check
mod attempts; // attempts that fail too often
mod audit; // who did what
mod bench; // what a user measures
mod bulk; // many ended by one command
mod cli; // the built program
mod copying; // backup, restore, moving to another database
mod credential; // what proves somebody, and what does not
mod doctor; // what is wrong with an installation
mod documents; // what documents name is there
mod embedded; // the library in another service
mod failure; // what is below fails
mod hostile; // inputs that want to break something
mod idempotency; // creates that are repeated
mod integrity; // edited rows, wrong keys
mod keys; // changing the server key
mod layering; // who may use whom, and other facts about the source
mod listing; // pages, cursors, totals
mod loss; // the database cannot be reached
mod metrics; // what is counted and measured
mod operators; // who may act as one
mod packaging; // what a release consists of
mod permission; // the matrix
mod plain;
mod processes; // several on one data directory
mod proven; // the audit log that proves itself
mod published; // documents, reference page, routes
mod remote; // commands that ask a server elsewhere
mod restore;
mod revocation; // an end is an end
mod rewound; // what was under way when the database went back
mod rows; // hostile bytes over a raw socket, row by row
mod search; // looking for tokens, as operators do
mod secrets; // nowhere but in the 201
mod sources; // where tokens are used from
mod tampering; // with the database, and without the key
mod traces; // what a collector is sent
mod uses; // counted in memory, added up in the database
mod verify; // what gateways ask
mod wire; // raw sockets against the real listener
