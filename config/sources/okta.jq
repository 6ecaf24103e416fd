# Okta's user.lifecycle.create and user.account.update_profile: one or many events in a request, each with the users it is
# about. They name a user, but not what changed. Deactivations and everything else make no customer.

.data.events[]
| select(.eventType | IN("user.lifecycle.create", "user.account.update_profile"))
| . as $event
| .target[]?
| select(.type == "User")
| {
    userId: .id,
    messageId: "okta-\($event.uuid)-\(.id)",
    timestamp: $event.published,
    traits: ({
      # The login, which is an e-mail address in most organisations.
      email: (.alternateId | if type == "string" and contains("@") then . else null end),
      username: .alternateId,
      name: .displayName,
      createdAt: (if $event.eventType == "user.lifecycle.create" then $event.published else null end)
    } | drop_nulls)
  }
