-- one user of the platform, or no row
-- result: id, organization_id (bigint, null: platform staff), email, role (varchar), active (boolean),
--   last_logout (timestamp, naive utc)
-- scope: across organizations, because who is asking is settled before whose numbers are shown
select
    id,
    organization_id,
    email,
    role,
    is_active is distinct from false and is_suspended is distinct from true as active,
    last_logout
from users
where id = $user_id
