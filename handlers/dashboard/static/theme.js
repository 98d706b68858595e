// Light or dark, decided before the first paint. A classic script for that reason; everything else is a module.
(() => {
  const KEY = "owkai.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let choice = "auto";
  try {
    choice = localStorage.getItem(KEY) ?? "auto";
  } catch {
    // storage may be switched off; the system's choice holds then
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
        // holds for this visit alone
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
