// Light or dark theme, set before the first paint. That takes a classic script; all other scripts are modules.
(() => {
  const KEY = "owkai.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let choice = "auto";
  try {
    choice = localStorage.getItem(KEY) ?? "auto";
  } catch {
    // without storage, the theme of the system applies
  }

  const apply = (forced) => {
    const theme = forced ?? (choice === "auto" ? (dark.matches ? "dark" : "light") : choice);
    if (document.documentElement.dataset.theme !== theme) {
      document.documentElement.dataset.theme = theme;
      document.dispatchEvent(new Event("theme"));
    }
  };

  const connect = (select) => {
    select.value = choice;
    select.addEventListener("change", () => {
      choice = select.value;
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // applies to this visit only
      }
      apply();
    });
  };

  if (!["auto", "light", "dark"].includes(choice)) choice = "auto";
  apply();
  dark.addEventListener("change", () => apply());
  addEventListener("beforeprint", () => apply("light")); // paper is white
  addEventListener("afterprint", () => apply());
  addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-theme-choice]").forEach(connect));
})();
