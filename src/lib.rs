//! Countersign: the API token authority of a platform.
//!
//! It issues, lists, shows, verifies and ends the tokens (`clientId:clientSecret`) with which a platform's customers
//! call its API. Two published token APIs, Grid and Blips, are dialects over one core.
//!
//! # A tour
//!
//! - [`domain`]: the words. A [`domain::Token`], its [`domain::Permissions`], a [`domain::Presented`] credential, a
//!   proven [`domain::Caller`]. Pure.
//! - [`authority`]: the use cases, as methods of [`authority::Authority`]; and the resident index, which proves any
//!   credential in memory and still knows of every change anywhere.
//! - [`verifier`], `layer`: proving credentials inside another Rust service, as a call and as a tower layer.
//! - `store`: the durable side, SQLite. A change and its audit entry are committed together.
//! - `openapi`: what is read of a platform's own OpenAPI document, by commands and by the console.
//! - `http`: the two dialects and the operators' pages, over an accept loop of our own.
//! - `cli`: the commands. Each calls the same authority.
//!
//! Direction: `cli` → `http` → `authority` → `store` → `domain`; a test holds it. The upper two are there with the feature
//! `server`, which is on by default. A service that embeds the authority leaves it out, and has `layer` with `tower`.

#![forbid(unsafe_code)]

pub mod authority;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
mod client;
#[cfg(feature = "server")]
pub mod config;
mod defect;
pub mod domain;
mod files;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "tower")]
pub mod layer;
mod measure;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod openapi;
#[cfg(feature = "tower")]
mod refusal;
mod spans;
mod store;
#[cfg(feature = "server")]
mod telemetry;
pub mod verifier;
