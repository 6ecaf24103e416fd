# Shopify's customers/create and customers/update. Every other topic makes no customer: not the privacy topics either
# (customers/redact, customers/data_request, shop/redact), which each app gets at the same address.

# Money is a text. `tonumber?` alone is without a value for "" and for what is no number, and the customer with it.
def number: if type == "string" then (first(tonumber?) // null) end;

select(header("x-shopify-topic") | IN("customers/create", "customers/update"))
| {
    # Ids may be over 2^53. They keep their digits.
    userId: (.id | tostring),
    timestamp: .updated_at,
    traits: ({
      email, phone,
      firstName: .first_name,
      lastName: .last_name,
      createdAt: .created_at,
      ordersCount: .orders_count,
      totalSpent: (.total_spent | number),
      currency,
      tags: (.tags | if type == "string" then split(", ") end),
      address: (.default_address | if . then {
        street: ([.address1, .address2 | select(. != null and . != "")] | join(", ")),
        city,
        state: .province_code,
        postalCode: .zip,
        country: .country_code
      } | drop_nulls end)
    } | drop_nulls)
  }
