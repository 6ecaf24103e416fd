# HubSpot's contact.creation and contact.propertyChange: up to 100 of them in one request. Each holds one property, and
# never the whole contact. contact.privacyDeletion and everything else make no customer.

# Milliseconds as RFC 3339. Through a fraction of a second one would be lost here and there.
def time: (. / 1000 | floor | todate | rtrimstr("Z")) + "." + ("00\(. % 1000)" | .[-3:]) + "Z";

# Names of HubSpot's, and what Segment calls them. Segment reserves address, company, age and birthday for values of other
# types than HubSpot's texts.
def trait($name; $value):
  if $name == "createdate" then { createdAt: ($value | if . == "" then . else tonumber | time end) }
  else {
    ({
      firstname: "firstName", lastname: "lastName", jobtitle: "title", zip: "postalCode",
      address: "street", company: "companyName", age: "statedAge", birthday: "statedBirthday"
    }[$name] // $name): $value
  } end;

# The order in the request is not that of the changes.
sort_by(.occurredAt)[]
| select(.subscriptionType | IN("contact.creation", "contact.propertyChange"))
| {
    userId: "hubspot-\(.objectId)",
    # HubSpot's own id of the event need not be unique. A retry has the same four.
    messageId: "hubspot-\(.portalId)-\(.eventId)-\(.objectId)-\(.occurredAt)",
    timestamp: (.occurredAt | time),
    traits: (
      if .subscriptionType == "contact.creation" then { createdAt: (.occurredAt | time) }
      else trait(.propertyName; .propertyValue) end
    )
  }
