# Paddle's customer.created and customer.updated. Addresses and businesses come in events of their own, and make no customer.

select(.event_type | IN("customer.created", "customer.updated"))
| .occurred_at as $when
| .data
| {
    # If your own id is in the customer's custom data, say so here: (.custom_data.user_id // .id).
    userId: .id,
    timestamp: $when,
    traits: ({
      email, name, locale, status,
      createdAt: .created_at,
      marketingConsent: .marketing_consent
    } | drop_nulls)
  }
