// The tiles of the overview. Live updates change the first four; responses of the API change all.
import { byId, fill } from "./elements.js";
import { count, known } from "./format.js";

const TILES = ["actions", "risks", "agents", "users", "pending", "day"];

export class Tiles {
  #shown = {};

  fromLive(update) {
    const { metrics } = update;
    return this.#show({
      actions: metrics.recent_actions_last_hour,
      risks: metrics.high_risk_actions_last_hour,
      agents: metrics.active_agents_last_hour,
      users: metrics.active_users,
    });
  }

  fromRealtime(body) {
    const overview = body.real_time_overview;
    this.#show({
      actions: overview.total_actions_last_hour,
      risks: overview.recent_high_risk_actions,
      agents: overview.active_agents,
      users: overview.active_sessions,
      day: overview.actions_last_24h,
    });
  }

  fromTrends(body) {
    this.#show({ pending: body.pending_actions_count });
  }

  // Show the values; return whether any number changed.
  #show(values) {
    let changed = false;
    for (const tile of TILES) {
      if (!(tile in values) || values[tile] === this.#shown[tile]) continue;
      const value = byId(`tile-${tile}`);
      const before = this.#shown[tile];
      this.#shown[tile] = values[tile];
      fill(value, count(values[tile]));
      if (known(before)) {
        changed = true;
        this.#mark(value.closest(".tile"), values[tile] - before);
      }
    }
    byId("tile-box-risks").toggleAttribute("data-alarm", this.#shown.risks > 0);
    byId("tile-box-pending").toggleAttribute("data-alarm", this.#shown.pending > 0);
    return changed;
  }

  #mark(tile, difference) {
    tile.dataset.moved = difference > 0 ? "up" : "down";
    setTimeout(() => delete tile.dataset.moved, 1600);
  }
}
