# Intercom's contact.user.created and contact.user.updated. The topic ping, leads and everything else make no customer.

def blank_to_null: if . == "" then null end;

select(.topic | IN("contact.user.created", "contact.user.updated"))
| (.created_at | todate) as $when
| .data.item
| {
    # Your own id of the contact, if Intercom knows it.
    userId: ((.external_id | blank_to_null) // .id),
    timestamp: $when,
    # To pass on your own attributes, write: | drop_nulls) + .custom_attributes
    traits: ({
      email, name, phone,
      createdAt: (.created_at | if . then todate end),
      intercomId: .id,
      address: (.location | if type == "object" then {
        city,
        state: .region,
        country
      } | drop_nulls | if . == {} then null end else null end)
    } | drop_nulls)
  }
