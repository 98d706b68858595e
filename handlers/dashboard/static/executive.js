// The Executive view, for admins: key figures with trends, users and activity, achievements, focus areas and insights.
import { API } from "./api.js";
import { byId, el, fact, fill, isolated, stateBadge } from "./elements.js";
import { Panel, empty } from "./panel.js";
import { table } from "./table.js";
import { count, date, decimal, noValue, percent, rate } from "./format.js";
import { zone } from "./time-zone.js";

const TRENDS = { improving: ["▲ improving", "good"], stable: ["→ stable", "neutral"], declining: ["▼ declining", "bad"] };
const GROWTH = { positive: ["▲ growing", "good"], stable: ["→ stable", "neutral"], negative: ["▼ shrinking", "warning"] };
const GRADES = { excellent: "good", good: "good", fair: "warning", poor: "bad", no_data: "neutral" };
const PRIORITIES = { critical: "bad", high: "bad", medium: "warning", low: "neutral" };
// A response without `meta.measured` has measured every figure.
const MEASURED = Object.fromEntries(
  ["platform_health", "security_posture", "operational_efficiency", "compliance_status", "platform_health_trend", "security_posture_trend", "growth_rate"].map(
    (figure) => [figure, true],
  ),
);
const NOTHING_TO_COMPARE = ["no earlier data", "neutral"];
const FILES = { csv: "csv", "csv-days": "csv&table=days", pdf: "pdf" };
// Spreadsheets in locales with a decimal comma expect semicolons between columns.
const LOCALE_DECIMAL = (1.5).toLocaleString().includes(",") ? "comma" : "point";

export const executivePath = (days, format = null) =>
  `${API}/executive/dashboard?days=${days}&tz=${encodeURIComponent(zone.current)}${format ? `&format=${format}` : ""}${format?.startsWith("csv") ? `&decimal=${byId("executive-decimal").value}` : ""}`;

export function showExecutiveView(poller, days) {
  const links = () => {
    for (const [file, format] of Object.entries(FILES)) byId(`executive-${file}`).href = executivePath(days.current, format);
  };
  byId("executive-decimal").value = LOCALE_DECIMAL;
  byId("executive-decimal").addEventListener("change", links);
  links();
  days.addEventListener("change", links);
  zone.addEventListener("change", links);
  new Panel("panel-executive").follow(poller, render);
}

// For viewers who are not admins and open the address of this view.
export function showAdminsOnly() {
  byId("executive-tools").hidden = true;
  byId("executive-health").parentElement.hidden = true;
  fill(byId("executive"), empty("The Executive view is available to admins only."));
  byId("panel-executive").removeAttribute("aria-busy");
  byId("executive-more").hidden = true;
}

function render(report) {
  const { executive_kpis: kpis, business_metrics: business, executive_summary: summary } = report;
  const { platform_health: platform, security_posture: security, operational_efficiency: efficiency, compliance_status: compliance } = kpis;
  const { measured = MEASURED, has_activity: active } = report.meta;
  const comparable = measured.platform_health_trend || measured.security_posture_trend;
  const scored = (isMeasured, score) => (isMeasured ? score : null);
  const compared = (isMeasured, trend) => (isMeasured ? TRENDS[trend] : active ? NOTHING_TO_COMPARE : null);
  fill(
    byId("executive-period"),
    date(report.data_period.start_date),
    " to ",
    date(report.data_period.end_date),
    comparable ? ", compared with the previous period" : ", no earlier period to compare",
  );
  byId("executive-organization").textContent = report.meta.organization_name ?? "";
  fill(
    byId("executive"),
    figure("Platform health", scored(measured.platform_health, platform.score), active, compared(measured.platform_health_trend, platform.trend), [
      ["Actions", count(platform.total_actions)],
      ["Success rate", percent(scored(measured.platform_health, platform.success_rate))],
      ["Status", stateBadge(gradeWords(platform.status), GRADES[platform.status])],
    ]),
    figure("Security posture", scored(measured.security_posture, security.score), active, compared(measured.security_posture_trend, security.trend), [
      ["Critical", count(security.critical_issues)],
      ["High risk", count(security.high_risk_actions)],
      ["Medium risk", count(security.medium_risk_actions)],
    ]),
    figure("Operational efficiency", scored(measured.operational_efficiency, efficiency.score), active, null, [
      ["Automated decisions", rate(scored(measured.operational_efficiency, efficiency.automation_rate))],
      ["Manual decisions", count(scored(measured.operational_efficiency, efficiency.manual_interventions))],
      ["Pending approval, total", count(efficiency.pending_actions)],
    ]),
    figure("Compliance", scored(measured.compliance_status, compliance.score), active, null, [
      ["Without a recorded decision", count(compliance.violations)],
      ["Pending approval, total", count(compliance.pending_reviews)],
      ["Review events", count(compliance.compliance_actions)],
    ]),
  );
  fill(byId("executive-health"), stateBadge(gradeWords(summary.overall_health), GRADES[summary.overall_health]));
  fill(byId("achievements"), sentences(summary.key_achievements, "None in this period."));
  fill(byId("focus"), sentences(summary.areas_of_focus, "None."));
  fill(
    byId("business"),
    fact("Users", count(business.user_growth.current_users), " ", measured.growth_rate ? stateBadge(...GROWTH[business.user_growth.trend]) : null),
    fact("Active users", count(business.user_growth.active_users)),
    fact("User growth", measured.growth_rate ? rate(business.user_growth.growth_rate) : NOTHING_TO_COMPARE[0]),
    fact("New this week", count(business.user_growth.new_users_this_week)),
    fact("Daily average", active ? decimal(business.system_utilization.avg_actions_per_day) : noValue()),
    fact("Peak day", count(business.system_utilization.peak_day_actions)),
    fact("Next review", date(report.next_review_date)),
  );
  fill(
    byId("insights"),
    report.strategic_insights.length
      ? table(
          "Strategic insights",
          ["Insight", "Priority", "Action", "Source"],
          report.strategic_insights.map((insight) => [
            isolated(insight.insight),
            stateBadge(insight.priority, PRIORITIES[insight.priority] ?? "neutral"),
            isolated(insight.action),
            isolated(insight.data_source.replaceAll("_", " ")),
          ]),
        )
      : empty("No insights in this period."),
  );
  const caveats = report.meta.caveats ?? [];
  byId("section-limitations").hidden = caveats.length === 0;
  fill(byId("limitations"), caveats.map((text) => el("p", { class: "note" }, isolated(text))));
}

const gradeWords = (grade) => (grade === "no_data" ? "No data yet" : grade);

// `score` is null where it was not measured; the neutral value of the response is not shown.
function figure(title, score, active, trend, facts) {
  const bar = el("span", { class: "figure-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.min(1, Math.max(0, (score ?? 0) / 100))));
  const shown =
    score === null
      ? [el("span", { class: "muted" }, active ? "Not measured" : "No data yet")]
      : [el("strong", {}, decimal(score)), el("span", { class: "muted" }, " / 100 "), trend ? stateBadge(...trend) : null];
  return el(
    "article",
    { class: "figure", "data-tone": score === null ? "neutral" : score >= 85 ? "good" : score >= 75 ? "warning" : "bad" },
    el("h3", {}, title),
    el("p", { class: "figure-score" }, shown),
    bar,
    el("dl", { class: "facts" }, facts.map(([term, value]) => fact(term, value))),
  );
}

function sentences(texts, nothing) {
  return texts.length ? el("ul", { class: "items" }, texts.map((text) => el("li", {}, isolated(text)))) : empty(nothing);
}
