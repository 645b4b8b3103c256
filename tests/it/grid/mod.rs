//! `/grid/2025-10-13/tokens`

mod create;
mod end;
mod list;
mod read;
