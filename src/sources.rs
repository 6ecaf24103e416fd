//! Sources: products whose own webhooks are taken at `POST /sources/{name}`.
//!
//! An event's sender is verified (`auth`), a filter of the operator's makes customers of it (`mapping`, in a process of its own),
//! and each customer is then like one of `POST /customers`. A source is data: nothing here knows a product's name.

pub mod mapping;
pub mod settings;
