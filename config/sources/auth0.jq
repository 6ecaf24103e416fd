# user.created and user.updated of an Auth0 event stream. user.deleted and everything else make no customer.
# A log stream is another thing: a list of records without a profile.

select(.type | IN("user.created", "user.updated"))
| .time as $when
| .data.object
| {
    userId: .user_id,
    timestamp: $when,
    traits: ({
      email, name, nickname, username,
      emailVerified: .email_verified,
      firstName: .given_name,
      lastName: .family_name,
      phone: .phone_number,
      avatar: .picture,
      createdAt: .created_at
    } | drop_nulls)
  }
