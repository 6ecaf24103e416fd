# Zendesk's user.created and user.name_changed. What is not known is "" or "0" there, and is left out here. user.deleted and
# everything else make no customer.

def known: if . == "" or . == "0" then null end;

select(.type | IN("zen:event-type:user.created", "zen:event-type:user.name_changed"))
| {
    # Your own id of the user, if Zendesk knows it.
    userId: ((.detail.external_id | known) // .detail.id | tostring),
    timestamp: .time,
    traits: ({
      email: (.detail.email | known),
      name: (if (.event | type) != "object" then null
        elif .type == "zen:event-type:user.name_changed" then .event.current
        else .event.name end | known),
      createdAt: (.detail.created_at | known),
      zendeskId: (.detail.id | tostring),
      zendeskRole: .detail.role,
      zendeskOrganization: (.detail.organization_id | known)
    } | drop_nulls)
  }
