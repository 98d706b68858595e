-- enumerated values of a period that no rule knows: the commonest of each kind first
-- result: kind (varchar: status, risk, decision, audit, role), value (varchar, normal form; null where the source has none),
--   rows (bigint, with this value), kind_rows (bigint, of the kind), kind_values (bigint, distinct of the kind); at most $size
--   values of each kind
-- window: [$start, $end) for actions and audit events, naive utc; users of any time; a missing decision is none
-- scope: one organization
with spelled as (
    select
        'status' as kind,
        normal_status as value,
        count(*) as rows
    from agent_actions
    where
        organization_id = $organization_id
        and event_at >= $start
        and event_at < $end
    group by value
    union all
    select
        'risk',
        risk_level,
        count(*)
    from agent_actions
    where
        organization_id = $organization_id
        and event_at >= $start
        and event_at < $end
        and not coalesce(risk in ('low', 'medium', 'high', 'critical'), false)
    group by risk_level
    union all
    select
        'decision',
        decision,
        count(*)
    from agent_actions
    where
        organization_id = $organization_id
        and event_at >= $start
        and event_at < $end
        and decision is not null
    group by decision
    union all
    select
        'audit',
        normal_action,
        count(*)
    from audit_logs
    where
        organization_id = $organization_id
        and created_at >= $start
        and created_at < $end
    group by normal_action
    union all
    select
        'role',
        role,
        count(*)
    from users
    where
        organization_id = $organization_id
        and is_active is distinct from false
    group by role
),

counted as (
    select
        kind,
        nullif(lower(trim(value, $white_space)), '') as value,
        sum(rows)::bigint as rows
    from spelled
    group by all
),

known as (
    select
        unnest($known_kinds::varchar[]) as kind,
        unnest($known_values::varchar[]) as value
)

select
    kind,
    value,
    rows,
    sum(rows) over (partition by kind)::bigint as kind_rows,
    count(*) over (partition by kind) as kind_values
from counted anti join known using (kind, value)
qualify row_number() over (partition by kind order by rows desc, value) <= $size
order by kind, rows desc, value
