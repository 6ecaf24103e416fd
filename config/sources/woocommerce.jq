# WooCommerce's customer.created and customer.updated. What is not known is "" there, and is left out here.

# Times are without a zone. Those that end with _gmt are UTC.
def utc: if type == "string" and . != "" then . + "Z" else null end;
# Money is a text. `tonumber?` alone is without a value for "", and the customer with it.
def number: if type == "string" then (first(tonumber?) // null) end;
def drop_blanks: with_entries(select(.value != null and .value != "" and .value != {}));

select(header("x-wc-webhook-topic") | IN("customer.created", "customer.updated"))
| {
    userId: (.id | tostring),
    timestamp: (.date_modified_gmt // .date_created_gmt | utc),
    traits: ({
      email,
      firstName: .first_name,
      lastName: .last_name,
      username,
      phone: .billing.phone,
      avatar: .avatar_url,
      createdAt: (.date_created_gmt | utc),
      isPayingCustomer: .is_paying_customer,
      ordersCount: .orders_count,
      totalSpent: (.total_spent | number),
      company: ({ name: .billing.company } | drop_blanks),
      address: (.billing | {
        street: ([.address_1, .address_2 | select(. != null and . != "")] | join(", ")),
        city: .city,
        state: .state,
        postalCode: .postcode,
        country: .country
      } | drop_blanks)
    } | drop_blanks)
  }
