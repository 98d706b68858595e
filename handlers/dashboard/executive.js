// The executive view: four key figures with their trend, growth and use, achievements, focus and insights. For admins.
import { API } from "./api.js";
import { byId, el, fact, fill, name, stateBadge } from "./elements.js";
import { Panel, empty } from "./panel.js";
import { table } from "./outlook.js";
import { count, date, decimal, percent, rate } from "./words.js";
import { zone } from "./zone.js";

const TRENDS = { improving: ["▲ improving", "good"], stable: ["→ stable", "quiet"], declining: ["▼ declining", "bad"] };
const GROWTH = { positive: ["▲ growing", "good"], stable: ["→ stable", "quiet"], negative: ["▼ shrinking", "watch"] };
const GRADES = { excellent: "good", good: "good", fair: "watch", poor: "bad", no_data: "quiet" };
const PRIORITIES = { critical: "bad", high: "bad", medium: "watch", low: "quiet" };
const FORMATS = ["csv", "pdf"];

export const executivePath = (days, format = null) =>
  `${API}/executive/dashboard?days=${days}&tz=${encodeURIComponent(zone.current)}${format ? `&format=${format}` : ""}`;

export function followExecutive(feed, days) {
  const links = () => {
    for (const format of FORMATS) byId(`executive-${format}`).href = executivePath(days.current, format);
  };
  links();
  days.addEventListener("change", links);
  zone.addEventListener("change", links);
  new Panel("panel-executive").follow(feed, render);
}

// For those who may not see it, and come by an old address.
export function refuseExecutive() {
  byId("executive-tools").hidden = true;
  byId("executive-health").parentElement.hidden = true;
  fill(byId("executive"), empty("The executive view is for administrators of the organization."));
  byId("panel-executive").removeAttribute("aria-busy");
  byId("executive-more").hidden = true;
}

function render(report) {
  const { executive_kpis: kpis, business_metrics: business, executive_summary: summary } = report;
  const { platform_health: platform, security_posture: security, operational_efficiency: efficiency, compliance_status: compliance } = kpis;
  fill(
    byId("executive-period"),
    date(report.data_period.start_date),
    " to ",
    date(report.data_period.end_date),
    ", compared with the days before",
  );
  fill(
    byId("executive"),
    figure("Platform health", platform.score, TRENDS[platform.trend], [
      ["Actions", count(platform.total_actions)],
      ["Succeeded, of those that finished", percent(platform.success_rate)],
      ["Grade", stateBadge(platform.status, GRADES[platform.status])],
    ]),
    figure("Security posture", security.score, TRENDS[security.trend], [
      ["Critical", count(security.critical_issues)],
      ["High risk", count(security.high_risk_actions)],
      ["Medium risk", count(security.medium_risk_actions)],
    ]),
    figure("Operational efficiency", efficiency.score, null, [
      ["Decided without a person", rate(efficiency.automation_rate)],
      ["Decided by a person", count(efficiency.manual_interventions)],
      ["Waiting now", count(efficiency.pending_actions)],
    ]),
    figure("Compliance", compliance.score, null, [
      ["Violations", count(compliance.violations)],
      ["Waiting for review", count(compliance.pending_reviews)],
      ["Compliance events", count(compliance.compliance_actions)],
    ]),
  );
  fill(byId("executive-health"), stateBadge(summary.overall_health, GRADES[summary.overall_health]));
  fill(byId("achievements"), sentences(summary.key_achievements, "None in this period."));
  fill(byId("focus"), sentences(summary.areas_of_focus, "Nothing in particular."));
  fill(
    byId("business"),
    fact("People", count(business.user_growth.current_users), " ", stateBadge(...GROWTH[business.user_growth.trend])),
    fact("Active", count(business.user_growth.active_users)),
    fact("Growth in the period", rate(business.user_growth.growth_rate)),
    fact("New this week", count(business.user_growth.new_users_this_week)),
    fact("Actions a day, mean", decimal(business.system_utilization.avg_actions_per_day)),
    fact("Busiest day", count(business.system_utilization.peak_day_actions)),
    fact("Next review", date(report.next_review_date)),
  );
  fill(
    byId("insights"),
    report.strategic_insights.length
      ? table(
          "Strategic insights",
          ["Insight", "Priority", "Action", "From"],
          report.strategic_insights.map((insight) => [
            name(insight.insight),
            stateBadge(insight.priority, PRIORITIES[insight.priority] ?? "quiet"),
            name(insight.action),
            name(insight.data_source.replaceAll("_", " ")),
          ]),
        )
      : empty("No insight in this period."),
  );
  fill(byId("caveats"), (report.meta.caveats ?? []).map((text) => el("p", { class: "note" }, text)));
}

function figure(title, score, trend, facts) {
  const bar = el("span", { class: "figure-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.min(1, Math.max(0, score / 100))));
  return el(
    "article",
    { class: "figure", "data-tone": score >= 85 ? "good" : score >= 75 ? "watch" : "bad" },
    el("h3", {}, title),
    el("p", { class: "figure-score" }, el("strong", {}, decimal(score)), el("span", { class: "soft" }, " of 100 "), trend ? stateBadge(...trend) : null),
    bar,
    el("dl", { class: "facts" }, facts.map(([term, value]) => fact(term, value))),
  );
}

function sentences(texts, nothing) {
  return texts.length ? el("ul", { class: "items" }, texts.map((text) => el("li", {}, name(text)))) : empty(nothing);
}
