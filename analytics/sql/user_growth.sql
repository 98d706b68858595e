-- users of an organization: how many there are, were, are new, were active in the period
-- result: one row: current_users (active flag not false), earlier_users, new_users (current, created since $week_start),
-- active_users (current, with a login, or an audit event under this organization, in [$start, $end)) (all bigint),
-- first_created (timestamp, of any user; null where none has one)
-- earlier_users: created before $growth_start and still there, or switched off since (a login at or after $growth_start shows
-- that); a user without a creation time counts as an earlier one; times naive utc
-- scope: one organization
with people as (
    select
        id,
        created_at,
        is_active is distinct from false as current,
        coalesce(last_login >= $growth_start, false) as seen_since,
        coalesce(last_login >= $start and last_login < $end, false) as login
    from users
    where organization_id = $organization_id
)

select
    count(*) filter (current) as current_users,
    count(*) filter ((created_at is null or created_at < $growth_start) and (current or seen_since)) as earlier_users,
    count(*) filter (current and created_at >= $week_start and created_at < $end) as new_users,
    count(*) filter (
        current
        and (
            login
            or id in (
                select user_id
                from audit_logs
                where organization_id = $organization_id and created_at >= $start and created_at < $end
            )
        )
    ) as active_users,
    min(created_at) filter (created_at >= timestamp '0001-01-01' and isfinite(created_at)) as first_created
from people
