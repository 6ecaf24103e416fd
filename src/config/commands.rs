//! Settings that commands read alone: they need no others.

use super::environment::{Environment, Problems};
use super::place::OutboxPlace;
use super::settings::variables;
use super::table;
use super::value::Secret;

/// The admin token of the running service. The command `dead-letters` needs no other setting but the address.
///
/// # Errors
/// If `RELAY_ADMIN_TOKEN` is missing or wrong.
pub fn admin_token_from_environment() -> Result<Secret, Problems> {
    let mut environment = Environment::new(variables());
    if !environment.is_set(&table::RELAY_ADMIN_TOKEN) {
        environment.add_problem(&table::RELAY_ADMIN_TOKEN, "required: the token that the running relay was given");
    }
    let token = environment.read(&table::RELAY_ADMIN_TOKEN);
    environment.finish(token)
}

/// The place of the outbox. The command `move` needs no other setting.
///
/// # Errors
/// If `RELAY_OUTBOX_URL` is missing or wrong.
pub fn outbox_place_from_environment() -> Result<OutboxPlace, Problems> {
    let mut environment = Environment::new(variables());
    if !environment.is_set(&table::RELAY_OUTBOX_URL) {
        environment.add_problem(&table::RELAY_OUTBOX_URL, "required, or --to");
    }
    let place = environment.read(&table::RELAY_OUTBOX_URL);
    environment.finish(place)
}
