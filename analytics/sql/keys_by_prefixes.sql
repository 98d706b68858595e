-- the api keys of several callers at once, by id
-- result: id, user_id, organization_id (bigint), key_hash, salt, key_prefix (varchar), active (boolean),
--   expires_at (timestamp, naive utc)
-- $prefixes: with line ends between them; as one text, because a list of ten thousand takes seconds to bind
-- scope: across organizations, because who is asking is settled before whose numbers are shown
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
where key_prefix in (select unnest(string_split($prefixes, chr(10))))
order by id
