//! segment-relay takes customers from webhooks, passes them to Segment, and answers with the truth about what happened.

pub mod customer;

pub mod sandbox;
