# Chargebee's customer_created and customer_changed. customer_deleted and everything else make no customer.

select(.event_type | IN("customer_created", "customer_changed"))
| (.occurred_at | todate) as $when
| .content.customer
| {
    userId: .id,
    timestamp: $when,
    traits: ({
      email, phone,
      firstName: .first_name,
      lastName: .last_name,
      createdAt: (.created_at | if . then todate end),
      company: (.company | if . then { name: . } end),
      autoCollection: .auto_collection,
      address: (.billing_address | if . then {
        street: ([.line1, .line2, .line3 | select(. != null and . != "")] | join(", ")),
        city,
        state: (.state_code // .state),
        postalCode: .zip,
        country
      } | drop_nulls end)
    } | drop_nulls)
  }
