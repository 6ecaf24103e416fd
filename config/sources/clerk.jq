# Clerk's user.created and user.updated. user.deleted and everything about sessions and organisations make no customer.

# Milliseconds as RFC 3339. Through a fraction of a second one would be lost here and there.
def time: (. / 1000 | floor | todate | rtrimstr("Z")) + "." + ("00\(. % 1000)" | .[-3:]) + "Z";

# The entry with this id, of a list that may be null. `first` alone would be without a value if there is none, and the
# customer with it.
def entry($id): first(.[]? | select(.id == $id)) // null;

select(.type | IN("user.created", "user.updated"))
| .data
| {
    # If you gave your users ids of your own, say so here: (.external_id // .id).
    userId: .id,
    timestamp: (.updated_at | time),
    traits: ({
      email: (.primary_email_address_id as $id | .email_addresses | entry($id) | .email_address),
      phone: (.primary_phone_number_id as $id | .phone_numbers | entry($id) | .phone_number),
      firstName: .first_name,
      lastName: .last_name,
      username,
      avatar: .image_url,
      createdAt: (.created_at | time)
    } | drop_nulls)
  }
