-- The platform's tables as its models and migrations create them: the four that the server reads, and organizations.
-- Runs on an empty database, in one execute, in schema public. Row-level security, which one migration of the platform
-- switches on, is left off: the demo's sync role sees every row without BYPASSRLS.

create table public.organizations (
    id serial primary key,
    name varchar(255) not null,
    slug varchar(100) not null unique,
    subscription_tier varchar(50) not null default 'enterprise',
    subscription_status varchar(50) not null default 'active',
    owner_user_id integer,
    created_at timestamp without time zone not null default (now() at time zone 'utc'),
    updated_at timestamp without time zone
);

create table public.users (
    id serial primary key,
    email varchar(255) not null,
    password varchar(255),
    role varchar(50) default 'user',
    is_active boolean default true,
    created_at timestamp without time zone default (now() at time zone 'utc'),
    last_login timestamp without time zone,
    locked_until timestamp without time zone,
    password_last_changed timestamp without time zone,
    updated_at timestamp without time zone,
    suspended_at timestamp without time zone,
    last_logout timestamp without time zone,
    last_active_at timestamp without time zone,
    failed_login_attempts integer not null default 0,
    login_attempts integer not null default 0,
    is_locked boolean not null default false,
    force_password_change boolean not null default false,
    is_org_admin boolean not null default false,
    is_suspended boolean not null default false,
    mfa_enabled boolean not null default false,
    is_platform_user boolean not null default false,
    approval_level integer default 1,
    max_risk_approval integer default 50,
    is_emergency_approver boolean default false,
    cognito_user_id varchar(255) unique,
    organization_id integer references public.organizations (id), -- null: staff of the platform
    first_name varchar(100),
    last_name varchar(100),
    phone varchar(50),
    department varchar(100),
    job_title varchar(100),
    suspended_by integer,
    suspension_reason text,
    token_version integer not null default 0,
    scope varchar(20) not null default 'org',
    unique (organization_id, email)
);

create table public.agent_actions (
    id serial primary key,
    agent_id varchar(255) not null,
    action_type varchar(100) not null,
    description text,
    risk_level varchar(20),
    risk_score double precision,
    status varchar(20),
    approved boolean,
    created_at timestamp without time zone default (now() at time zone 'utc'),
    updated_at timestamp with time zone default now(),
    "timestamp" timestamp with time zone,
    reviewed_at timestamp with time zone,
    user_id integer references public.users (id),
    reviewed_by varchar(255),
    approved_by varchar(255),
    created_by varchar(255),
    tool_name varchar(255),
    summary text,
    recommendation text,
    nist_control varchar(255),
    nist_description text,
    mitre_tactic varchar(255),
    mitre_technique varchar(255),
    target_system varchar(255),
    target_resource varchar(255),
    organization_id integer not null references public.organizations (id),
    extra_data jsonb,
    approval_chain jsonb default '[]',
    is_false_positive boolean default false,
    requires_approval boolean default true,
    processing_time_ms integer,
    policy_risk_score integer,
    cvss_score double precision,
    cvss_severity varchar(20),
    cvss_vector varchar(255),
    policy_evaluated boolean default false,
    policy_decision varchar(50),
    decision varchar(50),
    risk_fusion_formula text,
    approval_level integer default 1,
    current_approval_level integer default 0,
    required_approval_level integer default 1,
    pending_approvers text,
    sla_deadline timestamp with time zone,
    workflow_id varchar(255),
    workflow_stage varchar(255),
    workflow_execution_id integer
);

create index ix_agent_actions_status on public.agent_actions (status);
create index ix_agent_actions_timestamp on public.agent_actions ("timestamp" desc);
create index ix_agent_actions_created_at on public.agent_actions (created_at desc);
create index ix_agent_actions_agent_id on public.agent_actions (agent_id);
create index ix_agent_actions_action_type on public.agent_actions (action_type);
create index ix_agent_actions_risk_level on public.agent_actions (risk_level);
create index ix_agent_actions_user_id on public.agent_actions (user_id);
create index ix_agent_actions_updated_at on public.agent_actions (updated_at);
create index ix_agent_actions_reviewed_at on public.agent_actions (reviewed_at);
create index ix_agent_actions_organization_id on public.agent_actions (organization_id);
create index ix_agent_actions_policy_evaluated on public.agent_actions (policy_evaluated);
create index ix_agent_actions_policy_decision on public.agent_actions (policy_decision);
create index ix_agent_actions_decision on public.agent_actions (decision);
create index ix_agent_actions_processing_time_ms on public.agent_actions (processing_time_ms);
create index ix_agent_actions_status_timestamp on public.agent_actions (status, "timestamp" desc);

create table public.audit_logs (
    id serial primary key,
    organization_id integer,
    user_id integer,
    action varchar(100) not null,
    resource_type varchar(100),
    resource_id varchar(255),
    details json,
    changes json,
    ip_address varchar(45),
    user_agent text,
    created_at timestamp without time zone not null default (now() at time zone 'utc'),
    risk_level varchar(20),
    compliance_impact varchar(100)
);

create index ix_audit_logs_organization_id on public.audit_logs (organization_id);
create index ix_audit_logs_user_id on public.audit_logs (user_id);
create index ix_audit_logs_created_at on public.audit_logs (created_at);

create table public.api_keys (
    id serial primary key,
    user_id integer not null references public.users (id) on delete cascade,
    organization_id integer not null references public.organizations (id) on delete cascade,
    key_hash varchar(64) not null unique, -- hex SHA-256 over the key's text followed by the salt's
    key_prefix varchar(40) not null, -- the key's first 32 characters; older rows: 16
    salt varchar(32) not null,
    name varchar(255),
    description text,
    is_active boolean default true,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    revoked_by integer,
    revoked_reason text,
    last_used_at timestamp with time zone,
    last_used_ip varchar(45),
    usage_count integer default 0,
    created_at timestamp with time zone default now(),
    updated_at timestamp with time zone default now()
);

create index ix_api_keys_key_prefix on public.api_keys (key_prefix);
create index ix_api_keys_user_id on public.api_keys (user_id);

-- The start of the transaction, not the time of the write: a transaction that commits late carries an old time.
create function public.touch_updated_at() returns trigger language plpgsql as $$
begin
    new.updated_at = now();
    return new;
end
$$;

create trigger agent_actions_updated_at before update on public.agent_actions
    for each row execute function public.touch_updated_at();

-- A level that comes without a score stays as it was written, in whatever case.
create function public.derive_risk_level() returns trigger language plpgsql as $$
begin
    if new.risk_score is not null then
        new.risk_level = case
            when new.risk_score >= 90 then 'critical'
            when new.risk_score >= 70 then 'high'
            when new.risk_score >= 40 then 'medium'
            else 'low'
        end;
    elsif new.risk_level is null then
        new.risk_level = case
            when new.action_type in ('system_configuration', 'user_provisioning', 'privilege_change', 'payment') then 'high'
            when new.action_type in ('data_export', 'database_write', 'file_write', 'network_call', 'email_send') then 'medium'
            else 'low'
        end;
    end if;
    return new;
end
$$;

create trigger agent_actions_risk_level before insert or update on public.agent_actions
    for each row execute function public.derive_risk_level();
