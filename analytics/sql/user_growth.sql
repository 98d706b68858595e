-- users of an organization: how many there are, were, are new, were active in the period
-- result: one row of bigint: current_users (active flag not false), earlier_users, new_users (active flag not false, created
-- since $week_start), active_users (any flag; login, or audit event under this organization, in [$start, $end))
-- earlier_users: created before $start and still there, or switched off since (a login at or after $start shows that); a user
-- without a creation time counts as an earlier one; times naive utc
-- scope: one organization, $org
with people as (
    select
        id,
        created_at,
        is_active is distinct from false as current,
        coalesce(last_login >= $start, false) as seen_since,
        coalesce(last_login >= $start and last_login < $end, false) as login
    from users
    where organization_id = $org
)

select
    count(*) filter (current) as current_users,
    count(*) filter ((created_at is null or created_at < $start) and (current or seen_since)) as earlier_users,
    count(*) filter (current and created_at >= $week_start and created_at < $end) as new_users,
    count(*) filter (
        login
        or id in (
            select user_id
            from audit_logs
            where organization_id = $org and created_at >= $start and created_at < $end
        )
    ) as active_users
from people
