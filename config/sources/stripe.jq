# Stripe's customer.created and customer.updated. Thin events (v2) hold no customer: choose snapshot events for the endpoint.

select(.type | IN("customer.created", "customer.updated"))
| (.created | todate) as $when
| .data.object
| {
    # If your own id is in the customer's metadata, say so here: (.metadata.user_id // .id).
    userId: .id,
    timestamp: $when,
    traits: ({
      email, name, phone, description,
      createdAt: (.created | todate),
      currency,
      delinquent,
      address: (.address | if . then {
        street: ([.line1, .line2 | select(. != null and . != "")] | join(", ")),
        city, state,
        postalCode: .postal_code,
        country
      } | drop_nulls end)
    } | drop_nulls)
  }
