# Inserts and updates of the table public.profiles. The columns are those of your table: change their names here.
# Deletions make no customer.

# A column `timestamp` has no zone, and is read as UTC. `timestamptz` has one.
def utc: if type != "string" then null elif test("([Zz]|[+-][0-9]{2}:[0-9]{2})$") then . else . + "Z" end;

select((.type | IN("INSERT", "UPDATE")) and .schema == "public" and .table == "profiles")
| .record
| {
    userId: (.id | tostring),
    timestamp: (.updated_at | utc),
    traits: ({
      email, username, website,
      name: .full_name,
      avatar: .avatar_url,
      createdAt: (.created_at | utc)
    } | drop_nulls)
  }
