-- the api keys whose prefix is one of $prefixes, by id
-- result: id, user_id, organization_id (bigint), key_hash, salt, key_prefix (varchar), active (boolean),
--   expires_at (timestamp, naive utc)
-- scope: all organizations, because who is asking is settled before whose numbers are shown
select
    id,
    user_id,
    organization_id,
    key_hash,
    salt,
    key_prefix,
    is_active is distinct from false and revoked_at is null as active,
    expires_at
from api_keys
where list_contains($prefixes::varchar[], key_prefix)
order by id
