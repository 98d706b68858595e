// The choice of a period in days: radio buttons, for standard behavior with the keyboard and screen readers.
export class PeriodChoice extends EventTarget {
  constructor(fieldset, chosen) {
    super();
    this.current = chosen;
    for (const radio of fieldset.querySelectorAll("input[type=radio]")) {
      radio.checked = Number(radio.value) === chosen;
      radio.addEventListener("change", () => {
        this.current = Number(radio.value);
        this.dispatchEvent(new Event("change"));
      });
    }
  }
}
