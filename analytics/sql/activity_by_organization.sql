-- what live numbers are made of, for every organization at once, to see whose have changed
-- result: organization_id, actions, high_risk, agents (distinct), people (all bigint); organizations without any are left out
-- window: [$since, end of time), naive utc; false positives count only where $count_false_positives
-- scope: across organizations: the counts are compared with earlier ones of the same organization and never shown
select
    organization_id,
    sum(actions)::bigint as actions,
    sum(high_risk)::bigint as high_risk,
    sum(agents)::bigint as agents,
    sum(people)::bigint as people
from (
    select
        organization_id,
        count(*) as actions,
        count(*) filter (
            risk in ('high', 'critical')
            and ($count_false_positives or not false_positive)
        ) as high_risk,
        count(distinct agent_id) as agents,
        0 as people
    from agent_actions
    where event_at >= $since
    group by organization_id
    union all
    select organization_id, 0, 0, 0, count(distinct person)
    from (
        select organization_id, user_id as person
        from audit_logs
        where created_at >= $since
        union all
        select organization_id, id
        from users
        where last_login >= $since
    )
    group by organization_id
)
where organization_id is not null
group by organization_id
