-- several users of the platform at once
-- result: id, organization_id (bigint, null: platform staff), email, role (varchar), active (boolean),
--   last_logout (timestamp, naive utc)
-- $user_ids: numbers with commas between them; as one text, because a list of ten thousand takes seconds to bind
-- scope: across organizations, because who is asking is settled before whose numbers are shown
select
    id,
    organization_id,
    email,
    role,
    is_active is distinct from false and is_suspended is distinct from true as active,
    last_logout
from users
where id in (select unnest(string_split($user_ids, ',')::bigint[]))
