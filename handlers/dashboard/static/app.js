// Puts the page together: who is signed in, what is asked and how often, what shows it.
import { followAttention, followOutlook } from "./forecast.js";
import { leave, showAccount, whoIsSignedIn } from "./account.js";
import { Actions } from "./latest-actions.js";
import { API } from "./api.js";
import { Backoff } from "./backoff.js";
import { Connection } from "./connection-status.js";
import { Days } from "./period-choice.js";
import { byId, fill } from "./elements.js";
import { executivePath, followExecutive, refuseExecutive } from "./executive.js";
import { Feed } from "./poller.js";
import { followFreshness, followSyncPanel } from "./sync-status.js";
import { followHealthSummary, followSystem } from "./telemetry.js";
import { Live } from "./live-connection.js";
import { Navigation } from "./navigation.js";
import { problemWords } from "./panel.js";
import { followRanking } from "./ranking.js";
import { RiskChart } from "./risk-chart.js";
import { Tiles } from "./tiles.js";
import { zone } from "./time-zone.js";

const SECONDS = { live: 10, asking: 5 }; // between two questions for numbers, with and without the live connection
const PAUSE_MILLISECONDS = 1000; // at the least between two questions that live updates bring about

function start(account) {
  const days = new Days(byId("days"), 14);
  const reportDays = new Days(byId("executive-days"), 30);
  const tz = () => encodeURIComponent(zone.current);
  const realtime = new Feed(() => `${API}/realtime/metrics`, SECONDS.live);
  const trends = new Feed(() => `${API}/trends?days=${days.current}&tz=${tz()}`, SECONDS.live);
  const outlook = new Feed(() => `${API}/predictive/trends`, 120);
  const performance = new Feed(() => `${API}/performance`, SECONDS.live);
  const readiness = new Feed(() => "/readyz", 5);
  const executive = new Feed(() => executivePath(reportDays.current), 120);
  const feeds = [realtime, trends, outlook, performance, readiness, executive];
  const live = account.live_path ? new Live(account.live_path, account.live_seconds) : null;

  const tiles = new Tiles();
  const connection = new Connection(live, [realtime, trends]);
  new RiskChart(trends, outlook);
  new Actions(trends);
  followRanking(trends, "agents", (body) => body.top_agents.map((row) => [row.agent, row.count]), "No agent has acted in these days.");
  followRanking(trends, "tools", (body) => body.top_tools.map((row) => [row.tool, row.count]), "No tool has been used in these days.");
  followAttention(outlook);
  followOutlook(outlook);
  followHealthSummary(realtime);
  followSystem(realtime, performance);
  followFreshness(readiness);
  followSyncPanel(readiness);

  realtime.addEventListener("answer", () => {
    if (realtime.body) {
      tiles.fromRealtime(realtime.body);
      byId("activity").textContent = realtime.body.real_time_overview.status?.message ?? "";
    }
  });
  trends.addEventListener("answer", () => trends.body && tiles.fromTrends(trends.body));
  for (const feed of feeds) {
    feed.addEventListener("answer", () => {
      if (feed.problem?.status === 401) document.dispatchEvent(new Event("signed-out"));
      if (feed.problem?.parameter === "tz") zone.refuse();
      if (feed.mock) showDemo();
    });
  }

  const calm = onceIn(PAUSE_MILLISECONDS, () => {
    realtime.refresh();
    trends.refresh();
  });
  live?.addEventListener("update", ({ detail }) => {
    if (tiles.fromLive(detail) && !document.hidden) calm();
  });
  live?.addEventListener("state", () => {
    const seconds = live.state === "open" ? SECONDS.live : SECONDS.asking;
    for (const feed of [realtime, trends]) feed.every(seconds);
    if (live.state === "waiting") realtime.refresh(); // is it the live connection alone, or the server?
    if (live.state === "open") for (const feed of feeds) if (feed.problem) feed.refresh();
  });

  days.addEventListener("change", () => trends.reset());
  zone.addEventListener("change", () => {
    document.dispatchEvent(new Event("redraw"));
    trends.reset();
    if (account.admin) executive.reset();
    connection.show();
  });

  const navigation = new Navigation(["overview", "outlook", "system", "executive"]);
  if (account.admin) {
    byId("item-executive").hidden = false;
    followExecutive(executive, reportDays);
    reportDays.addEventListener("change", () => executive.reset());
  } else {
    refuseExecutive();
  }
  navigation.addEventListener("view", () => {
    toggle(executive, account.admin && navigation.current === "executive");
    toggle(performance, navigation.current === "system");
  });

  document.addEventListener("leaving", () => {
    live?.close();
    for (const feed of feeds) feed.stop();
  });
  let left = false;
  document.addEventListener("signed-out", () => {
    if (left) return;
    left = true;
    document.dispatchEvent(new Event("leaving"));
    leave("ended");
  });

  navigation.start();
  for (const feed of [realtime, trends, outlook, readiness]) feed.start();
  live?.connect();
  document.documentElement.dataset.ready = "true";
}

function toggle(feed, wanted) {
  if (wanted) feed.start();
  else feed.stop();
}

function showDemo() {
  byId("demo").hidden = false;
}

// Calls `work` at once, and for calls within the pause once more at its end.
function onceIn(milliseconds, work) {
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

// Who is signed in; asked until the server answers. The page never loads itself again: without a server, a browser would put its
// own error page in its place, for good.
async function account() {
  const backoff = new Backoff(2000, 30_000);
  for (;;) {
    try {
      const found = await whoIsSignedIn();
      byId("startup-error").hidden = true;
      return found;
    } catch (problem) {
      byId("startup-error").hidden = false;
      fill(byId("startup-error-text"), ...problemWords(problem));
      await pause(problem.retrySeconds ? problem.retrySeconds * 1000 : backoff.next());
    }
  }
}

// Over when the time is, or when the browser has a network again.
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
    leave("please");
    return;
  }
  showAccount(found);
  start(found);
}

begin();
