//! Tests of the settings, by subject.

mod admin_token;
mod auth;
mod durations;
mod environment;
mod notify;
mod outbox;
mod postgres_url;
mod proxy;
mod read;
