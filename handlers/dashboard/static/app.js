// Composes the page: the account, the pollers and their intervals, the views.
import { Acknowledgement } from "./anomalies.js";
import { showAttention, showForecastView } from "./forecast.js";
import { goToSignIn, showAccount, fetchAccount } from "./account.js";
import { LatestActions } from "./latest-actions.js";
import { API } from "./api.js";
import { Backoff } from "./backoff.js";
import { ConnectionStatus } from "./connection-status.js";
import { PeriodChoice } from "./period-choice.js";
import { byId, fill } from "./elements.js";
import { executivePath, showExecutiveView, showAdminsOnly } from "./executive.js";
import { Poller } from "./poller.js";
import { showSyncStatus, showSyncPanel } from "./sync-status.js";
import { showHealthSummary, showSystemView } from "./telemetry.js";
import { LiveConnection } from "./live-connection.js";
import { Navigation } from "./navigation.js";
import { errorMessage } from "./panel.js";
import { showRanking } from "./ranking.js";
import { RiskChart } from "./risk-chart.js";
import { Tiles } from "./tiles.js";
import { zone } from "./time-zone.js";

const SECONDS = { live: 10, polling: 5 }; // between two requests, with and without the live connection
const PAUSE_MILLISECONDS = 1000; // minimum between two requests caused by live updates

function start(account) {
  const days = new PeriodChoice(byId("days"), 14);
  const reportDays = new PeriodChoice(byId("executive-days"), 30);
  const tz = () => encodeURIComponent(zone.current);
  const realtime = new Poller(() => `${API}/realtime/metrics`, SECONDS.live);
  const trends = new Poller(() => `${API}/trends?days=${days.current}&tz=${tz()}`, SECONDS.live);
  const forecast = new Poller(() => `${API}/predictive/trends`, 120);
  const performance = new Poller(() => `${API}/performance`, SECONDS.live);
  const readiness = new Poller(() => "/readyz", 5);
  const executive = new Poller(() => executivePath(reportDays.current), 120);
  const pollers = [realtime, trends, forecast, performance, readiness, executive];
  const live = account.live_path ? new LiveConnection(account.live_path, account.live_seconds) : null;

  const tiles = new Tiles();
  const connection = new ConnectionStatus(live, [realtime, trends]);
  new RiskChart(trends, forecast);
  new LatestActions(trends);
  showRanking(trends, "agents", (body) => body.top_agents.map((row) => [row.agent, row.count]), "No agent activity in this period.");
  showRanking(trends, "tools", (body) => body.top_tools.map((row) => [row.tool, row.count]), "No tool use in this period.");
  const acknowledgement = new Acknowledgement(account.may_acknowledge === true, () => forecast.refresh());
  showAttention(forecast, acknowledgement);
  showForecastView(forecast, acknowledgement);
  showHealthSummary(realtime);
  showSystemView(realtime, performance);
  showSyncStatus(readiness);
  showSyncPanel(readiness);

  realtime.addEventListener("response", () => {
    if (realtime.body) {
      tiles.fromRealtime(realtime.body);
      byId("activity").textContent = activityText(realtime.body.real_time_overview.status);
    }
  });
  trends.addEventListener("response", () => trends.body && tiles.fromTrends(trends.body));
  for (const poller of pollers) {
    poller.addEventListener("response", () => {
      if (poller.error?.status === 401) document.dispatchEvent(new Event("signed-out"));
      if (poller.error?.parameter === "tz") zone.refuse();
      if (poller.mock) showDemo();
    });
  }

  const refreshSoon = throttled(PAUSE_MILLISECONDS, () => {
    realtime.refresh();
    trends.refresh();
  });
  live?.addEventListener("update", ({ detail }) => {
    if (tiles.fromLive(detail) && !document.hidden) refreshSoon();
  });
  live?.addEventListener("state", () => {
    const seconds = live.state === "open" ? SECONDS.live : SECONDS.polling;
    for (const poller of [realtime, trends]) poller.every(seconds);
    if (live.state === "waiting") realtime.refresh(); // distinguishes a lost live connection from an unreachable server
    if (live.state === "open") for (const poller of pollers) if (poller.error) poller.refresh();
  });

  days.addEventListener("change", () => trends.reset());
  zone.addEventListener("change", () => {
    document.dispatchEvent(new Event("redraw"));
    trends.reset();
    if (account.admin) executive.reset();
    connection.show();
  });

  const navigation = new Navigation(["overview", "forecast", "system", "executive"]);
  if (account.admin) {
    byId("item-executive").hidden = false;
    showExecutiveView(executive, reportDays);
    reportDays.addEventListener("change", () => executive.reset());
  } else {
    showAdminsOnly();
  }
  navigation.addEventListener("view", () => {
    toggle(executive, account.admin && navigation.current === "executive");
    toggle(performance, navigation.current === "system");
  });

  document.addEventListener("leaving", () => {
    live?.close();
    for (const poller of pollers) poller.stop();
  });
  let left = false;
  document.addEventListener("signed-out", () => {
    if (left) return;
    left = true;
    document.dispatchEvent(new Event("leaving"));
    goToSignIn("ended");
  });

  navigation.start();
  for (const poller of [realtime, trends, forecast, readiness]) poller.start();
  live?.connect();
  document.documentElement.dataset.ready = "true";
}

function toggle(poller, wanted) {
  if (wanted) poller.start();
  else poller.stop();
}

// Time since the last action; while there is recent activity, the "Live" badge is enough.
function activityText(status) {
  return status?.has_data ? "" : (status?.message ?? "");
}

function showDemo() {
  byId("demo").hidden = false;
}

// Runs `work` at once; calls during the pause run it once more at the end of the pause.
function throttled(milliseconds, work) {
  let timer = null;
  let again = false;
  return function call() {
    if (timer !== null) {
      again = true;
      return;
    }
    work();
    timer = setTimeout(() => {
      timer = null;
      if (again) {
        again = false;
        call();
      }
    }, milliseconds);
  };
}

// The account, requested until the server responds. The page never reloads itself: without a server, the browser would replace it
// with an error page for good.
async function account() {
  const backoff = new Backoff(2000, 30_000);
  for (;;) {
    try {
      const found = await fetchAccount();
      byId("startup-error").hidden = true;
      return found;
    } catch (error) {
      byId("startup-error").hidden = false;
      fill(byId("startup-error-text"), ...errorMessage(error));
      await pause(error.retrySeconds ? error.retrySeconds * 1000 : backoff.next());
    }
  }
}

// Ends after the given time or when the browser is online again.
function pause(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
    addEventListener("online", resolve, { once: true });
  });
}

async function begin() {
  zone.connect(byId("zone"));
  const found = await account();
  if (found === null) {
    goToSignIn("please");
    return;
  }
  showAccount(found);
  start(found);
}

begin();
