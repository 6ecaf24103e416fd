//! Customers to send.

use serde_json::{Value, json};

/// A good customer: the example of the README.
pub fn ada() -> Value {
    json!({
        "userId": "c-1042",
        "traits": {
            "email": "ada@example.com",
            "name": "Ada Lovelace",
            "address": {"street": "12 St James Sq", "city": "London", "postalCode": "SW1Y", "country": "GB"},
            "plan": "pro"
        }
    })
}

/// Another good customer.
pub fn customer(user_id: &str) -> Value {
    json!({"userId": user_id, "traits": {"plan": "pro"}})
}
